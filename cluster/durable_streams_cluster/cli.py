"""The cluster's commands: ``serve`` and ``config check``; ``cluster up`` and ``admin recover`` have their own files.

The edges of the process are in ``process``. The command that users type lives in the client
(``durable_streams_client.cli``) and calls :func:`run`.
"""

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar, cast

from durable_streams_cluster.config import Addresses, Config
from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.process import EXIT_OK, EXIT_USAGE, say, serve
from durable_streams_cluster.settings import BY_KEY, ENV_PREFIX, SETTINGS, Setting, unknown_key

EPILOG = """\
Each setting can also be given as DURABLE_STREAMS_NAME (DURABLE_STREAMS_DATA_DIR=/data) or in the TOML file
(data-dir = "/data"); a flag wins over the environment, which wins over the file. The environment and the file
also have log.format (text, json) and log.level: DURABLE_STREAMS_LOG_FORMAT=json, or [log] format = "json".
Times: 500ms, 30s, 2m. Sizes: 16MiB, 1GB, or plain bytes. Port 0: any free port; the ready line says which.

exit codes: 0 clean, 1 a fault, 2 bad usage or configuration, or a locked data directory
"""
_SERVE_EXAMPLES = """\
examples:
  durable-streams serve
  durable-streams serve --data-dir /var/lib/durable-streams --http 127.0.0.1:8080
  durable-streams serve --in-memory --http 127.0.0.1:0
  durable-streams serve --http 0.0.0.0:4437 --allow-unauthenticated     # inside a container

"""
_CHECK_EXAMPLES = """\
examples:
  durable-streams config check --config node.toml
  durable-streams config check --http 0.0.0.0:4437 --allow-unauthenticated > node.toml

"""


class NodeModule(Protocol):
    """What this module needs of ``durable_streams_cluster.node``."""

    async def run_node(self, config: Config, stopping: asyncio.Event, on_ready: Callable[[Addresses], None], /) -> None:
        """Run until ``stopping`` is set and everything is drained; call ``on_ready`` once, when requests are served."""
        ...


class CommandModule(Protocol):
    """What this module needs of ``cli_up`` and ``cli_gateway``."""

    def run(self, argv: Sequence[str], environ: Mapping[str, str], /) -> int:
        """Run a cluster on this machine, or a gateway, and return the exit code."""
        ...


class OfflineModule(Protocol):
    """What this module needs of ``durable_streams_cluster.cli_recover``."""

    def run(self, argv: Sequence[str], /) -> int:
        """Look at data directories, or recover one, and return the exit code."""
        ...


def run(argv: Sequence[str], *, environ: Mapping[str, str] | None = None, node: NodeModule | None = None) -> int:
    """Run ``serve``, ``config check``, ``cluster up`` or ``admin recover`` with what follows; return the exit code.

    Tests pass ``environ`` and ``node``.
    """
    environ = os.environ if environ is None else environ
    try:
        if argv[:1] == ["cluster"]:
            # By name, as the node: `config check` must work without the packages that it needs.
            up = cast("CommandModule", importlib.import_module("durable_streams_cluster.cli_up"))
            return up.run(argv[1:], environ)
        if argv[:1] == ["admin"]:
            offline = cast("OfflineModule", importlib.import_module("durable_streams_cluster.cli_recover"))
            return offline.run(argv[1:])
        if argv[:1] == ["gateway"]:
            gateway = cast("CommandModule", importlib.import_module("durable_streams_cluster.cli_gateway"))
            return gateway.run(argv[1:], environ)
        options = _parse(argv)
        config = load(options, environ, BY_KEY, Config.load)
    except ConfigError as error:
        return say(str(error), EXIT_USAGE)
    except SystemExit as exit_:  # argparse has printed help (0) or its complaint (2)
        return EXIT_USAGE if exit_.code else EXIT_OK
    if options.command == "config":
        for warning in config.warnings:
            say(warning, EXIT_OK)
        sys.stdout.write(config.to_toml())
        return EXIT_OK
    # gRPC's C core writes lines of its own among ours, past every format; to be said before it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Imported before anything is caught: a missing package is for the caller to explain (`pip install ...[cluster]`).
    module = node or cast("NodeModule", importlib.import_module("durable_streams_cluster.node"))

    async def main(limits: Limits, stopping: asyncio.Event, on_ready: Callable[[str], None]) -> None:
        fitting = replace(config, limits=limits)
        await module.run_node(fitting, stopping, lambda addresses: on_ready(ready_line(fitting, addresses)))

    return serve(config.log, config.warnings, config.limits, main, stores=not config.in_memory)


