"""``durable-streams completion``: what lets a shell finish words of this program.

The words come from the parsers of all commands, once, when the program for the shell is made: a key that is pressed in
a shell starts no Python.
"""

import argparse
import importlib
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from durable_streams_client import cli_admin, cli_bench, cli_files, cli_streams
from durable_streams_client import cli_common as common
from durable_streams_client._completion import Command, Option, commands_of, merged
from durable_streams_client._shells import INSTALL, script

_OF_THE_CLUSTER = ("cli", "cli_up", "cli_gateway", "cli_recover")
"""Modules that may have a function ``build``, which makes a parser."""
_ALSO_WITHOUT_IT = (
    Command(("cluster",), {"up": "run a cluster on this machine"}),
    Command(("config",), {"check": "print the effective configuration"}),
)
_DESCRIPTION = """\
Print a program that lets a shell complete the names of commands and options, and what an option may be. It knows what
is installed now: make it anew after an upgrade.
"""
_EPILOG = "\n".join(
    [
        *(f"{shell}:\n{textwrap.indent(text, '  ')}" for shell, text in INSTALL.items()),
        "example:\n  durable-streams completion bash | less\n",
        "exit codes: 0 done, 2 bad usage",
    ]
)


def run(argv: Sequence[str], commands: Mapping[str, str]) -> int:
    """Run ``completion`` and return the exit code; ``commands``: all of this program, and what each does."""
    try:
        options = build().parse_args(list(argv))
    except SystemExit as exit_:  # argparse has printed help (0) or its complaint (2)
        return common.EXIT_USAGE if exit_.code else common.EXIT_OK
    sys.stdout.write(script(options.shell, known(commands)))
    return common.EXIT_OK


def build() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog="durable-streams completion",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("shell", metavar="SHELL", choices=tuple(INSTALL), help="bash, zsh or fish")
    return parser


def known(commands: Mapping[str, str]) -> list[Command]:
    """All that may be typed; of a command of the cluster only the name, where its parser cannot be loaded."""
    program = Command((), commands, (Option(("-h", "--help"), "show help"), Option(("--version",), "show the version")))
    return merged([program, *_ALSO_WITHOUT_IT, *(each for parser in _parsers() for each in commands_of(parser))])


def _parsers() -> Iterator[argparse.ArgumentParser]:
    for name in cli_streams.NAMES:
        yield cli_streams.build(name)
    yield cli_streams.build("append", "write")
    yield from (cli_files.build("export"), cli_files.build("import"), cli_bench.build(), build(), cli_admin.build())
    for name in _OF_THE_CLUSTER:
        try:
            module = importlib.import_module(f"durable_streams_cluster.{name}")
        except ImportError:
            continue  # Of what is not installed the names are known.
        if hasattr(module, "build"):
            yield module.build()
