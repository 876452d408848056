"""An image whose context is large: built and pushed to the sandbox's registry, by flow and by the docker CLI.

The Dockerfile takes one small file, so that what is measured is the context and not the registry.
Memory is that of the client; the engine is the same for all.
"""
import os
import shutil
import subprocess
from pathlib import Path

import sandbox
from measure import Command, Contender, Missing, Peer, Workload, lacking
from workloads.tasks import put

STAGES = {
    "first": "nothing in the registry yet",
    "again": "nothing changed",
    "change": "one file changed",
}
CLI = {"docker, classic": "0", "docker, BuildKit": "1"}


def workloads(flow: str, scale: float) -> list[Workload]:
    files = max(4, int(1024 * scale))
    race = Race(flow, files)
    about = f"context of {files} files of 1 MB"
    return [
        Workload(
            name="image",
            group="image",
            stages={s: f"{about}, {what}" for s, what in STAGES.items()},
            peers=("docker", "git"),
            enter=race.enter,
            rounds=3,
            warm=0,
            least=1,
            budget=120,
        )
    ]


class Race:
    def __init__(self, flow: str, files: int) -> None:
        self.flow, self.files, self.edits = flow, files, 0

    def enter(self, folder: Path, peers: dict[str, Peer | str]) -> list[Contender | Missing]:
        if missing := lacking(peers):
            return missing
        self.folder, self.env = folder, sandbox.up()
        self.registry = self.env["SANDBOX_ENDPOINT"].removeprefix("http://")
        self.make_context()
        out: list[Contender | Missing] = [self.by_flow()]
        for name, kit in CLI.items():
            why = self.cannot(kit)
            out.append(Missing(name, why) if why else self.by_docker(name, kit))
        return out

    def make_context(self) -> None:
        context = self.folder / "context"
        (context / "data").mkdir(parents=True)
        for n in range(self.files):
            (context / f"data/{n:04d}").write_bytes(os.urandom(1 << 20))
        put(context / "app", "0\n")
        put(context / "Dockerfile", "FROM scratch\nCOPY app /app\n")

    def cannot(self, kit: str) -> str:
        """Why this engine and this CLI do not build that way."""
        small = self.folder / "small"
        put(small / "Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        env = {**os.environ, **self.env, "DOCKER_BUILDKIT": kit}
        tried = subprocess.run(["docker", "build", "-q", str(small)], env=env, capture_output=True, text=True, check=False)
        return "" if tried.returncode == 0 else tried.stderr.strip().splitlines()[-1]

    def by_flow(self) -> Contender:
        host = self.env["SANDBOX_ENDPOINT"]
        put(
            self.folder / "flows/bench.kdl",
            f'project "bench"\nenvironment "here" {{ account "000000000000"; region "us-east-1"; endpoint "{host}"; registry "{self.registry}"; }}\n'
            'flow "image" { docker-build "image" { context "context"; repository "bench-flow"; tag "latest"; }; }\n',
        )
        argv = [self.flow, "run", "image", "--env", "here", "--yes"]
        return Contender("flow", {s: Command(argv, self.folder, self.env) for s in STAGES}, lambda s: self.prepare("flow", s))

    def by_docker(self, name: str, kit: str) -> Contender:
        tag = f"{self.registry}/bench-docker{kit}:latest"
        argv = ["sh", "-ec", 'docker build -q -t "$0" context && docker push -q "$0"', tag]
        env = {**self.env, "DOCKER_BUILDKIT": kit}
        return Contender(name, {s: Command(argv, self.folder, env) for s in STAGES}, lambda s: self.prepare(f"docker{kit}", s))

    def prepare(self, name: str, stage: str) -> None:
        if stage == "change":
            self.edits += 1
            put(self.folder / "context/app", f"{self.edits}\n")
        if stage == "first":
            self.new_repository(f"bench-{name}")
            if name == "flow":
                shutil.rmtree(self.folder / ".flow", ignore_errors=True)

    def new_repository(self, name: str) -> None:
        """An empty one: a digest that the registry has already is never pushed again."""
        aws = [f"{self.env['SANDBOX_BIN']}/aws", "--endpoint-url", self.env["SANDBOX_ENDPOINT"], "ecr"]
        env = {**os.environ, **self.env}
        subprocess.run([*aws, "delete-repository", "--force", "--repository-name", name], env=env, capture_output=True, check=False)
        subprocess.run([*aws, "create-repository", "--repository-name", name], env=env, capture_output=True, check=True)