# --- Arguments.


def build() -> argparse.ArgumentParser:
    """The parser of ``serve`` and ``config check``."""
    parser = argparse.ArgumentParser(prog="durable-streams", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_command(commands, "serve", "run a node", "Run a node: store streams and serve them.", _SERVE_EXAMPLES)
    config = commands.add_parser("config", help="check a configuration", allow_abbrev=False)
    actions = config.add_subparsers(dest="action", required=True)
    description = "Print the effective configuration as TOML, with where each value came from."
    _add_command(actions, "check", "print the effective configuration", description, _CHECK_EXAMPLES)
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    return parse_strictly(build(), argv, BY_KEY)


def parse_strictly(
    parser: argparse.ArgumentParser, argv: Sequence[str], known: Mapping[str, Setting]
) -> argparse.Namespace:
    """Parse, and say of an unknown flag which of the ``known`` ones may have been meant. Raises ConfigError."""
    options, unknown = parser.parse_known_args(argv)
    for argument in unknown:
        flag = argument.partition("=")[0]
        if flag.startswith("--"):
            if (setting := known.get(flag[2:])) is not None:
                raise ConfigError(f"flag {flag}: give it as {setting.env} in the environment, or in the file")
            unknown_key(flag[2:], f"flag {flag}", [key for key, setting in known.items() if setting.flag])
        raise ConfigError(f"unexpected argument {argument!r}")
    return options


def _add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, short: str, long: str, examples: str
) -> None:
    parser = commands.add_parser(
        name,
        help=short,
        description=long,
        epilog=examples + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_settings(parser, SETTINGS)


def add_settings(parser: argparse.ArgumentParser, settings: Sequence[Setting]) -> None:
    """Add ``--config``, and a flag for each setting that has one."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with the settings below")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in settings:
        if not setting.flag:
            continue
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        default = f" (default {setting.default})" if setting.default not in ("", "false") else ""
        text = (setting.help + default).replace("%", "%%")
        flag = f"--{setting.key}"
        if setting.kind == "switch":
            groups[setting.group].add_argument(
                flag, action="store_const", const="true", dest=setting.key, default=None, help=text
            )
        else:
            groups[setting.group].add_argument(flag, metavar=setting.metavar, dest=setting.key, help=text)


Loaded = TypeVar("Loaded")


def load(
    options: argparse.Namespace,
    environ: Mapping[str, str],
    known: Collection[str],
    read: Callable[[Mapping[str, str], Mapping[str, str], str | None, str], Loaded],
) -> Loaded:
    """Read the file that was named, if one was, and make a configuration with ``read``. Raises ConfigError."""
    flags = {key: value for key, value in vars(options).items() if key in known and value is not None}
    path, source = options.config, "flag --config"
    if path is None and environ.get(ENV_PREFIX + "CONFIG"):
        path, source = environ[ENV_PREFIX + "CONFIG"], f"environment {ENV_PREFIX}CONFIG"
    if path is None:
        return read(flags, environ, None, "")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source}: cannot read {path}: {error}") from error
    return read(flags, environ, text, path)


def ready_line(config: Config, addresses: Addresses) -> str:
    """Return the line others wait for. ``data=`` comes last: it may have spaces, and is the rest of the line."""
    words = ["ready"]
    for name in ("http", "grpc", "peer", "ops"):
        address = getattr(addresses, name)
        if address is not None:
            words.append(f"{name}={address}")
    return " ".join([*words, f"node={config.node}", f"data={':memory:' if config.in_memory else config.data_dir}"])
