"""The tasks of one workload, written in the language of each runner."""
import json
from pathlib import Path


class Shape:
    """One workload: which kind (one, fan, null, files), how many tasks, how many files."""

    def __init__(self, kind: str, tasks: int = 0, files: int = 0) -> None:
        self.kind = kind
        self.ids = [f"{i:04d}" for i in range(tasks)]
        self.files = files


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def flow_file(shape: Shape) -> str:
    head = 'project "bench"\nenvironment "here"\n'
    if shape.kind == "one":
        # `inputs` says that it makes files, `cache #false` that it runs each time.
        return head + 'flow "noop" { run "noop" { command "true"; inputs "seed"; cache #false; }; }\n'
    if shape.kind == "fan":
        files = "".join(f'    run "t{i}" {{ command "true"; inputs "seed"; cache #false; }}\n' for i in shape.ids)
        intents = "".join(f'    run "t{i}" {{ command "true"; }}\n' for i in shape.ids)
        return f'{head}flow "all" {{\n{files}}}\nflow "intents" {{\n{intents}}}\n'
    if shape.kind == "null":
        steps = "".join(
            f'    run "t{i}" {{ command "cp" "in/{i}.txt" "out/flow/{i}.txt"; '
            f'inputs "in/{i}.txt"; outputs "out/flow/{i}.txt"; }}\n'
            for i in shape.ids
        )
        return f'{head}flow "all" {{\n{steps}}}\n'
    return (
        f'{head}flow "build" {{\n    run "build" {{ command "sh" "build.sh" "out/flow/stamp"; '
        'inputs "src/**" "build.sh"; outputs "out/flow/stamp"; }\n}\n'
    )


def write_ninja(shape: Shape, folder: Path) -> None:
    app = folder / "app"
    if shape.kind == "one":
        text = "rule x\n  command = true\nbuild noop: x\n"
    elif shape.kind == "fan":
        text = "rule x\n  command = true\n" + "".join(f"build t{i}: x\n" for i in shape.ids)
        text += "build all: phony " + " ".join("t" + i for i in shape.ids) + "\n"
    elif shape.kind == "null":
        text = "rule cp\n  command = cp $in $out\n"
        text += "".join(f"build out/ninja/{i}.txt: cp in/{i}.txt\n" for i in shape.ids)
        text += "build all: phony " + " ".join(f"out/ninja/{i}.txt" for i in shape.ids) + "\n"
    else:
        files = sorted(str(p.relative_to(app)) for p in (app / "src").rglob("*.txt"))
        text = "rule sh\n  command = sh build.sh $out\nbuild out/ninja/stamp: sh build.sh | $\n  "
        text += " $\n  ".join(files) + "\nbuild build: phony out/ninja/stamp\n"
    put(app / "build.ninja", text)


def write_make(shape: Shape, folder: Path) -> None:
    names = " ".join("t" + i for i in shape.ids)
    if shape.kind == "one":
        text = ".PHONY: noop\nnoop:\n\t@true\n"
    elif shape.kind == "fan":
        text = f".PHONY: all {names}\nall: {names}\n{names}:\n\t@/bin/true\n"
    elif shape.kind == "null":
        text = "all: " + " ".join(f"out/make/{i}.txt" for i in shape.ids) + "\n"
        text += "".join(f"out/make/{i}.txt: in/{i}.txt\n\tcp $< $@\n" for i in shape.ids)
    else:
        text = "SRCS := $(shell find src -type f)\nbuild: out/make/stamp\nout/make/stamp: build.sh $(SRCS)\n\tsh build.sh $@\n"
    put(folder / "app/Makefile", text)


def write_just(shape: Shape, folder: Path) -> None:
    all_of_them = "[parallel]\nall: " + " ".join("t" + i for i in shape.ids) + "\n\n"
    if shape.kind == "one":
        text = "noop:\n\t@true\n"
    elif shape.kind == "fan":
        text = all_of_them + "".join(f"t{i}:\n\t@true\n\n" for i in shape.ids)
    elif shape.kind == "null":
        text = "set unstable\nset lists\n\n" + all_of_them
        text += "".join(
            f"[script]\n[cache(inputs = 'in/{i}.txt', outputs = 'out/just/{i}.txt')]\n"
            f"t{i}:\n\tcp in/{i}.txt out/just/{i}.txt\n\n"
            for i in shape.ids
        )
    else:
        text = (
            'set unstable\nset lists\n\nfiles := split(`find src -type f | sort`, "\\n")\n\n[script]\n'
            "[cache(inputs = files, outputs = 'out/just/stamp')]\nbuild:\n\tsh build.sh out/just/stamp\n"
        )
    put(folder / "app/justfile", text)


def write_task(shape: Shape, folder: Path) -> None:
    text = "version: '3'\nsilent: true\ntasks:\n"
    if shape.ids:
        text += "  all:\n    deps: [" + ", ".join("t" + i for i in shape.ids) + "]\n"
    if shape.kind == "one":
        text += "  noop:\n    cmds: ['true']\n"
    elif shape.kind == "fan":
        text += "".join(f"  t{i}:\n    cmds: ['/bin/true']\n" for i in shape.ids)
    elif shape.kind == "null":
        text += "".join(
            f"  t{i}:\n    sources: ['in/{i}.txt']\n    generates: ['out/task/{i}.txt']\n"
            f"    cmds: ['cp in/{i}.txt out/task/{i}.txt']\n"
            for i in shape.ids
        )
    else:
        text += "  build:\n    sources: ['src/**/*.txt', 'build.sh']\n    generates: ['out/task/stamp']\n"
        text += "    cmds: ['sh build.sh out/task/stamp']\n"
    put(folder / "app/Taskfile.yml", text)


