"""A folder becomes the content of a bucket: small files, large files, nothing changed, one changed.

Everybody has a bucket of their own on the same server (local_s3).
"""
import os
import shutil
from pathlib import Path

from local_s3 import KEYS, Server
from measure import Command, Contender, Missing, Peer, Workload
from workloads.tasks import put

PEERS = ("s3s-fs", "aws", "s5cmd", "rclone")
SMALL = {
    "first": "upload into an empty bucket",
    "again": "nothing changed",
    "header": "another Cache-Control for all (the peers do not notice: told to send all anew)",
    "one": "one file changed",
}
LARGE = {"first": SMALL["first"], "again": SMALL["again"]}


def workloads(flow: str, scale: float) -> list[Workload]:
    count, size = max(10, int(10_000 * scale)), int(os.environ.get("BENCH_LARGE_MB", "200"))
    large = max(1, int(20 * scale))
    return [
        workload("s3-small", flow, count, 2048, SMALL, rounds=3),
        workload("s3-large", flow, large, size << 20, LARGE, rounds=2),
    ]


def workload(name: str, flow: str, count: int, size: int, stages: dict[str, str], rounds: int) -> Workload:
    server = Server()
    human = f"{size >> 20} MB" if size >= 1 << 20 else f"{size} bytes"
    return Workload(
        name=name,
        group=name,
        stages={s: f"{count} files of {human}: {what}" for s, what in stages.items()},
        peers=PEERS,
        enter=lambda folder, peers: Race(flow, folder, peers, server, count, size, tuple(stages)).contenders(),
        leave=server.stop,
        rounds=rounds,
        warm=0,
        budget=120,
        least=1,
    )


class Race:
    """The folder that is sent, one bucket for each contender, and what is changed between two stages."""

    def __init__(
        self, flow: str, folder: Path, peers: dict[str, Peer | str], server: Server, count: int, size: int, stages: tuple[str, ...]
    ) -> None:
        self.flow, self.folder, self.peers, self.server, self.stages = flow, folder, peers, server, stages
        self.site = folder / "site"
        for n in range(count):
            path = self.site / f"d{n // 100:03d}" / f"f{n % 100:03d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(min(size, 1 << 20)) * max(1, size >> 20))
        self.edits = 0

    def contenders(self) -> list[Contender | Missing]:
        server = self.peers["s3s-fs"]
        if isinstance(server, str):
            return [Missing("flow", f"no server: {server}")]
        self.server.start(server.path, self.folder / "buckets")
        out: list[Contender | Missing] = [self.by_flow()]
        for name, argv in (("aws", self.aws), ("s5cmd", self.s5cmd), ("rclone", self.rclone)):
            peer = self.peers[name]
            if isinstance(peer, str):
                out.append(Missing(name, peer))
                continue
            commands = {s: Command([peer.path, *argv(s)], self.folder, {**KEYS, **rclone_settings(self.server.s3)}) for s in self.stages}
            out.append(self.contender(name, commands))
        return out

    def contender(self, name: str, commands: dict[str, Command]) -> Contender:
        return Contender(name, commands, lambda s: self.prepare(name, s), lambda s: self.check(name, s))

    def by_flow(self) -> Contender:
        for header, cache in (("plain", "no-cache"), ("other", "max-age=60")):
            put(
                self.folder / f"flows/{header}.kdl",
                f'flow "{header}" {{ s3-sync "site" {{ from "site"; to "s3://flow"; rule "**" cache-control="{cache}"; delete #true; }}; }}\n',
            )
        put(self.folder / "flows/project.kdl", 'project "bench"\nenvironment "here" { account "000000000000"; region "us-east-1"; }\n')
        env = {**KEYS, **self.server.endpoints, "AWS_EC2_METADATA_DISABLED": "true"}
        what = {s: "other" if s in ("header", "one") else "plain" for s in self.stages}
        return self.contender("flow", {s: Command([self.flow, "run", what[s], "--env", "here", "--yes"], self.folder, env) for s in self.stages})

    def aws(self, stage: str) -> list[str]:
        cache = ["--cache-control", "max-age=60" if stage in ("header", "one") else "no-cache"]
        words = ["cp", "--recursive"] if stage == "header" else ["sync", "--delete"]
        return ["--endpoint-url", self.server.s3, "s3", *words, "--only-show-errors", *cache, "site", "s3://aws"]

    def s5cmd(self, stage: str) -> list[str]:
        cache = ["--cache-control", "max-age=60" if stage in ("header", "one") else "no-cache"]
        head = ["--endpoint-url", self.server.s3, "--log", "error"]
        if stage == "header":
            return [*head, "cp", *cache, "site/*", "s3://s5cmd/"]
        return [*head, "sync", "--delete", *cache, "site/*", "s3://s5cmd/"]

    def rclone(self, stage: str) -> list[str]:
        cache = "max-age=60" if stage in ("header", "one") else "no-cache"
        words = ["sync", "--transfers", "32", "--checkers", "32"]
        if stage == "header":
            words += ["--ignore-times"]
        return [*words, "--header-upload", f"Cache-Control: {cache}", "site", "bench:rclone"]

    def prepare(self, name: str, stage: str) -> None:
        bucket = self.folder / "buckets" / name
        if stage == "first":
            shutil.rmtree(bucket, ignore_errors=True)
            bucket.mkdir()
            if name == "flow":
                shutil.rmtree(self.folder / ".flow", ignore_errors=True)
        if stage == "one":
            self.edits += 1
            put(self.site / "d000/f000.txt", f"edit {self.edits}\n")

    def check(self, name: str, stage: str) -> None:
        """Whoever is fast and wrong has not taken part."""
        del stage
        bucket = self.folder / "buckets" / name
        for path in self.site.rglob("*.txt"):
            there = bucket / path.relative_to(self.site)
            assert there.is_file() and there.stat().st_size == path.stat().st_size, f"{there.name} is not in the bucket as it should be"


def rclone_settings(endpoint: str) -> dict[str, str]:
    return {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
        "RCLONE_CONFIG_BENCH_ENDPOINT": endpoint,
        "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
        "RCLONE_CONFIG_BENCH_REGION": "us-east-1",
    }
