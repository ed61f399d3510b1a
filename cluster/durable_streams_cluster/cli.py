"""The cluster's commands: ``serve`` and ``config check``; ``cluster up`` and ``admin recover`` have their own files.

The edges of the process are all in this file: signals, exit codes, the ``ready`` line, the limit of open files.
The command that users type lives in the client (``durable_streams_client.cli``) and calls :func:`run`.
"""

import argparse
import asyncio
import gc
import importlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, Protocol, cast

from durable_streams_cluster.config import Addresses, Config
from durable_streams_cluster.errors import ConfigError, DataDirLocked, DiskHangs
from durable_streams_cluster.limits import MIN_CONNECTIONS, FilePlan
from durable_streams_cluster.observe import logs
from durable_streams_cluster.settings import BY_KEY, ENV_PREFIX, SETTINGS, unknown_key

EXIT_OK, EXIT_FAULT, EXIT_USAGE = 0, 1, 2

_log = logging.getLogger(__name__)

_EPILOG = """\
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


class UpModule(Protocol):
    """What this module needs of ``durable_streams_cluster.cli_up``."""

    def run(self, argv: Sequence[str], environ: Mapping[str, str], /) -> int:
        """Run a cluster on this machine, and return the exit code."""
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
            up = cast("UpModule", importlib.import_module("durable_streams_cluster.cli_up"))
            return up.run(argv[1:], environ)
        if argv[:1] == ["admin"]:
            offline = cast("OfflineModule", importlib.import_module("durable_streams_cluster.cli_recover"))
            return offline.run(argv[1:])
        options = _parse(argv)
        config = _load(options, environ)
    except ConfigError as error:
        return _say(str(error), EXIT_USAGE)
    except SystemExit as exit_:  # argparse has printed help (0) or its complaint (2)
        return EXIT_USAGE if exit_.code else EXIT_OK
    if options.command == "config":
        for warning in config.warnings:
            _say(warning, EXIT_OK)
        sys.stdout.write(config.to_toml())
        return EXIT_OK
    # gRPC's C core writes lines of its own among ours, past every format; to be said before it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Imported before anything is caught: a missing package is for the caller to explain (`pip install ...[cluster]`).
    module = node or cast("NodeModule", importlib.import_module("durable_streams_cluster.node"))
    return _serve(config, module)


# --- Arguments.


def build() -> argparse.ArgumentParser:
    """The parser of ``serve`` and ``config check``."""
    parser = argparse.ArgumentParser(prog="durable-streams", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_settings(commands, "serve", "run a node", "Run a node: store streams and serve them.", _SERVE_EXAMPLES)
    config = commands.add_parser("config", help="check a configuration", allow_abbrev=False)
    actions = config.add_subparsers(dest="action", required=True)
    description = "Print the effective configuration as TOML, with where each value came from."
    _add_settings(actions, "check", "print the effective configuration", description, _CHECK_EXAMPLES)
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = build()
    options, unknown = parser.parse_known_args(argv)
    for argument in unknown:
        flag = argument.partition("=")[0]
        if flag.startswith("--"):
            unknown_key(flag[2:], f"flag {flag}")
        raise ConfigError(f"unexpected argument {argument!r}")
    return options


def _add_settings(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, short: str, long: str, examples: str
) -> None:
    parser = commands.add_parser(
        name,
        help=short,
        description=long,
        epilog=examples + _EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with the settings below")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in SETTINGS:
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


def _load(options: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    flags = {key: value for key, value in vars(options).items() if key in BY_KEY and value is not None}
    path, source = options.config, "flag --config"
    if path is None and environ.get(ENV_PREFIX + "CONFIG"):
        path, source = environ[ENV_PREFIX + "CONFIG"], f"environment {ENV_PREFIX}CONFIG"
    if path is None:
        return Config.load(flags, environ, None)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source}: cannot read {path}: {error}") from error
    return Config.load(flags, environ, text, path)


# --- Serving.


def _serve(config: Config, node: NodeModule) -> int:
    logs.configure(config.log.format, config.log.level)
    for warning in config.warnings:
        _log.warning(warning)
    loop_factory = _loop_factory()
    try:
        config = _fit_open_files(config)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_run(config, node))
    except (ConfigError, DataDirLocked) as error:
        return _fail(config, error, EXIT_USAGE)
    except DiskHangs as error:
        _fail(config, error, EXIT_FAULT)
        _exit_now()
    except Exception as error:  # the last place that can turn a fault into an exit code
        return _fail(config, error, EXIT_FAULT)
    return EXIT_OK


async def _run(config: Config, node: NodeModule) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stopping.is_set():
            sys.stderr.write(f"durable-streams: {signal.Signals(number).name} again: ending at once\n")
            _exit_now()
        _log.info("%s: draining; a second signal ends at once", signal.Signals(number).name)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)

    def on_ready(addresses: Addresses) -> None:
        _spare_collector()
        _print_ready(config, addresses)

    await node.run_node(config, stopping, on_ready)


def _spare_collector() -> None:
    """Let Python look for cycles seldom, and never among what the start made: each full look holds all requests up.

    Measured while 1,500 connections were opened: five of them, of up to 65 ms. What a node makes and drops has few
    cycles, and the looks at what is young find those.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _exit_now() -> NoReturn:
    """End without drain, and without waiting for any thread; RocksDB's would be waited for in C.

    Safe at any moment: what was acknowledged is on disk, as after a power cut.
    """
    sys.stderr.flush()
    os._exit(EXIT_FAULT)


