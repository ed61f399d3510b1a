"""What the terminal of a local cluster shows: the nodes' logs with their names in front, and what happens to the nodes.

News and the ``ready`` line go to standard output, logs to standard error. Colours are rich's matter: none when the
output is no terminal or ``NO_COLOR`` is set.
"""

import signal
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from durable_streams_cluster.local.plan import COUNTS, LocalNode, Plan

_STYLES = ("cyan", "magenta", "yellow", "green", "blue")
_NEWS = "bold"
_BAD = "bold red"

Part = str | tuple[str, str]
"""A text, or a text and its style."""


class Screen:
    """Standard output and error of ``cluster up``. What nobody reads any more is dropped."""

    def __init__(self, names: Sequence[str], out: TextIO, err: TextIO) -> None:
        self._style = dict(zip(names, _STYLES, strict=False))
        self._out = _console(out)
        self._err = _console(err)

    # ----------------------------------------------------------------------------------------------------- all nodes

    def starting(self, plan: Plan, note: str = "") -> None:
        """Say what is begun, before the logs begin."""
        self._print(self._out, f"starting {COUNTS[len(plan.nodes)]}, data in {plan.data_dir}/ ...")
        if note:
            self._print(self._out, note)

    def ready(self, plan: Plan, pids: Mapping[str, int], leader: str) -> None:
        """Show the first screen, then the line that programs wait for. ``leader``: who leads, or nothing."""
        nodes = plan.nodes
        self._print(self._out, "")
        self._print(self._out, (f"{COUNTS[len(nodes)]} ready, on this machine", _NEWS), f": {_survives(plan)}")
        self._print(self._out, "")
        for node in nodes:
            leads = "  leads" if node.name == leader else ""
            self._print(self._out, "  ", self._name(node.name), f"  {node.url}  pid {pids[node.name]}", (leads, _NEWS))
        first, second, third = (nodes * 3)[:3]
        curl, text = "curl -i", "-H 'Content-Type: text/plain'"
        self._print(self._out, "\ntry it in another terminal, on any node:")
        self._print(self._out, f"  {curl} -X PUT  {first.url}/v1/stream/hello {text}")
        self._print(self._out, f"  {curl} -X POST {second.url}/v1/stream/hello {text} -d 'first'")
        self._print(self._out, f"  {curl} '{third.url}/v1/stream/hello?offset=-1'")
        if len(nodes) > 1:
            what, victim = ("the leader", leader) if leader in pids else ("a node", first.name)
            self._print(self._out, f"\nkill {what}, and see the others go on:  kill -9 {pids[victim]}")
        self._print(self._out, "ctrl-C here stops all" if len(nodes) > 1 else "\nctrl-C here stops it")
        self._print(self._out, ready_line(plan, pids))

    def leads(self, name: str) -> None:
        """Say that another node leads now."""
        self._print(self._out, self._name(name), (" leads now", _NEWS))

    def all_run(self) -> None:
        """Answer who wants to start what is down."""
        self._print(self._out, "all nodes run")

    def stopping(self, names: Sequence[str]) -> None:
        """Say that all are asked to end."""
        if names:
            self._print(self._out, (f"stopping {_list(names)}; ctrl-C again ends them at once", _NEWS))

    def nobody_left(self) -> None:
        """Say why all is over."""
        self._print(self._out, ("no node runs any more", _BAD))

    # ----------------------------------------------------------------------------------------------------- one node

    def log(self, name: str, line: str) -> None:
        """Show a line of a node's log."""
        self._print(self._err, self._name(f"{name} | ", name), line)

    def back(self, node: LocalNode, pid: int) -> None:
        """Say that a node that was down is ready again."""
        self._print(self._out, self._name(node.name), (" is back", _NEWS), f": {node.url}, pid {pid}")

    def ended(self, plan: Plan, node: LocalNode, code: int, up: Sequence[str], *, can_start: bool) -> None:
        """Say that a node ended by itself, why, what that means, and how to start it again."""
        self._print(self._out, self._name(node.name), (f" {reason(code)}", _BAD), f"; {_consequence(plan, up)}")
        if can_start:
            self._print(self._out, f"press Enter here to start {node.name} again")
        else:
            self._print(self._out, f"to start it again: durable-streams {' '.join(plan.arguments(node))}")

    def stopped(self, name: str, code: int) -> None:
        """Say that a node ended because it was asked to."""
        self._print(self._out, self._name(name), " stopped" if code == 0 else (f" {reason(code)}", _BAD))

    def forced(self, name: str) -> None:
        """Say that a node is not waited for."""
        self._print(self._out, self._name(name), (" did not stop yet: killed", _BAD))

    # ------------------------------------------------------------------------------------------------------- writing

    def _name(self, text: str, name: str | None = None) -> Part:
        return text, self._style.get(name or text, "")

    def _print(self, console: Console, *parts: Part) -> None:
        try:
            console.print(Text.assemble(*parts), soft_wrap=True)
        except OSError:
            console.quiet = True  # Its reader is gone. The nodes go on.


def ready_line(plan: Plan, pids: Mapping[str, int]) -> str:
    """Return the line others wait for, lists in the order of the nodes. ``data=`` is the rest of the line."""
    words = ["ready"]
    words += [f"{each}={','.join(node.address(each) for node in plan.nodes)}" for each in ("http", "ops")]
    words.append(f"nodes={','.join(node.name for node in plan.nodes)}")
    words.append(f"pids={','.join(str(pids.get(node.name, '')) for node in plan.nodes)}")
    return " ".join([*words, f"data={plan.data_dir}"])


def reason(code: int) -> str:
    """Return in words what a process ended with; negative: minus the signal."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was killed ({name})"
    meaning = {0: "stopped, as it was asked to", 2: "refused to run (exit code 2): its last line says why"}
    return meaning.get(code, f"failed (exit code {code}): its last line says why")


def _survives(plan: Plan) -> str:
    count = len(plan.nodes)
    if count == 1:
        return "what it acknowledged survives kill -9 and power loss"
    lost = {1: "any one", 2: "any two"}[count - plan.majority]
    return f"what is acknowledged is on {plan.majority} of {count}, so {lost} may die"


def _consequence(plan: Plan, up: Sequence[str]) -> str:
    count = len(plan.nodes)
    if not up:
        return "no node is left, and nothing that was acknowledged is lost"
    rest, verb = (_list(up), "go on") if len(up) > 1 else (up[0], "goes on")
    if len(up) >= plan.majority:
        return f"{rest} {verb}: {len(up)} of {count} are a majority"
    return f"only {rest} left: {len(up)} of {count} is no majority, so requests wait, and are refused after a while"


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


class _Console(Console):
    """Rich's, which would end the process (and leave the nodes) when its reader goes away."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def _console(stream: TextIO) -> Console:
    return _Console(file=stream, highlight=False, markup=False, emoji=False)
