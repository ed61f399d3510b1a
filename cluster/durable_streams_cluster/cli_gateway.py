"""``durable-streams gateway``: HTTP in front of a cluster elsewhere, in one process or several."""

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from durable_streams_cluster.cli import EPILOG, add_settings, load, parse_strictly
from durable_streams_cluster.config import Addresses
from durable_streams_cluster.gateway_config import GatewayConfig
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.local.workers import Workers
from durable_streams_cluster.process import serve
from durable_streams_cluster.settings import GATEWAY_SETTINGS, Address

_DESCRIPTION = """\
Run a gateway: the Durable Streams protocol over HTTP, in front of nodes that are elsewhere.

It stores nothing, so that there may be as many as there is traffic, behind any load balancer. Each stream that somebody
follows is read from the cluster once, however many follow it here; nodes that come, go or lead end no live read.
"""
_EXAMPLES = """\
examples:
  durable-streams gateway --target 10.0.0.1:4438,10.0.0.2:4438,10.0.0.3:4438
  durable-streams gateway --target db:4438 --http 0.0.0.0:4537 --workers 4 --allow-unauthenticated

With --workers N, N processes take the connections to --http in turn. Each has an ops listener of its own: the first at
--ops, the next one port higher.

"""
_BY_KEY = {setting.key: setting for setting in GATEWAY_SETTINGS}


def build() -> argparse.ArgumentParser:
    """The parser of ``gateway``."""
    parser = argparse.ArgumentParser(
        prog="durable-streams gateway",
        description=_DESCRIPTION,
        epilog=_EXAMPLES + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_settings(parser, GATEWAY_SETTINGS)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # Of a process that another gateway started.
    return parser


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a gateway with what follows ``gateway``; return the exit code.

    Raises:
        ConfigError: what is asked for cannot be; nothing was started.
        SystemExit: argparse printed help (0) or its complaint (2).

    """
    options = parse_strictly(build(), argv, _BY_KEY)
    config = load(options, environ, _BY_KEY, GatewayConfig.load)
    # gRPC's C core writes lines of its own among ours, past every format; to be said before it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if options.worker is None and config.workers > 1:
        return _supervise(config, argv)
    return _serve(config, options.worker)


def _serve(config: GatewayConfig, worker: int | None) -> int:
    # By name: `--help` and what is wrong with a setting need none of its packages.
    module = importlib.import_module("durable_streams_cluster.stand_alone")
    if worker is not None and config.ops.port:
        config = replace(config, ops=Address(config.ops.host, config.ops.port + worker))

    async def main(limits: Limits, stopping: asyncio.Event, on_ready: Callable[[str], None]) -> None:
        await module.run_gateway(
            replace(config, limits=limits),
            stopping,
            lambda addresses: on_ready(_ready_line(addresses)),
            shares_port=worker is not None,
        )

    return serve(config.log, config.warnings, config.limits, main, stores=False)


def _supervise(config: GatewayConfig, argv: Sequence[str]) -> int:
    async def main(_: Limits, stopping: asyncio.Event, on_ready: Callable[[str], None]) -> None:
        # -P: what lies in the present directory is not to be taken for a module.
        program = (sys.executable, "-P", "-m", "durable_streams_cluster.cli_child", "gateway", *argv)
        workers = Workers(config.http, config.workers, program)
        try:
            lines = await workers.start(stopping)
            if not stopping.is_set():
                ops = ",".join(line.partition(" ops=")[2] for line in lines)
                pids = ",".join(map(str, workers.pids()))
                on_ready(f"ready http={workers.address} ops={ops} pids={pids}")
            await workers.watch(stopping)
        finally:
            await workers.stop()

    return serve(config.log, config.warnings, config.limits, main, stores=False)


def _ready_line(addresses: Addresses) -> str:
    return f"ready http={addresses.http} ops={cast('Address', addresses.ops)}"