def ready_line(config: Config, addresses: Addresses) -> str:
    """Return the line others wait for. ``data=`` comes last: it may have spaces, and is the rest of the line."""
    words = ["ready"]
    for name in ("http", "grpc", "peer", "ops"):
        address = getattr(addresses, name)
        if address is not None:
            words.append(f"{name}={address}")
    return " ".join([*words, f"node={config.node}", f"data={':memory:' if config.in_memory else config.data_dir}"])


def _print_ready(config: Config, addresses: Addresses) -> None:
    try:
        sys.stdout.write(ready_line(config, addresses) + "\n")
        sys.stdout.flush()
    except OSError as error:
        _log.warning("cannot write the ready line: %s", error)
        # Serving goes on. What is left in the buffer would fail again at exit, and turn a clean exit into code 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    # By name, as the node: `config check` must work without the packages that serving needs.
    return cast("Callable[[], asyncio.AbstractEventLoop]", importlib.import_module("uvloop").new_event_loop)


def _fit_open_files(config: Config) -> Config:
    """Ask for as many open files as the system lets us; where that is fewer than planned, accept fewer connections.

    Shells and containers often start with 1,024, fewer than our connections.

    Raises:
        ConfigError: too few for any use.

    """
    limits = config.limits
    wanted = FilePlan.wanted(limits.max_connections, in_memory=config.in_memory)
    allowed = _allow_open_files(wanted.files)
    plan = wanted.within(allowed)
    if plan == wanted:
        return config
    numbers = (
        f"the system allows this process {allowed} open files, and {wanted.reserved} are for the node itself: that "
        f"leaves room for {plan.connections} connections, not {wanted.connections}"
    )
    advice = f"raise the limit to {wanted.files} (ulimit -n in a shell, LimitNOFILE= in a systemd unit) and start again"
    least = min(MIN_CONNECTIONS, wanted.connections)
    if plan.connections < least:
        raise ConfigError(f"{numbers}, and at least {least} must fit; {advice}")
    _log.warning("%s; one more is refused with 503. For all of them, %s", numbers, advice)
    return replace(config, limits=replace(limits, max_connections=plan.connections))


def _allow_open_files(wanted: int) -> int:
    """Raise the limit of open files to ``wanted``, or as near as the hard limit is; return how many are allowed now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    except (OSError, ValueError) as error:  # a sandbox may forbid what the numbers allow
        _log.debug("cannot raise the limit of open files to %d: %s", reachable, error)
        return soft
    return reachable


def _fail(config: Config, error: BaseException, code: int) -> int:
    """Say one line; the traceback is for people who asked for debug."""
    _log.debug("traceback of the error below", exc_info=error)
    name = "" if isinstance(error, (ConfigError, DataDirLocked)) else f"{type(error).__name__}: "
    text = " ".join(str(error).split())
    message = f"{name}{text}" if text else type(error).__name__
    if config.log.format == "json":
        _log.error("%s", message)
        return code
    return _say(message, code)


def _say(message: str, code: int) -> int:
    kind = "warning" if code == EXIT_OK else "error"
    sys.stderr.write(f"durable-streams: {kind}: {logs.escape(message)}\n")
    return code
