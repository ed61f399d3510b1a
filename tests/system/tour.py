"""Runs the ``console`` blocks of README.md's tours, in order, each tour in one shell, and fills in what they print.

``python -m tests.system.tour`` does that with README.md itself. The third tour is of three nodes: its ``text`` blocks
are what ``cluster up`` says, the leader among them is killed, and Enter is pressed. Addresses, process ids and names
are those of README, whichever they really are.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.cluster import LocalCluster, typed_to
from tests.server import LOOPBACK, Process, clean_environment, running_server

README = Path(__file__).parents[2] / "README.md"
ONE, SHELL, THREE = "## Five minutes\n", "## From a shell\n", "## Three nodes, and one dies\n"
DEFAULT, SECOND = "http://127.0.0.1:4437", "127.0.0.1:4538"
_BLOCK = re.compile(r"(?P<begin>^```(?P<kind>console|text)\n)(?P<block>.*?)(?=^```$)", re.DOTALL | re.MULTILINE)
_MARK = "-- next command --"


def masked(text: str) -> str:
    """Without what differs from one run to the next: the cursor counts intervals of 20 s, and anybody may be elected.

    Appends that a tail reads together come in one event.
    """
    text = re.sub(r'"streamCursor":"\d+"', '"streamCursor":"N"', text)
    text = re.sub(r"^n\d leads now", "nX leads now", text, flags=re.MULTILINE)
    return re.sub(r"\ndata:(?!\{)", "", text)


def commands(block: str) -> list[str]:
    """The commands of one block: what follows each ``$``."""
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def section(readme: str, heading: str) -> str:
    """From a heading to the next one of its rank."""
    start = readme.index(heading)
    end = readme.find("\n## ", start)
    return readme[start : end if end >= 0 else None]


class Shell:
    """One bash, given command after command."""

    def __init__(self, folder: Path) -> None:
        self._errors = folder / "shell.log"
        with self._errors.open("wb") as errors:
            self._bash = subprocess.Popen(
                ["bash", "-u"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=folder
            )

    def run(self, command: str) -> str:
        """What it prints, without the end of its last line."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\necho; echo '{_MARK}'\n".encode())
        self._bash.stdin.flush()
        printed = ""
        for line in self._bash.stdout:
            if line.decode() == f"{_MARK}\n":
                break
            printed += line.decode()
        return printed.replace("\r\n", "\n").removesuffix("\n").rstrip("\n")

    def close(self) -> None:
        self._bash.communicate()
        errors = self._errors.read_text()
        assert not errors, errors


def fill(part: str, shell: Shell, names: Mapping[str, str], said: Callable[[int], str]) -> str:
    """A tour with what is printed now. ``names``: what README calls what; ``said``: of the ``text`` block so and so."""
    number = 0
    back = {real: name for name, real in names.items()}

    def filled(match: re.Match[str]) -> str:
        nonlocal number
        number += 1
        if match["kind"] == "text":
            return match["begin"] + in_order(renamed(said(number), back))
        shown = ""
        for each in commands(match["block"]):
            printed = renamed(shell.run(renamed(each, names)), back)
            shown += f"$ {each}\n" + (f"{printed}\n" if printed else "")
        return match["begin"] + shown

    return _BLOCK.sub(filled, part)


def renamed(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\b(?:" + "|".join(map(re.escape, names)) + r")\b", lambda match: names[match[0]], text)


def in_order(text: str) -> str:
    """The rows of the nodes by README's names."""
    rows = re.compile(r"(?:^  n\d  .*\n)+", re.MULTILINE)
    return rows.sub(lambda match: "".join(sorted(match[0].splitlines(keepends=True))), text)


@contextlib.contextmanager
def shell_in(folder: Path) -> Iterator[Shell]:
    shell = Shell(folder)
    try:
        yield shell
    finally:
        shell.close()


def play_one(readme: str) -> str:
    """The first tour."""
    part = section(readme, ONE)
    with tempfile.TemporaryDirectory() as folder, running_server() as server, shell_in(Path(folder)) as shell:
        return fill(part, shell, {DEFAULT: server.url}, lambda _: "")


def play_shell(readme: str) -> str:
    """The second tour: the command, and two nodes that know nothing of each other."""
    part = section(readme, SHELL)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        one, other = (stack.enter_context(running_server()) for _ in range(2))
        shell = stack.enter_context(shell_in(folder))
        # The command of this environment, and no other that is installed.
        shell.run(f"export PATH={Path(sys.executable).parent}:$PATH")
        shell.run(f"export PYTHONPATH={clean_environment()['PYTHONPATH']}")
        shell.run(f"export DURABLE_STREAMS_TARGET={LOOPBACK}:{one.ports['grpc']}")
        return fill(part, shell, {SECOND: f"{LOOPBACK}:{other.ports['grpc']}"}, lambda _: "")


def play_three(readme: str) -> str:
    """The third tour."""
    part = section(readme, THREE)
    with tempfile.TemporaryDirectory() as folder:
        cluster = LocalCluster(Path(folder))
        with typed_to(cluster) as process, shell_in(Path(folder)) as shell:
            names, leader = _names(part, cluster)

            def said(number: int) -> str:
                if number == 1:
                    return _first_screen(process)
                process.wait_line(r"n\d leads now")
                noticed = "\n".join(process.said_after("ready ")) + "\n"
                process.type("\n")
                process.wait_line(f"{leader} is back")
                return noticed

            return fill(part, shell, names, said)


def _first_screen(process: Process) -> str:
    said = process.said_after("starting ")[1:-1]
    return "\n".join(said[: said.index("try it in another terminal, on any node:") - 1]) + "\n"


def _names(part: str, cluster: LocalCluster) -> tuple[dict[str, str], str]:
    """README's names of nodes, addresses and process ids, and what they are here; and the name of the leader here."""
    shown = re.findall(r"^  (n\d)  http://(\S+)  pid (\d+)(  leads)?$", part, re.MULTILINE)
    leader = cluster.leader()
    others = iter(name for name in cluster.names if name != leader)
    pairs: dict[str, str] = {}
    for name, address, pid, leads in shown:
        real = leader if leads else next(others)
        url = cluster.urls[cluster.names.index(real)]
        pairs |= {name: real, address: url.removeprefix("http://"), pid: str(cluster.pids[real])}
    return pairs, leader


TOURS = {ONE: play_one, SHELL: play_shell, THREE: play_three}


def play(readme: str) -> str:
    """``readme`` with each tour's output replaced by what is printed now."""
    for heading, tour in TOURS.items():
        readme = readme.replace(section(readme, heading), tour(readme))
    return readme


if __name__ == "__main__":
    README.write_text(play(README.read_text()))
