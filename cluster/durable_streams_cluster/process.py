"""The edges of a process that serves: signals, exit codes, the ready line, the limit of open files.

All commands that serve go through :func:`serve`; what they serve is an argument.
"""

import asyncio
import gc
import importlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NoReturn, cast

from durable_streams_cluster.config import LogConfig
from durable_streams_cluster.errors import ConfigError, DataDirLocked, DiskHangs
from durable_streams_cluster.limits import MIN_CONNECTIONS, FilePlan, Limits
from durable_streams_cluster.observe import logs

EXIT_OK, EXIT_FAULT, EXIT_USAGE = 0, 1, 2

_log = logging.getLogger(__name__)

Main = Callable[[Limits, asyncio.Event, Callable[[str], None]], Awaitable[None]]
"""Serves within limits until the event is set, then drains; calls back once, with the ready line."""


def serve(log: LogConfig, warnings: Sequence[str], limits: Limits, main: Main, *, stores: bool) -> int:
    """Run ``main`` on an event loop of its own until a signal comes, and return the exit code.

    Args:
        log: How the process logs.
        warnings: Of the configuration.
        limits: What is asked for; ``main`` gets fewer connections where the process may not open so many files.
        main: What is served.
        stores: Whether it has a store, which needs files.

    """
    logs.configure(log.format, log.level)
    for warning in warnings:
        _log.warning(warning)
    loop_factory = _loop_factory()
    try:
        fitting = _fit_open_files(limits, stores=stores)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_run(fitting, main))
    except (ConfigError, DataDirLocked) as error:
        return _fail(log, error, EXIT_USAGE)
    except DiskHangs as error:
        _fail(log, error, EXIT_FAULT)
        _exit_now()
    except Exception as error:  # the last place that can turn a fault into an exit code
        return _fail(log, error, EXIT_FAULT)
    return EXIT_OK


async def _run(limits: Limits, main: Main) -> None:
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

    def on_ready(line: str) -> None:
        _spare_collector()
        print_ready(line)

    await main(limits, stopping, on_ready)


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


def print_ready(line: str) -> None:
    """Print the line that others wait for."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError as error:
        _log.warning("cannot write the ready line: %s", error)
        # Serving goes on. What is left in the buffer would fail again at exit, and turn a clean exit into code 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    # By name, as the node: `config check` must work without the packages that serving needs.
    return cast("Callable[[], asyncio.AbstractEventLoop]", importlib.import_module("uvloop").new_event_loop)


def _fit_open_files(limits: Limits, *, stores: bool) -> Limits:
    """Ask for as many open files as the system lets us; where that is fewer than planned, accept fewer connections.

    Shells and containers often start with 1,024, fewer than our connections.

    Raises:
        ConfigError: too few for any use.

    """
    wanted = FilePlan.wanted(limits.max_connections, in_memory=not stores)
    allowed = _allow_open_files(wanted.files)
    plan = wanted.within(allowed)
    if plan == wanted:
        return limits
    numbers = (
        f"the system allows this process {allowed} open files, and {wanted.reserved} are for the process itself: that "
        f"leaves room for {plan.connections} connections, not {wanted.connections}"
    )
    advice = f"raise the limit to {wanted.files} (ulimit -n in a shell, LimitNOFILE= in a systemd unit) and start again"
    least = min(MIN_CONNECTIONS, wanted.connections)
    if plan.connections < least:
        raise ConfigError(f"{numbers}, and at least {least} must fit; {advice}")
    _log.warning("%s; one more is refused with 503. For all of them, %s", numbers, advice)
    return replace(limits, max_connections=plan.connections)


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


def _fail(log: LogConfig, error: BaseException, code: int) -> int:
    """Say one line; the traceback is for people who asked for debug."""
    _log.debug("traceback of the error below", exc_info=error)
    name = "" if isinstance(error, (ConfigError, DataDirLocked)) else f"{type(error).__name__}: "
    text = " ".join(str(error).split())
    message = f"{name}{text}" if text else type(error).__name__
    if log.format == "json":
        _log.error("%s", message)
        return code
    return say(message, code)


def say(message: str, code: int) -> int:
    """Say one line on standard error, an error or (of code 0) a warning; return the code."""
    kind = "warning" if code == EXIT_OK else "error"
    sys.stderr.write(f"durable-streams: {kind}: {logs.escape(message)}\n")
    return code
