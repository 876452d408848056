"""What was measured, as Markdown for people and as JSON for programs."""
import os
import platform
from datetime import datetime, timezone
from pathlib import Path

from measure import Cell, Workload

Results = dict[str, dict[str, dict[str, Cell] | str]]


def machine() -> dict[str, object]:
    """The kind of machine, never its name."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), platform.machine())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    load = Path("/proc/loadavg").read_text().split()[0]
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory),
        "kernel": platform.release().split("-")[0],
        "load_at_start": float(load),
    }


def length(ms: float) -> str:
    """Three figures are more than such a machine repeats."""
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.2f} s" if ms < 10_000 else f"{ms / 1000:.1f} s"


def cell_text(cell: Cell | None, against: Cell | None) -> str:
    if cell is None:
        return "–"
    if cell.error:
        return "failed"
    if not cell.samples:
        return "–"
    text = f"{length(cell.wall_ms)}, {cell.rss_kib / 1024:.0f} MB"
    if cell.calls is not None:
        text += f", {cell.calls} calls"
    if against is not None and against is not cell and against.samples:
        text += f" ({ratio(cell.wall_ms / against.wall_ms)})"
    return text


def ratio(value: float) -> str:
    return f"{value:.2f} ×" if value < 10 else f"{value:.0f} ×"


def markdown(facts: dict[str, object], workloads: list[Workload], results: Results) -> str:
    """One table for each group of workloads, with a column for each stage."""
    parts = [
        f"Measured on {facts['date']}: {facts['cores']} cores ({facts['processor']}), {facts['memory_gib']} GB of memory, "
        f"kernel {facts['kernel']}, load {facts['load_at_start']} when it began.\n\n"
        "Each cell: median of all rounds, largest resident memory of any one process of it, and in "
        "brackets the time in relation to flow's (above 1: slower than flow).\n"
    ]
    groups: dict[str, list[Workload]] = {}
    for workload in workloads:
        if workload.name in results:
            groups.setdefault(workload.group or workload.name, []).append(workload)
    for group in groups.values():
        parts.append(group_table(group, results))
    return "\n".join(parts)


def group_table(group: list[Workload], results: Results) -> str:
    columns = [(w.name, stage) for w in group for stage in w.stages]
    names: list[str] = []
    for w in group:
        names += [n for n in results[w.name] if n not in names]
    lines = ["".join(f"- **{s}**: {w.stages[s]}\n" for w in group for s in w.stages)]
    lines.append("| | " + " | ".join(stage for _, stage in columns) + " |")
    lines.append("|---|" + "---|" * len(columns))
    missing = []
    for name in names:
        rows = [results[w].get(name) for w, _ in columns]
        missing += sorted({f"{name}: {row}" for row in rows if isinstance(row, str)})
        cells = [row.get(stage) if isinstance(row, dict) else None for row, (_, stage) in zip(rows, columns)]
        ours = [results[w]["flow"] for w, _ in columns]
        against = [o.get(stage) if isinstance(o, dict) else None for o, (_, stage) in zip(ours, columns)]
        lines.append(f"| {name} | " + " | ".join(cell_text(c, a) for c, a in zip(cells, against)) + " |")
        missing += [f"{name}, {stage}: failed: {c.error}" for c, (_, stage) in zip(cells, columns) if c and c.error]
    if missing:
        lines.append("\nNot measured: " + "; ".join(missing) + ".")
    return "\n".join(lines) + "\n"


def as_json(facts: dict[str, object], versions: dict[str, str], results: Results) -> dict[str, object]:
    """Every sample, so that other figures than medians can be made of them."""

    def cell(c: Cell) -> dict[str, object]:
        if c.error or not c.samples:
            return {"error": c.error or "no round was counted"}
        return {
            "median_ms": round(c.wall_ms, 3),
            "min_ms": round(c.best_ms, 3),
            "cpu_ms": round(c.cpu_ms, 3),
            "rss_kib": c.rss_kib,
            "calls": c.calls,
            "wall_ms": [round(s.wall_ms, 3) for s in c.samples],
        }

    measured = {
        w: {n: row if isinstance(row, str) else {s: cell(c) for s, c in row.items()} for n, row in rows.items()}
        for w, rows in results.items()
    }
    return {"version": 1, "machine": facts, "versions": versions, "results": measured}
