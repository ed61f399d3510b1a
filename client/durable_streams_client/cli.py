"""The ``durable-streams`` command: finds who answers a subcommand, and says what to install when nobody can.

It lives in the client, so that the base install has it. The cluster is loaded by name, only when asked for: the client
never depends on it, and starting a client command costs no import of RocksDB. Nor is gRPC loaded for what needs none.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

_CLUSTER_COMMANDS = {
    "serve": "run a node",
    "cluster": "try a cluster: three nodes in this terminal, with durable-streams cluster up",
    "gateway": "run HTTP in front of a cluster that is elsewhere: durable-streams gateway --target HOST:4438",
    "config": "check a configuration: durable-streams config check --config node.toml",
}

_STREAM_COMMANDS = {
    "create": "make a stream",
    "append": "write to a stream (write is the same)",
    "read": "print what a stream holds",
    "tail": "print what comes",
    "head": "show what is known of a stream",
    "close": "let a stream take no more",
    "delete": "delete a stream",
    "fork": "make a stream of another one",
    "list": "list streams",
    "export": "write a stream into a file",
    "import": "append what a file holds",
    "bench": "take a quick look at how fast a cluster is",
}

_CLIENT_COMMANDS = {
    "admin": "see how a cluster is, and change its members: durable-streams admin status",
    "completion": "let a shell complete commands and options: durable-streams completion --help",
}

_COMMANDS = _CLUSTER_COMMANDS | _STREAM_COMMANDS | _CLIENT_COMMANDS

_HELP = """\
usage: durable-streams COMMAND [OPTIONS]

Durable, replicated streams addressed by URL.

commands:
{commands}
options:
  -h, --help     show this help; durable-streams COMMAND --help tells more
  --version      show the version

example:
  durable-streams serve --data-dir ./data
  durable-streams append hello --create 'first\\n'     # in another terminal
  durable-streams read hello --live
  curl -i -X PUT  http://127.0.0.1:4437/v1/stream/hello -H 'Content-Type: text/plain'
  curl -i -X POST http://127.0.0.1:4437/v1/stream/hello -H 'Content-Type: text/plain' -d 'first'
  curl -i 'http://127.0.0.1:4437/v1/stream/hello?offset=-1'
"""

_INSTALL = "pip install 'durable-streams-cluster[cluster]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 clean, 1 a fault, 2 bad usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments:
        case []:
            return _print(_help(), sys.stderr, 2)
        case ["-h" | "--help" | "help", *_]:
            return _print(_help(), sys.stdout, 0)
        case ["--version" | "-V", *_]:
            return _print(f"durable-streams {_version()}\n", sys.stdout, 0)
        case [command, *_] if command in _CLUSTER_COMMANDS:
            return _run_cluster(arguments)
        case ["admin", "recover", *_]:
            return _run_cluster(arguments)  # Offline: it opens data directories, and asks no node.
        case ["admin", *rest]:
            return int(importlib.import_module("durable_streams_client.cli_admin").run(rest, os.environ))
        case ["bench", *rest]:
            return int(importlib.import_module("durable_streams_client.cli_bench").run(rest, os.environ))
        case ["completion", *rest]:
            return int(importlib.import_module("durable_streams_client.cli_completion").run(rest, _COMMANDS))
        case [command, *rest] if command in _STREAM_COMMANDS or command == "write":
            module = "cli_files" if command in ("export", "import") else "cli_streams"
            streams = importlib.import_module(f"durable_streams_client.{module}")
            return int(streams.run(command, rest, os.environ))
        case _:
            return _unknown(arguments[0])


def _run_cluster(arguments: list[str]) -> int:
    try:
        cluster = importlib.import_module("durable_streams_cluster.cli")
        return int(cluster.run(arguments))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package.startswith("durable_streams") and error.name != "durable_streams_cluster":
            raise  # A module of ours that should be there: no installation of extras helps.
        command = " ".join(arguments[: 2 if arguments[0] == "admin" else 1])
        message = f"durable-streams: {command} needs the package {package!r}, which is not installed; try:\n"
        return _print(f"{message}  {_INSTALL}\n", sys.stderr, 2)


def _unknown(command: str) -> int:
    near = difflib.get_close_matches(command, _COMMANDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    text = f"durable-streams: error: unknown command {command!r}{hint}\nTry: durable-streams --help\n"
    return _print(text, sys.stderr, 2)


def _help() -> str:
    return _HELP.format(commands="".join(f"  {name:<14} {text}\n" for name, text in _COMMANDS.items()))


def _version() -> str:
    try:
        return version("durable-streams-cluster")
    except PackageNotFoundError:  # run from the source tree, where both packages are
        return f"{importlib.import_module('durable_streams_cluster').__version__} (source)"


def _print(text: str, stream: TextIO, code: int) -> int:
    stream.write(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
