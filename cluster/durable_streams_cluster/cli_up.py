"""``cluster up``: arguments, what is looked at before anything is started, signals, and the key that starts a node."""

import argparse
import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from durable_streams_cluster.errors import ConfigError, StorageError
from durable_streams_cluster.local.children import Children
from durable_streams_cluster.local.plan import LISTENERS, LOOPBACK, LocalNode, Plan, plan
from durable_streams_cluster.local.screen import Screen
from durable_streams_cluster.settings import ENV_PREFIX
from durable_streams_cluster.storage.identity import IdentityFile

EXIT_OK, EXIT_FAULT, EXIT_USAGE = 0, 1, 2

_DESCRIPTION = """\
Run a cluster on this machine, in this terminal: one process a node, every node's log with its name in front.
A node that ends stays down until Enter is pressed here; ctrl-C stops all nodes, and a second one ends them at once.
"""
_EPILOG = """\
node i (from 0) listens on 127.0.0.1, at ports BASE+10i (http), +1 (grpc), +2 (peer), +3 (ops), and keeps its data in
DIR/n1, DIR/n2, ... Start it again on the same DIR, and the streams are there.
Settings of all nodes come from the environment: DURABLE_STREAMS_LOG_LEVEL=debug, DURABLE_STREAMS_CONFIG=all.toml;
`durable-streams serve --help` lists them.

examples:
  durable-streams cluster up
  durable-streams cluster up --nodes 5 --base-port 5000 --data-dir /tmp/five

exit codes: 0 all nodes ended cleanly, 1 a fault, 2 bad usage, a port in use, or a data directory of something else
"""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run ``up ...`` and return the exit code.

    Raises:
        ConfigError: what is asked for cannot be; nothing was started.
        SystemExit: argparse printed help (0) or its complaint (2).

    """
    options = build().parse_args(argv)
    asked = plan(options.nodes, options.data_dir or environ.get(f"{ENV_PREFIX}DATA_DIR") or "./data", options.base_port)
    _check_data(asked)
    _check_ports(asked)
    screen = Screen([node.name for node in asked.nodes], sys.stdout, sys.stderr)
    code = asyncio.run(_run(asked, screen))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # Its reader is gone: Python would fail on what is left, and end with another code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def build() -> argparse.ArgumentParser:
    """The parser of ``cluster up``."""
    parser = argparse.ArgumentParser(prog="durable-streams cluster", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True)
    up = actions.add_parser(
        "up",
        help="run a cluster on this machine",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    up.add_argument("--nodes", type=int, default=3, metavar="N", help="how many: 1, 3 or 5 (default 3)")
    up.add_argument("--data-dir", metavar="DIR", help="where their data is (default ./data)")
    up.add_argument("--base-port", type=int, default=4437, metavar="PORT", help="the first port (default 4437)")
    return parser


# --- Before anything is started.


def _check_data(asked: Plan) -> None:
    """Refuse to leave out members of the cluster that was begun there; more nodes than those join it."""
    names = [node.name for node in asked.nodes]
    for place in sorted(Path(asked.data_dir).glob("*/identity")):
        try:
            found = IdentityFile(place.parent).read()
        except StorageError as error:
            raise ConfigError(str(error)) from error
        if found is not None and found.begun and found.node not in names:
            raise ConfigError(
                f"{place.parent} is of a member of the cluster in {asked.data_dir}, and --nodes {len(names)} would "
                f"start without it. Next step: give --nodes as many as there are; or, if {found.node} was removed from "
                f"the cluster (durable-streams admin remove), move {place.parent} elsewhere or delete it; or name "
                "another --data-dir"
            )


def _check_ports(asked: Plan) -> None:
    """Refuse ports that are taken, all of them in one message."""
    taken = []
    for node in asked.nodes:
        for listener in LISTENERS:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As the servers do.
                try:
                    probe.bind((LOOPBACK, node.port(listener)))
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise ConfigError(f"cannot listen on {node.address(listener)}: {error.strerror}") from error
                    taken.append(f"{node.address(listener)} ({node.name} {listener})")
    if taken:
        words = "is" if len(taken) == 1 else "are"
        raise ConfigError(
            f"{', '.join(taken)} {words} in use by another process (perhaps a cluster that still runs). Next step: end "
            "it, or choose other ports with --base-port"
        )


def _note(asked: Plan) -> str:
    """Tell of streams nearby that will not be seen: ``serve`` keeps its own in the same directory."""
    if (Path(asked.data_dir) / "identity").exists():
        return f"note: {asked.data_dir} itself holds the streams of a single node; they are not part of this cluster"
    return ""


# --- Running.


def _command(asked: Plan, node: LocalNode) -> Sequence[str]:
    # -P: what lies in the present directory is not to be taken for a module.
    return (sys.executable, "-P", "-m", "durable_streams_cluster.cli_child", *asked.arguments(node))


async def _run(asked: Plan, screen: Screen) -> int:
    children = Children(asked, lambda node: _command(asked, node), screen)
    stopping = asyncio.Event()
    _on_signals(children, screen, stopping)
    screen.starting(asked, _note(asked))
    tasks: set[asyncio.Task[None]] = set()
    try:
        code = await _until_over(children, stopping, tasks)
    finally:
        for task in tasks:
            task.cancel()
        clean = await children.stop()
    return code if clean or code else EXIT_FAULT


async def _until_over(children: Children, stopping: asyncio.Event, tasks: "set[asyncio.Task[None]]") -> int:
    """Run until somebody asks for the end (0), or there is nothing left to run."""
    asked = asyncio.create_task(stopping.wait(), name="asked")
    starting = asyncio.create_task(children.start_all(), name="start")
    await asyncio.wait([asked, starting], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
        return EXIT_OK
    ended = starting.result()
    if ended is not None:
        asked.cancel()
        return EXIT_USAGE if ended == EXIT_USAGE else EXIT_FAULT
    _listen(children, tasks)
    watching = asyncio.create_task(children.watch(), name="watch")
    tasks.add(watching)
    await asyncio.wait([asked, watching], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if watching.done():
        watching.result()
        return EXIT_FAULT
    return EXIT_OK


def _on_signals(children: Children, screen: Screen, stopping: asyncio.Event) -> None:
    def on_signal() -> None:
        if stopping.is_set():
            children.end_at_once()
        else:
            screen.stopping(list(children.pids()))
            stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


def _listen(children: Children, tasks: "set[asyncio.Task[None]]") -> None:
    """Start what is down whenever a line comes from standard input."""
    loop = asyncio.get_running_loop()
    # In the background of a shell, reading would stop this process.
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)

    def on_input() -> None:
        try:
            given = os.read(0, 4096)
        except OSError:
            given = b""
        if b"\n" in given:
            task = asyncio.ensure_future(children.start_those_down())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if not given:
            loop.remove_reader(0)
            children.can_start = False

    with contextlib.suppress(OSError):  # Nothing that can be waited for, as /dev/null.
        loop.add_reader(0, on_input)
        children.can_start = True
