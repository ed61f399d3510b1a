"""What users install: the wheel and the sdist, by pip and by uv, without the extra and with it, in fresh environments.

Always one Python, with each archive and each installer once; with ``PACKAGING=full`` all of it on every CPython 3.11 to
3.14 found on this machine.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.server import ROOT, Server, clean_environment, running

DISTRIBUTION = "durable-streams-cluster"
PACKAGES = (
    "client/durable_streams_client/",
    "cluster/durable_streams_cluster/",
    "proto/durable_streams_proto/",
)
MINORS = ("3.11", "3.12", "3.13", "3.14")


class Installer(NamedTuple):
    """How one tool makes an environment and installs into it."""

    name: str

    def environment(self, python: Path, place: Path) -> None:
        if self.name == "uv":
            run(uv(), "venv", "--quiet", "--python", python, place)
        else:
            run(python, "-m", "venv", place)

    def install(self, place: Path, requirement: str) -> None:
        tool = (uv(), "pip") if self.name == "uv" else (place / "bin" / "python", "-m", "pip")
        target = ("--python", place / "bin" / "python") if self.name == "uv" else ("--disable-pip-version-check",)
        run(*tool, "install", "--quiet", *target, requirement)


class Installed(Server):
    """A server that runs from an environment, not from this repository."""

    def __init__(self, folder: Path, place: Path) -> None:
        super().__init__(folder)
        self.place = place

    def command(self) -> list[str]:
        words = super().command()
        return [str(self.place / "bin" / "durable-streams"), *words[words.index("serve") :]]

    def environment(self) -> dict[str, str]:
        return outside()


def outside() -> dict[str, str]:
    """The environment of a program that knows nothing of this repository."""
    return {name: value for name, value in clean_environment().items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}


def run(*command: str | Path, code: int = 0) -> str:
    """Run to the end, away from the repository; answers all it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd="/",
        env=outside(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def uv() -> Path:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found, "needs uv: make packaging installs it"
    return Path(found)


def pythons() -> Iterator[tuple[str, Path]]:
    """One interpreter for each minor version, first from PATH, then where version managers keep theirs."""
    managed = ((".pyenv", "versions"), (".local", "share", "uv", "python"), (".asdf", "installs", "python"))
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for place in managed:
        folders += sorted(Path.home().joinpath(*place).glob("*/bin"))
    ask = "import ensurepip, platform, venv; print(platform.python_implementation(), platform.python_version())"
    for minor in MINORS:
        for candidate in (folder / f"python{minor}" for folder in folders):
            if not os.access(candidate, os.X_OK):
                continue
            said = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, timeout=60, check=False)
            if re.match(rf"CPython {re.escape(minor)}\.", said.stdout):
                yield minor, candidate
                break


def combinations() -> list[object]:
    """Python, archive, installer."""
    chosen: list[tuple[tuple[str, Path], str, str]]
    if os.environ.get("PACKAGING") == "full":
        chosen = list(itertools.product(pythons(), ("wheel", "sdist"), ("pip", "uv")))
    else:
        this = ("this", Path(sys.executable).resolve())
        chosen = [(this, "wheel", "pip"), (this, "sdist", "uv")]
    return [pytest.param(path, archive, tool, id=f"{name}-{archive}-{tool}") for (name, path), archive, tool in chosen]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, and the wheel that is built from it."""
    place = tmp_path_factory.mktemp("dist")
    run(uv(), "build", "--quiet", "--out-dir", place, ROOT)
    (wheel,), (sdist,) = place.glob("*.whl"), place.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def shipped() -> set[str]:
    """The files of the repository that lie in a package."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {path for path in listed.stdout.splitlines() if (ROOT / path).is_file()}


def test_the_wheel_holds_the_packages_and_nothing_else(archives: dict[str, Path]) -> None:
    expected = {path.partition("/")[2] for path in shipped()}
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        facts = [name for name in wheel.namelist() if name.endswith(("/METADATA", "/entry_points.txt", "/LICENSE"))]
    assert names == expected
    assert len(facts) == 3
    assert {f"{package.split('/')[1]}/py.typed" for package in PACKAGES} <= names


