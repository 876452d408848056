"""The sandbox that scripts/sandbox runs, and a copy of the sample to change in it."""
import shlex
import subprocess
from pathlib import Path

from peers import ROOT


def sandbox(word: str) -> str:
    return subprocess.run([ROOT / "scripts/sandbox", word], check=True, stdout=subprocess.PIPE, text=True).stdout


def up() -> dict[str, str]:
    """Its variables, once it runs."""
    sandbox("up")
    words = (line.removeprefix("export ").split("=", 1) for line in sandbox("env").splitlines())
    return {name: shlex.split(value)[0] for name, value in words}


def copy_sample(target: Path) -> None:
    """A checkout of its own: nothing may change in this one."""
    copy(target, "flows", "tests/fixtures/shop", "scripts")


def copy(target: Path, *parts: str) -> None:
    """These parts of the repository in a folder of their own."""
    listed = subprocess.run(["git", "ls-files", "-z", *parts], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    target.mkdir()
    subprocess.run(["xargs", "-0", "cp", "--parents", "-t", target], cwd=ROOT, input=listed, check=True)


def commit(folder: Path, what: str) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", what]):
        subprocess.run([*git, *words], check=True)


def at_address(folder: Path, endpoint: str, project: str = "flows/project.kdl") -> None:
    """Writes the address of the AWS into the copy: the checked-in one names the usual port."""
    path = folder / project
    path.write_text(path.read_text().replace("127.0.0.1:4566", endpoint.removeprefix("http://")))
