"""What a plan over very many steps costs: instances of `each`, against the dry run of ninja and make."""
from pathlib import Path

from measure import Command, Contender, Missing, Peer, Workload
from workloads.tasks import put

# A step has at most 10 000 instances; more need more steps.
SIDE = 100


def workloads(flow: str, scale: float) -> list[Workload]:
    del scale  # the number of steps is what is measured
    return [
        Workload(
            name=name,
            group="planning",
            stages={name: f"plan of {steps * SIDE * SIDE} steps, instances of {steps} with `each`, of which none has run"},
            peers=("ninja", "make"),
            enter=lambda folder, peers, n=name, s=steps: contenders(n, s, flow, peers, folder),
            rounds=5,
        )
        for name, steps in (("plan-10k", 1), ("plan-100k", 10))
    ]


def contenders(stage: str, steps: int, flow: str, peers: dict[str, Peer | str], folder: Path) -> list[Contender | Missing]:
    values = " ".join(f'"{n:02d}"' for n in range(SIDE))
    text = f'project "bench"\nenvironment "here" {{ vars {{ side {values}; }}; }}\nflow "all" {{\n'
    ids = []
    for n in range(steps):
        text += f'    run "s{n}" {{ each "a" in="${{env.side}}"; each "b" in="${{env.side}}"; '
        text += 'command "echo" "${each.a}" "${each.b}"; }\n'
        ids += [(n, a, b) for a in range(SIDE) for b in range(SIDE)]
    put(folder / "flows/bench.kdl", text + "}\n")

    rules = "rule x\n  command = echo $a $b\n" + "".join(f"build s{n}-{a}-{b}: x\n  a = {a}\n  b = {b}\n" for n, a, b in ids)
    put(folder / "build.ninja", rules + "build all: phony " + " ".join(f"s{n}-{a}-{b}" for n, a, b in ids) + "\n")
    names = " ".join(f"s{n}-{a}-{b}" for n, a, b in ids)
    put(folder / "Makefile", f".PHONY: all {names}\nall: {names}\n{names}:\n\techo $@\n")

    argv = {"ninja": ["--quiet", "-n", "all"], "make": ["-n", "all"]}
    out: list[Contender | Missing] = [Contender("flow", {stage: Command([flow, "plan", "all", "--env", "here"], folder)})]
    for name, words in argv.items():
        peer = peers[name]
        if isinstance(peer, str):
            out.append(Missing(name, peer))
        else:
            out.append(Contender(f"{name} -n", {stage: Command([peer.path, *words], folder)}))
    return out