def test_the_sdist_holds_what_a_build_needs(archives: dict[str, Path]) -> None:
    with tarfile.open(archives["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert shipped() | {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert {name.partition("/")[0] for name in names} <= {
        "cluster", "client", "proto", "pyproject.toml", "README.md", "LICENSE", "PKG-INFO", ".gitignore"
    }  # fmt: skip


@pytest.mark.parametrize(("python", "archive", "tool"), combinations())
def test_install_and_serve(python: Path, archive: str, tool: str, archives: dict[str, Path], tmp_path: Path) -> None:
    installer, place, url = Installer(tool), tmp_path / "venv", archives[archive].as_uri()
    installer.environment(python, place)
    installer.install(place, f"{DISTRIBUTION} @ {url}")
    check_base(place)
    installer.install(place, f"{DISTRIBUTION}[cluster] @ {url}")
    check_serves(Installed(tmp_path / "server", place))
    installer.install(place, "pytest")
    check_fixtures(place, tmp_path / "test_mine.py")


def check_base(place: Path) -> None:
    """Without the extra: the SDK and the command, none of the node's libraries, and word of what to install."""
    version = re.escape(version_of(place))
    for command in ("durable-streams", "durable-streams-cluster"):
        assert re.search(rf"\b{version}\b", run(place / "bin" / command, "--version"))
        said = run(place / "bin" / command, "serve", code=2)
        assert f"pip install '{DISTRIBUTION}[cluster]'" in said
        assert "Traceback" not in said
    probe = "import sys, durable_streams_client; print([name for name in sys.modules if 'cluster' in name])"
    assert run(place / "bin" / "python", "-W", "error", "-c", probe).strip() == "[]"
    # What is only for tests says the same, and imports no pytest.
    probe = "from durable_streams_client import testing; testing.running_node().__enter__()"
    assert f"pip install '{DISTRIBUTION}[cluster]'" in run(place / "bin" / "python", "-c", probe, code=1)
    # Generated code refuses runtimes older than its generator; what the SDK asks for must be enough.
    run(place / "bin" / "python", "-W", "error", "-c", "import durable_streams_proto.v1.peer_pb2_grpc")
    probe = "import importlib.metadata as m; print(sorted(d.name.lower() for d in m.distributions()))"
    names = run(place / "bin" / "python", "-c", probe)
    assert not re.search("rocksdict|msgspec|uvicorn|httptools|uvloop|prometheus|'rich'|grpcio-", names), names


def check_fixtures(place: Path, tests: Path) -> None:
    """Pytest finds the fixtures by itself, and they work."""
    body = (
        "    assert durable_streams_node.url.startswith('http://') and durable_streams_prefix.startswith('test_it-')\n"
    )
    tests.write_text(f"def test_it(durable_streams_node, durable_streams_prefix):\n{body}")
    words = ("-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "--rootdir", tests.parent)
    assert "1 passed" in run(place / "bin" / "python", *words, tests)


def version_of(place: Path) -> str:
    probe = f"import importlib.metadata as m; print(m.version({DISTRIBUTION!r}))"
    return run(place / "bin" / "python", "-c", probe).strip()


def check_serves(server: Server) -> None:
    """A node starts, takes a stream, gives it back, and ends with 0 when it is asked to."""
    open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    text = {"Content-Type": "text/plain"}
    with running(server):
        stream = server.stream("hello")
        with open_url(urllib.request.Request(stream, method="PUT", headers=text), timeout=30) as answer:
            assert answer.status == 201
        with open_url(urllib.request.Request(stream, data=b"first", method="POST", headers=text), timeout=30) as answer:
            assert answer.status in {200, 204}
        with open_url(f"{stream}?offset=-1", timeout=30) as answer:
            assert (answer.status, answer.read()) == (200, b"first")
        assert server.stop() == 0
