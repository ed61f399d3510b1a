"""Generate the code beside every .proto; with ``--check``, say what is stale and change nothing.

The generator decides which runtimes its code runs with, so its version is pinned (the group ``proto`` of
pyproject.toml), and the lower bounds of grpcio and protobuf follow it.
"""

import argparse
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent
GENERATOR = "1.76.0"
OUTPUTS = ("python", "grpc_python", "mypy", "mypy_grpc")
KINDS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(into: Path) -> None:
    """Run protoc over the tree. Raises CalledProcessError when a file is wrong."""
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    where = [f"--{output}_out={into}" for output in OUTPUTS]
    # mypy-protobuf installs its plugins beside this Python, which need not be on PATH.
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}"
        for name in ("mypy", "mypy_grpc")
    ]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT}", *plugins, *where, *sources]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()


def tree(root: Path) -> dict[str, bytes]:
    """Return what was generated, by path."""
    return {str(path.relative_to(root)): path.read_bytes() for kind in KINDS for path in root.rglob(kind)}


def stale() -> list[str]:
    """Name the files that are missing, differ, or whose source is gone."""
    with TemporaryDirectory() as place:
        generate(Path(place))
        fresh = tree(Path(place))
    now = tree(ROOT)
    return sorted(path for path in fresh.keys() | now.keys() if fresh.get(path) != now.get(path))


def main() -> int:
    """Run as a command; 1 when the check found something."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the checked-in code is stale")
    check = parser.parse_args().check
    if version("grpcio-tools") != GENERATOR:
        parser.error(f"needs grpcio-tools {GENERATOR}, found {version('grpcio-tools')}")
    if not check:
        generate(ROOT)
        return 0
    found = stale()
    for path in found:
        print(f"proto/{path} is not what its .proto says: run python proto/generate.py")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
