"""OHI back to its former version, eleven services and the site: by aws-cli scripts (ohi/) and by flow.

Both go back from the same deployment, which flow makes again before each of them; that is not timed.
Before the rounds both go once through a proxy that counts the requests to the AWS, the registry's and
those to the load balancer among them. Empties the sandbox.
"""
import subprocess
from pathlib import Path

import sandbox
from counter import Counter
from measure import Command, Contender, Failed, Missing, Peer, Stopwatch, Workload
from measure import build_clock, lacking, races, say, surroundings
from peers import ROOT

STAGES = {"back": "eleven services and the site back to the former version"}
NAMES = ("flow", "bash")
DEPLOY = ["run", "ohi/deploy", "--env", "sandbox", "--yes"]
BACK = ["rollback", "ohi/deploy", "--env", "sandbox", "--yes", "--to", "1"]
OHI = "tests/fixtures/ohi"


def workloads(flow: str, scale: float) -> list[Workload]:
    del scale
    return races("ohi", STAGES, ("git",), Race(flow).enter, rounds=3)


class Race:
    """One checkout and one deployment, from which both go back in turn."""

    def __init__(self, flow: str) -> None:
        self.flow = flow

    def enter(self, folder: Path, peers: dict[str, Peer | str]) -> list[Contender | Missing]:
        if missing := lacking(peers):
            return missing
        self.env = sandbox.up()
        sandbox.sandbox("tools")
        self.env = {**self.env, "SANDBOX_PASSPHRASE": "eine lange Losung"}
        self.env["PATH"] = f"{self.env['SANDBOX_TOOLS']}:{surroundings()['PATH']}"
        calls = {name: self.counted(folder / f"counted-{name}", name, Stopwatch(build_clock(folder))) for name in NAMES}
        endpoint = self.env["SANDBOX_ENDPOINT"]
        here = folder / "timed"
        self.deploy(here, endpoint)
        return [
            Contender(
                name,
                {"back": self.back(here, name, endpoint)},
                prepare=lambda stage: self.by_flow(here, DEPLOY),
                check=lambda stage: self.answers(endpoint, "1.0.0"),
                calls={"back": calls[name]},
            )
            for name in NAMES
        ]

    def counted(self, here: Path, name: str, watch: Stopwatch) -> int:
        counter = Counter(self.env["SANDBOX_ENDPOINT"])
        try:
            self.deploy(here, counter.address)
            before = counter.count
            watch.time(self.back(here, name, counter.address))
            calls = counter.count - before
        finally:
            counter.stop()
        say(f"ohi, back by {name}: {calls} requests")
        return calls

    def deploy(self, here: Path, endpoint: str) -> None:
        """The first version, then the second, into an empty sandbox."""
        sandbox.sandbox("reset")
        sandbox.copy(here, "flows", OHI, "scripts")
        sandbox.at_address(here, endpoint, "flows/ohi/project.kdl")
        sandbox.commit(here, "version 1")
        self.run(["curl", "-fsS", "-X", "PUT", f"{endpoint}/ohi-sandbox-pulumi"], here)
        self.by_flow(here, DEPLOY)
        (here / "former").write_text(self.run(["scripts/bench/ohi/note.sh"], here))
        self.run(["cp", "-r", f"{OHI}/frontend/dist", "former-site"], here)
        for version in (here / OHI / "backend/services").glob("*/version.h"):
            version.write_text(version.read_text().replace("1.0.0", "2.0.0"))
        (here / OHI / "frontend/src/app.js").write_text('document.title = "OHI 2";\n')
        sandbox.commit(here, "version 2")
        self.by_flow(here, DEPLOY)
        self.answers(self.env["SANDBOX_ENDPOINT"], "2.0.0")

    def back(self, here: Path, name: str, endpoint: str) -> Command:
        argv = {"flow": [self.flow, *BACK], "bash": ["scripts/bench/ohi/rollback.sh", "former", "former-site"]}
        return Command(argv[name], here, {**self.env, "SANDBOX_ENDPOINT": endpoint})

    def by_flow(self, here: Path, words: list[str]) -> None:
        self.run([self.flow, *words], here)

    def answers(self, endpoint: str, version: str) -> None:
        said = self.run(["curl", "-fsS", "--noproxy", "*", f"{endpoint}/_alb/ohi-sandbox/api/health"], ROOT)
        if version not in said:
            raise Failed(f"the API is not {version}: {said}")

    def run(self, argv: list[str], here: Path) -> str:
        done = subprocess.run(argv, cwd=here, env={**surroundings(), **self.env}, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{' '.join(argv[:4])} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
        return done.stdout
