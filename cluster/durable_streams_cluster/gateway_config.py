"""What a stand-alone gateway was told, as frozen and checked values. Pure, as ``config``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from durable_streams_cluster.config import LogConfig, limits_of, listeners, log_of
from durable_streams_cluster.given import Values, items, parse_url, resolve, unknown_environment
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.settings import GATEWAY_SETTINGS, Address, parse_address

MAX_WORKERS = 64


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """All a gateway is told. Made by :meth:`load` only, which checks every rule."""

    target: tuple[str, ...]
    """``HOST:PORT`` of nodes' listeners for clients."""
    token: str | None
    workers: int
    http: Address
    ops: Address
    public_url: str | None
    log: LogConfig
    limits: Limits
    warnings: tuple[str, ...]
    """For the log: what was ignored."""

    @staticmethod
    def load(
        argv_values: Mapping[str, str], environ: Mapping[str, str], file_text: str | None, file_name: str = "--config"
    ) -> "GatewayConfig":
        """Resolve and check every setting; ``argv_values`` is keyed by setting. Raises ConfigError."""
        values = Values(resolve(GATEWAY_SETTINGS, argv_values, environ, file_text, file_name))
        http, ops = listeners(values, ("http", "ops"))
        workers = values.get("workers", _parse_workers)
        if ops.port and ops.port + workers > 65536:
            values.refuse("ops", f"{workers} workers would take ports up to {ops.port + workers - 1}")
        if http.port and ops.port < http.port < ops.port + workers and http.host == ops.host:
            values.refuse("ops", f"{workers} workers take ports up to {ops.port + workers - 1}, and http is among them")
        return GatewayConfig(
            target=values.get("target", _parse_target),
            token=_token(values),
            workers=workers,
            http=http,
            ops=ops,
            public_url=values.get("public-url", parse_url),
            log=log_of(values),
            limits=limits_of(values),
            warnings=unknown_environment(environ),
        )


def _parse_target(text: str) -> tuple[str, ...]:
    found = items(text)
    if not found:
        raise ValueError("names no node: write HOST:PORT of its --grpc listener")
    for each in found:
        if "://" in each:
            raise ValueError(f"{each!r} is a URL: a gateway speaks gRPC to nodes; write HOST:PORT of a --grpc listener")
        if not parse_address(each).port:
            raise ValueError(f"{each!r} has no port that can be dialed")
    return tuple(dict.fromkeys(found))


def _token(values: Values) -> str | None:
    """Without saying in an error what it is."""
    text = values.given["token"].text
    if not re.fullmatch(r"[!-~]*", text):
        values.refuse("token", "has characters that no token has: a line end perhaps, from a file")
    return text or None


def _parse_workers(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"{text!r} is not a number from 1 to {MAX_WORKERS}")
    return int(text)
