"""The sample deployed to the sandbox: by the usual bash script (deploy.sh) and by flow.

Before the rounds both go once through a proxy that counts the requests to the AWS, the registry's and those
to the load balancer among them; that is not timed. Empties the sandbox.
"""
import shutil
from pathlib import Path

import sandbox
from counter import Counter
from measure import Command, Contender, Missing, Peer, Stopwatch, Workload
from measure import build_clock, lacking, races, say

STAGES = {
    "cold": "nothing deployed yet",
    "again": "nothing changed",
    "change": "one line of one service changed",
}


def workloads(flow: str, scale: float) -> list[Workload]:
    del scale
    return races("deploy", STAGES, ("git", "jq"), Race(flow).enter, rounds=2)


class Race:
    """A copy of the sample for each of the two; which of them ran last decides what the sandbox holds."""

    def __init__(self, flow: str) -> None:
        self.flow = flow

    def enter(self, folder: Path, peers: dict[str, Peer | str]) -> list[Contender | Missing]:
        if missing := lacking(peers):
            return missing
        self.folder = folder
        self.env = sandbox.up()
        self.clock = Stopwatch(build_clock(folder))
        return [self.contender("flow"), self.contender("bash")]

    def contender(self, name: str) -> Contender:
        calls = self.counted(name)
        commands = {stage: self.command(name, self.env["SANDBOX_ENDPOINT"]) for stage in STAGES}
        return Contender(name, commands, lambda stage: self.prepare(name, stage, self.env["SANDBOX_ENDPOINT"]), calls=calls)

    def command(self, name: str, endpoint: str) -> Command:
        here = self.folder / name
        argv = {"flow": [self.flow, "run", "deploy", "--env", "sandbox", "--yes"], "bash": ["scripts/bench/deploy.sh"]}
        return Command(argv[name], here, {**self.env, "SANDBOX_ENDPOINT": endpoint})

    def counted(self, name: str) -> dict[str, int]:
        """All stages once through the counting proxy."""
        counter = Counter(self.env["SANDBOX_ENDPOINT"])
        calls = {}
        try:
            for stage in STAGES:
                self.prepare(name, stage, counter.address)
                before = counter.count
                self.clock.time(self.command(name, counter.address))
                calls[stage] = counter.count - before
                say(f"deploy, {stage} by {name}: {calls[stage]} requests")
        finally:
            counter.stop()
        return calls

    def prepare(self, name: str, stage: str, endpoint: str) -> None:
        here = self.folder / name
        if stage == "cold":
            sandbox.sandbox("reset")
            shutil.rmtree(here, ignore_errors=True)
            sandbox.copy_sample(here)
            sandbox.at_address(here, endpoint)
            sandbox.commit(here, "start")
        elif stage == "change":
            line = here / "tests/fixtures/shop/backend/api/version.h"
            line.write_text(line.read_text().replace("1.0.0", "1.1.0"))
            sandbox.commit(here, "change")