def write_mise(shape: Shape, folder: Path) -> None:
    text = ""
    if shape.ids:
        text += "[tasks.all]\ndepends = [" + ", ".join(f"'t{i}'" for i in shape.ids) + "]\n\n"
    if shape.kind == "one":
        text += "[tasks.noop]\nrun = 'true'\n"
    elif shape.kind == "fan":
        text += "".join(f"[tasks.t{i}]\nrun = 'true'\n\n" for i in shape.ids)
    elif shape.kind == "null":
        text += "".join(
            f"[tasks.t{i}]\nrun = 'cp in/{i}.txt out/mise/{i}.txt'\nsources = ['in/{i}.txt']\n"
            f"outputs = ['out/mise/{i}.txt']\n\n"
            for i in shape.ids
        )
    else:
        text += "[tasks.build]\nrun = 'sh build.sh out/mise/stamp'\nsources = ['src/**/*.txt', 'build.sh']\n"
        text += "outputs = ['out/mise/stamp']\n"
    put(folder / "app/mise.toml", text)


def write_doit(shape: Shape, folder: Path) -> None:
    count = len(shape.ids)
    if shape.kind == "one":
        text = "def task_noop():\n    return {'actions': ['true']}\n"
    elif shape.kind == "fan":
        text = f"def task_all():\n    for i in range({count}):\n        yield {{'name': f'{{i:04d}}', 'actions': ['true']}}\n"
    elif shape.kind == "null":
        text = (
            f"def task_all():\n    for i in range({count}):\n        n = f'{{i:04d}}.txt'\n"
            "        yield {'name': n, 'actions': [f'cp in/{n} out/doit/{n}'],\n"
            "               'file_dep': [f'in/{n}'], 'targets': [f'out/doit/{n}']}\n"
        )
    else:
        text = (
            "from pathlib import Path\n\n\ndef task_build():\n"
            "    files = [str(p) for p in Path('src').rglob('*.txt')] + ['build.sh']\n"
            "    return {'actions': ['sh build.sh out/doit/stamp'], 'file_dep': files, 'targets': ['out/doit/stamp']}\n"
        )
    put(folder / "app/dodo.py", text)


def write_turbo(shape: Shape, folder: Path) -> None:
    tasks: dict[str, object] = {}
    scripts: dict[str, str] = {}
    if shape.kind == "one":
        scripts["noop"], tasks["noop"] = "true", {"cache": False}
    elif shape.kind == "null":
        for i in shape.ids:
            scripts["t" + i] = f"cp in/{i}.txt out/turbo/{i}.txt"
            tasks["t" + i] = {"inputs": [f"in/{i}.txt"], "outputs": [f"out/turbo/{i}.txt"]}
        scripts["all"], tasks["all"] = "true", {"dependsOn": ["t" + i for i in shape.ids], "cache": False}
    else:
        scripts["build"] = "sh build.sh out/turbo/stamp"
        tasks["build"] = {"inputs": ["src/**/*.txt", "build.sh"], "outputs": ["out/turbo/stamp"]}
    root = {"name": "root", "version": "0.0.0", "private": True, "workspaces": ["app"]}
    lock = {
        "name": "root",
        "version": "0.0.0",
        "lockfileVersion": 3,
        "packages": {
            "": {"name": "root", "version": "0.0.0", "workspaces": ["app"]},
            "app": {"version": "0.0.0"},
            "node_modules/app": {"resolved": "app", "link": True},
        },
    }
    put(folder / "package.json", json.dumps({**root, "packageManager": "npm@10.0.0"}))
    put(folder / "package-lock.json", json.dumps(lock))
    put(folder / "turbo.json", json.dumps({"tasks": tasks}))
    put(folder / "app/package.json", json.dumps({"name": "app", "version": "0.0.0", "scripts": scripts}))


def write_moon(shape: Shape, folder: Path) -> None:
    text = "tasks:\n"
    if shape.ids:
        text += "  all:\n    command: 'noop'\n    options:\n      cache: false\n    deps:\n"
        text += "".join(f"      - '~:t{i}'\n" for i in shape.ids)
    if shape.kind == "one":
        text += "  noop:\n    command: 'true'\n    options:\n      cache: false\n"
    elif shape.kind == "fan":
        text += "".join(f"  t{i}:\n    command: 'true'\n    options:\n      cache: false\n" for i in shape.ids)
    elif shape.kind == "null":
        text += "".join(
            f"  t{i}:\n    command: 'cp in/{i}.txt out/moon/{i}.txt'\n    inputs: ['in/{i}.txt']\n"
            f"    outputs: ['out/moon/{i}.txt']\n"
            for i in shape.ids
        )
    else:
        text += "  build:\n    command: 'sh build.sh out/moon/stamp'\n    inputs: ['src/**/*.txt', 'build.sh']\n"
        text += "    outputs: ['out/moon/stamp']\n"
    put(folder / ".moon/workspace.yml", "projects:\n  app: app\ntelemetry: false\nvcs:\n  client: git\n  defaultBranch: main\n")
    put(folder / "app/moon.yml", text)


WRITE = {
    "ninja": write_ninja,
    "make": write_make,
    "just": write_just,
    "task": write_task,
    "mise": write_mise,
    "doit": write_doit,
    "turbo": write_turbo,
    "moon": write_moon,
}
