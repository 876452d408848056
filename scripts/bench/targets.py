"""What flow sets out to reach, beside what was measured. A report, never an assertion."""
from dataclasses import dataclass

from measure import Cell
from table import Results, length

# Runners that compare contents, and not only time stamps, as they are told to here.
HASHING = ("just", "task", "turbo", "moon", "mise", "doit")
S3 = ("aws", "s5cmd", "rclone")


@dataclass
class Target:
    """`at_most`: flow's time over the fastest of `others`. `at_least`: theirs over flow's."""

    workload: str
    stage: str
    others: tuple[str, ...] = ()
    at_most: float = 0
    at_least: float = 0
    ms: float = 0
    mb: float = 0
    ours: str = "flow"


TARGETS = (
    Target("one", "one", ("just",), at_most=1.3),
    Target("fan", "fan", ("ninja",), at_most=1.2),
    Target("fan", "fan", ("ninja",), at_most=2, ours="flow, full intents"),
    Target("null", "null", ("ninja",), at_most=4),
    Target("null", "null", HASHING, at_least=4),
    Target("files", "files", ("ninja",), at_most=1.5),
    Target("files", "files", HASHING, at_least=3),
    Target("files-100k", "files-100k", ms=250),
    Target("plan-100k", "plan-100k", ms=1000),
    Target("plan-100k", "plan-100k", mb=300),
    Target("s3-small", "first", S3, at_least=1),
    Target("s3-small", "again", S3, at_least=4),
    Target("s3-large", "first", S3, at_least=1),
    Target("s3-large", "first", mb=100),
    Target("image", "again", ms=50),
    Target("deploy", "again", ("bash",), at_least=10),
    Target("deploy", "change", ("bash",), at_least=2),
)


def report(results: Results) -> str:
    """One row for each target of which both sides were measured; empty when there is none."""
    rows = [row for row in (line(t, results) for t in TARGETS) if row]
    if not rows:
        return ""
    return "\n".join(["| wanted | measured | |", "|---|---|---|", *rows]) + "\n"


def line(target: Target, results: Results) -> str | None:
    ours = measured(results, target.workload, target.ours, target.stage)
    others = [(measured(results, target.workload, name, target.stage), name) for name in target.others]
    there = [(cell.wall_ms, name) for cell, name in others if cell]
    if not ours or (target.others and not there):
        return None
    what = f"{target.workload}, {target.stage}" if target.stage != target.workload else target.workload
    if target.ours != "flow":
        what += f", {target.ours.removeprefix('flow, ')}"
    if target.ms:
        return row(f"{what}: at most {length(target.ms)}", length(ours.wall_ms), ours.wall_ms <= target.ms)
    if target.mb:
        mb = ours.rss_kib / 1024
        return row(f"{what}: at most {target.mb:.0f} MB", f"{mb:.0f} MB", mb <= target.mb)
    best, name = min(there)
    if target.at_most:
        value = ours.wall_ms / best
        return row(f"{what}: at most {target.at_most} × {name}", f"{value:.2f} ×", value <= target.at_most)
    value = best / ours.wall_ms
    return row(f"{what}: at least {target.at_least:g} × as fast as {name}", f"{value:.2f} ×", value >= target.at_least)


def row(wanted: str, found: str, reached: bool) -> str:
    return f"| {wanted} | {found} | {'reached' if reached else 'missed'} |"


def measured(results: Results, workload: str, name: str, stage: str) -> Cell | None:
    row = results.get(workload, {}).get(name)
    cell = row.get(stage) if isinstance(row, dict) else None
    return cell if cell and cell.samples and not cell.error else None
