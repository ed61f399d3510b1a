"""What commands that ask a cluster have in common: where it is, how long to wait, and what becomes of failures."""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Mapping

from durable_streams_client import _arguments as arguments
from durable_streams_client import errors
from durable_streams_client._admin_text import printable
from durable_streams_client.client import Client

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_MISSING, EXIT_UNKNOWN, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_CODES = (
    "exit codes: 0 done, 1 refused or nobody answers, 2 bad usage, 3 no such stream, 4 nobody knows whether it was "
    "done, 130 interrupted"
)
PROBE_S = 3.0

Command = Callable[[Client, argparse.Namespace], Awaitable[int]]


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options of every such command."""
    parser.add_argument(
        "--target",
        metavar="HOST:GRPC,...|URL",
        type=arguments.cluster,
        help=f"the cluster (default {arguments.TARGET_ENV}, else {arguments.DEFAULT_TARGET})",
    )
    parser.add_argument("--token", help=f"who you are, if the server asks for that (default {arguments.TOKEN_ENV})")
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=arguments.seconds,
        default=30.0,
        help="how long to go on trying what fails (default 30s)",
    )


def take_environment(parser: argparse.ArgumentParser, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """What was not given on the command line."""
    if options.target is None:
        try:
            options.target = arguments.cluster(environ.get(arguments.TARGET_ENV) or arguments.DEFAULT_TARGET)
        except argparse.ArgumentTypeError as error:
            parser.error(f"environment {arguments.TARGET_ENV}: {error}")
    options.token = options.token or environ.get(arguments.TOKEN_ENV) or None


def run(command: Command, options: argparse.Namespace) -> int:
    """Run it against the cluster that the options name, and say what went wrong; the exit code."""
    # gRPC's C core writes lines of its own among ours; to be said before its first channel.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        return asyncio.run(_run(command, options))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read has what it wanted; Python must not find the same out at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except errors.DurableStreamError as error:
        about = f"{path}: " if (path := getattr(options, "path", "")) else ""
        return failed(f"{about}{error}", code_of(error))
    except OSError as error:
        return failed(f"{error.filename or ''}{': ' if error.filename else ''}{error.strerror or error}", EXIT_FAILED)
    except ValueError as error:
        return failed(str(error), EXIT_USAGE)
    except RecursionError:
        return failed("the JSON is nested too deeply", EXIT_USAGE)


def failed(text: str, code: int) -> int:
    """Say what went wrong; the exit code."""
    sys.stderr.write(f"durable-streams: error: {printable(text)}\n")
    return code


def code_of(error: errors.DurableStreamError) -> int:
    """What a failure is to a shell."""
    if isinstance(error, errors.StreamNotFoundError):
        return EXIT_MISSING
    return EXIT_UNKNOWN if error.maybe_applied else EXIT_FAILED


async def _run(command: Command, options: argparse.Namespace) -> int:
    async with Client(options.target, token=options.token, timeout_s=options.timeout) as client:
        if not options.target[0].startswith("http"):
            await _somebody_listens(options.target)
        return await command(client, options)


async def _somebody_listens(targets: list[str]) -> None:
    """Find out at once that nobody is there at all: a client would go on trying."""
    for target in targets:
        host, _, port = target.rpartition(":")
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PROBE_S):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
            return
    where = targets[0] if len(targets) == 1 else f"any of {', '.join(targets)}"
    raise errors.UnavailableError(
        f"nobody listens at {where}. Next step: start a node with durable-streams serve; or name one that runs, by its "
        "--grpc address, with --target HOST:PORT"
    )
