"""What a task runner costs by itself: the same tasks written for each of them.

One folder holds the tasks of all runners over the same input files; each has outputs of its own. It
is a committed git repository, because turbo and moon ask git which files there are. Every runner
gets as many jobs as there are cores.
"""
import os
import subprocess
from pathlib import Path

from measure import Command, Contender, Missing, Peer, Workload
from workloads.tasks import WRITE, Shape, flow_file, put

PEERS = ("ninja", "make", "just", "task", "turbo", "moon", "mise", "doit")
JOBS = len(os.sched_getaffinity(0))
# What each runner is told to do, by workload.
TARGET = {"one": "noop", "fan": "all", "null": "all", "files": "build"}


def workloads(flow: str, scale: float) -> list[Workload]:
    tasks = max(2, int(1000 * scale))
    some, many = max(100, int(10_000 * scale)), max(100, int(100_000 * scale))
    shapes = [
        ("one", Shape("one"), 20, "start, and one task that is never up to date and runs `true`"),
        ("fan", Shape("fan", tasks=tasks), 5, f"{tasks} independent tasks that are never up to date; each runs `true`"),
        ("null", Shape("null", tasks=tasks), 10, f"{tasks} tasks of one input and one output, all up to date"),
        ("files", Shape("files", files=some), 10, f"one task over {some} files of 512 bytes, unchanged"),
        ("files-100k", Shape("files", files=many), 5, f"one task over {many} files of 512 bytes, unchanged"),
    ]
    return [
        Workload(
            name=name,
            group="runners",
            stages={name: about},
            peers=(*PEERS, "git"),
            enter=lambda folder, peers, n=name, s=shape: contenders(n, s, flow, peers, folder),
            rounds=rounds,
            warm=2,
        )
        for name, shape, rounds, about in shapes
    ]


def contenders(stage: str, shape: Shape, flow: str, peers: dict[str, Peer | str], folder: Path) -> list[Contender | Missing]:
    app = folder / "app"
    make_inputs(shape, app)
    out: list[Contender | Missing] = []
    put(app / "flows/bench.kdl", flow_file(shape))
    for flow_name, what in [("flow", TARGET[shape.kind])] + ([("flow, full intents", "intents")] if shape.kind == "fan" else []):
        out.append(Contender(flow_name, {stage: Command([flow, "run", what, "--env", "here"], app)}))
    for name in PEERS:
        peer = peers[name]
        if isinstance(peer, str):
            out.append(Missing(name, peer))
        elif name == "turbo" and shape.kind == "fan":
            out.append(Missing(name, "starts npm for each task: 170 ms each"))
        else:
            WRITE[name](shape, folder)
            env = ENV.get(name, lambda folder: {})(folder)
            out.append(Contender(name, {stage: Command(ARGV[name](peer.path, TARGET[shape.kind]), app, env)}))
    commit(folder)
    return out


def make_inputs(shape: Shape, app: Path) -> None:
    put(app / "seed", "seed\n")
    for name in (*PEERS, "flow"):
        (app / "out" / name).mkdir(parents=True)
    for i in shape.ids:
        put(app / f"in/{i}.txt", f"input {i}\n")
    for n in range(shape.files):
        if n % 100 == 0:
            branch = app / f"src/d{n // 100:03d}"
            branch.mkdir(parents=True)
        (branch / f"f{n % 100:03d}.txt").write_bytes(b"%08d" % n * 64)
    put(app / "build.sh", 'find src -type f | wc -l >"$1"\n')


def commit(folder: Path) -> None:
    put(folder / ".gitignore", "out/\n.*/\n!.moon/\n.moon/cache/\n__pycache__/\n*.db*\n.ninja_*\n")
    git = ["git", "-C", str(folder), "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "bench"]):
        subprocess.run([*git, *words], check=True)


ARGV = {
    "ninja": lambda p, what: [p, "--quiet", f"-j{JOBS}", what],
    "make": lambda p, what: [p, "-s", f"-j{JOBS}", what],
    "just": lambda p, what: [p, "--jobs", str(JOBS), what],
    "task": lambda p, what: [p, "-C", str(JOBS), what],
    "mise": lambda p, what: [p, "run", "-q", "-j", str(JOBS), what],
    "doit": lambda p, what: [p, "run", "-v", "0", "-n", str(JOBS), what],
    "turbo": lambda p, what: [p, "run", what, f"--concurrency={JOBS}", "--output-logs=errors-only"],
    "moon": lambda p, what: [p, "run", f"app:{what}", "-c", str(JOBS), "--summary", "none"],
}
# Nobody phones home; mise compares contents and keeps its state with the workload.
ENV = {
    "turbo": lambda folder: {"TURBO_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1"},
    "mise": lambda folder: {
        "MISE_OFFLINE": "1",
        "MISE_YES": "1",
        "MISE_TRUSTED_CONFIG_PATHS": str(folder),
        "MISE_TASK_SOURCE_FRESHNESS_HASH_CONTENTS": "1",
        **{f"MISE_{kind}_DIR": str(folder.parent / f".mise-{folder.name}-{kind}".lower()) for kind in ("DATA", "CACHE", "STATE", "CONFIG")},
    },
}
