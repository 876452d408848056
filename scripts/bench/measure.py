"""Running contenders side by side and keeping what each run took.

A workload has stages (columns); each contender goes through all of them in every round. Rounds
alternate between the contenders, so that a machine that is busy for a while is so for all of them.
Nothing here judges a figure: a slow contender is a row in a table, and only a program that fails
or leaves something wrong is an error, which the table then shows in place of a time.
"""
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Callable


@dataclass
class Peer:
    """A program that is there. One that is not is the text that says why."""

    path: str
    version: str


@dataclass
class Command:
    """What is timed: a program, where it runs, and what is added to its environment."""

    argv: list[str]
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class Contender:
    """A program in one workload. `commands` has one entry per stage that it takes part in.

    `prepare(stage)` runs before each timed command and is not timed; `check(stage)` runs after it
    and raises when the command did not do its work. `calls` are the API calls of a stage, where counted.
    """

    name: str
    commands: dict[str, Command]
    prepare: Callable[[str], None] = lambda stage: None
    check: Callable[[str], None] = lambda stage: None
    calls: dict[str, int] = field(default_factory=dict)


@dataclass
class Missing:
    """A program that cannot take part, and why."""

    name: str
    why: str


Enter = Callable[[Path, dict[str, Peer | str]], list[Contender | Missing]]


@dataclass
class Workload:
    """Stages in order, each with what it means; who takes part; how many rounds are worth it.

    Workloads of one group stand in one table. `enter` makes the files in an empty folder and says who
    takes part; `leave` stops what it started.
    `warm` rounds come first and are not counted. A contender that has used `budget` seconds in a
    stage, and has `least` rounds, sits out the rest.
    """

    name: str
    group: str
    stages: dict[str, str]
    peers: tuple[str, ...]
    enter: Enter
    leave: Callable[[], None] = lambda: None
    rounds: int = 10
    least: int = 3
    warm: int = 1
    budget: float = 20


@dataclass
class Sample:
    wall_ms: float
    cpu_ms: float
    rss_kib: int


@dataclass
class Cell:
    """All runs of one contender in one stage; `error` in place of them when one failed."""

    samples: list[Sample] = field(default_factory=list)
    error: str = ""
    calls: int | None = None

    @property
    def wall_ms(self) -> float:
        return median(s.wall_ms for s in self.samples)

    @property
    def best_ms(self) -> float:
        return min(s.wall_ms for s in self.samples)

    @property
    def cpu_ms(self) -> float:
        return median(s.cpu_ms for s in self.samples)

    @property
    def rss_kib(self) -> int:
        return max(s.rss_kib for s in self.samples)

    @property
    def spent(self) -> float:
        return sum(s.wall_ms for s in self.samples) / 1000


class Failed(Exception):
    """A contender's command did not end well, with the last lines that it wrote."""


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def build_clock(folder: Path) -> Path:
    """Compiles the timer into `folder`."""
    clock = folder / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-O2", "-o", clock, source], check=True)
    return clock


class Stopwatch:
    """Times one command at a time."""

    def __init__(self, clock: Path) -> None:
        self.clock = clock

    def time(self, command: Command) -> Sample:
        """Runs the command without a terminal; its output goes to a file, read only when it fails."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as result:
            done = subprocess.run(
                ["bash", "-c", 'exec "$@" 3>&"$RESULT_FD"', "bash", self.clock, *command.argv],
                cwd=command.cwd,
                env={**surroundings(), **command.env, "RESULT_FD": str(result.fileno())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[result.fileno()],
                check=False,
            )
            result.seek(0)
            figures = result.read().split()
            code = int(figures[4]) if done.returncode == 0 else done.returncode
            if code != 0:
                output.seek(0)
                last = output.read().decode(errors="replace").strip().splitlines()[-14:]
                raise Failed(f"{shlex.join(command.argv[:4])} ended with {code}: " + " / ".join(last))
        wall, user, system, rss = (int(f) for f in figures[:4])
        return Sample(wall / 1e6, (user + system) / 1e3, rss)


def races(name: str, stages: dict[str, str], peers: tuple[str, ...], enter: Enter, rounds: int) -> list[Workload]:
    """Of flow and bash at work on the sandbox: seconds each, so few rounds and none to warm up."""
    return [Workload(name, name, stages, peers, enter, rounds=rounds, least=1, warm=0, budget=120)]


def lacking(peers: dict[str, Peer | str]) -> list[Missing]:
    """Why flow cannot take part, if a tool that both need is not there."""
    missing = [why for why in peers.values() if isinstance(why, str)]
    return [Missing("flow", "; ".join(missing))] if missing else []


def surroundings() -> dict[str, str]:
    """The same short environment for everybody, so that nobody's settings of this machine count."""
    kept = ("PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_CACHE_HOME", "DOCKER_HOST", "NODE_EXTRA_CA_CERTS")
    return {k: os.environ[k] for k in kept if k in os.environ} | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def compete(
    workload: Workload, peers: dict[str, Peer | str], folder: Path, watch: Stopwatch
) -> dict[str, dict[str, Cell] | str]:
    """By contender: its cells by stage, or why it could not take part."""
    everybody = workload.enter(folder, peers)
    racing = [c for c in everybody if isinstance(c, Contender)]
    cells = {c.name: {s: Cell(calls=c.calls.get(s)) for s in c.commands} for c in racing}
    begun = time.monotonic()
    for number in range(-workload.warm, workload.rounds):
        for contender in racing:
            row = cells[contender.name]
            if any(cell.error for cell in row.values()) or enough(row, workload):
                continue
            one_round(contender, row, watch, counted=number >= 0)
    say(f"{workload.name}: {time.monotonic() - begun:.0f} s")
    return {c.name: cells[c.name] if isinstance(c, Contender) else c.why for c in everybody}


def enough(row: dict[str, Cell], workload: Workload) -> bool:
    return all(len(cell.samples) >= workload.least for cell in row.values()) and any(cell.spent > workload.budget for cell in row.values())


def one_round(contender: Contender, row: dict[str, Cell], watch: Stopwatch, counted: bool) -> None:
    for stage, command in contender.commands.items():
        try:
            contender.prepare(stage)
            sample = watch.time(command)
            contender.check(stage)
        except (Failed, AssertionError, OSError, subprocess.CalledProcessError) as error:
            row[stage].error = str(error)
            say(f"{contender.name}, {stage}: {error}")
            return
        if counted:
            row[stage].samples.append(sample)
