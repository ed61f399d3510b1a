"""Config: what a node was told, as frozen and checked values; where each came from is kept beside it.

``settings.SETTINGS`` is the one list of what there is, and ``given`` finds who gave what. Everything here is pure:
``Config.load`` is handed the arguments, the environment and the text of the file (``cli`` alone reads them), so a test
needs no process and no disk.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from durable_streams_cluster.given import (
    Given,
    Values,
    by_program,
    items,
    one_of,
    parse_switch,
    parse_url,
    resolve,
    to_toml,
    unknown_environment,
)
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import MAX_APPEND_BYTES, MIB, MIN_MEMORY_BUDGET, Limits, MemoryShares
from durable_streams_cluster.policies import Policies, parse_policies
from durable_streams_cluster.settings import (
    BY_KEY,
    SETTINGS,
    Address,
    parse_address,
    parse_duration,
    parse_host,
    parse_size,
)


@dataclass(frozen=True, slots=True)
class Member:
    """One node of ``--initial-cluster``."""

    node: NodeId
    peer: Address


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the node listens, as configured."""

    http: Address
    grpc: Address
    peer: Address
    ops: Address


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the node really listens: ports picked by the system are filled in; None is a listener that is not open."""

    http: Address
    grpc: Address | None = None
    peer: Address | None = None
    ops: Address | None = None


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How the process logs."""

    format: str
    """``text`` or ``json``."""
    level: str
    """``debug``, ``info``, ``warning`` or ``error``."""


@dataclass(frozen=True, slots=True)
class Config:
    """All a node is told. Made by :meth:`load` or :meth:`of`, which check every rule; constructors get sections."""

    node: NodeId
    data_dir: str
    in_memory: bool
    listen: Listen
    advertise: str
    public_url: str | None
    initial_cluster: tuple[Member, ...]
    join: tuple[Address, ...]
    allow_unauthenticated: bool
    log: LogConfig
    limits: Limits
    policies: Policies
    given: tuple[Given, ...]
    warnings: tuple[str, ...]
    """For the log: what was ignored."""

    @staticmethod
    def load(
        argv_values: Mapping[str, str], environ: Mapping[str, str], file_text: str | None, file_name: str = "--config"
    ) -> "Config":
        """Resolve and check every setting; ``argv_values`` is keyed by setting (``data-dir``). Raises ConfigError."""
        values = resolve(SETTINGS, argv_values, environ, file_text, file_name)
        return _build(values, unknown_environment(environ))

    @staticmethod
    def of(arguments: Mapping[str, object]) -> "Config":
        """Resolve and check what a program gives, by setting, as values of the file. Raises ConfigError."""
        values = by_program(SETTINGS, arguments)
        return _build(values, ())

    def to_toml(self) -> str:
        """Return the effective settings as a file that :meth:`load` accepts, each with where it came from."""
        return to_toml(self.given, BY_KEY)


# --- Values and the rules between them.


def _build(given: dict[str, Given], warnings: tuple[str, ...]) -> Config:
    values = Values(given)
    listen = Listen(*listeners(values, ("http", "grpc", "peer", "ops")))
    advertise = _advertise(values, listen)
    if not given["advertise"].text:
        given["advertise"] = Given("advertise", advertise, "default: the host of --peer")
    node = values.get("node", _parse_node)
    in_memory = values.get("in-memory", parse_switch)
    initial, join = _membership(values, node, in_memory)
    data_dir = values.text("data-dir")
    if not data_dir:
        values.refuse("data-dir", "must name a directory")
    return Config(
        node=node,
        data_dir=data_dir,
        in_memory=in_memory,
        listen=listen,
        advertise=advertise,
        public_url=values.get("public-url", parse_url),
        initial_cluster=initial,
        join=join,
        allow_unauthenticated=values.get("allow-unauthenticated", parse_switch),
        log=log_of(values),
        limits=replace(
            limits_of(values),
            disk_reserve=values.get("disk-reserve", lambda text: 0 if text == "auto" else parse_size(text)),
        ),
        policies=values.get("prefixes", parse_policies),
        given=tuple(given.values()),
        warnings=warnings,
    )


def log_of(values: Values) -> LogConfig:
    """How to log."""
    return LogConfig(
        format=values.get("log.format", one_of("text", "json")),
        level=values.get("log.level", one_of("debug", "info", "warning", "error")),
    )


def listeners(values: Values, keys: Sequence[str]) -> list[Address]:
    """Check listeners: distinct, and closed to other machines for as long as nothing asks who calls."""
    anyone = values.get("allow-unauthenticated", parse_switch)
    seen: dict[Address, str] = {}
    for key in keys:
        address = values.get(key, parse_address)
        if address.port and address in seen:
            values.refuse(key, f"{address} is already taken by {seen[address]}")
        seen[address] = key
        if not address.is_loopback and not anyone:
            values.refuse(
                key,
                f"{address} can be reached by other machines and nothing authenticates them in this release: "
                "listen on 127.0.0.1, or accept that with --allow-unauthenticated (behind a proxy or network policy)",
            )
    return [values.get(key, parse_address) for key in keys]


def _advertise(values: Values, listen: Listen) -> str:
    """Return what others dial; a bind host will do unless it stands for every interface."""
    if values.text("advertise"):
        host = values.get("advertise", parse_host)
        if Address(host, 0).is_wildcard:
            values.refuse("advertise", f"{host} is a wildcard: give a name or address that others can dial")
        return host
    for key, address in (("peer", listen.peer), ("grpc", listen.grpc)):
        if address.is_wildcard:
            values.refuse("advertise", f"is required, because {key} listens on every interface ({address})")
    return listen.peer.host


def _membership(values: Values, node: NodeId, in_memory: bool) -> tuple[tuple[Member, ...], tuple[Address, ...]]:
    """Return the members of a new cluster, or whom to ask to be taken into a running one."""
    members = values.get("initial-cluster", _parse_members)
    join = values.get("join", lambda text: tuple(parse_address(item) for item in items(text)))
    several = next((key for key, there in (("initial-cluster", len(members) > 1), ("join", bool(join))) if there), None)
    if several and in_memory:
        values.refuse(
            several, "--in-memory is for one voter: a cluster whose nodes forget cannot keep what it promised"
        )
    if join and members:
        values.refuse("join", "is for a node that asks a running cluster to take it: leave --initial-cluster out")
    if members and node not in {member.node for member in members}:
        names = ", ".join(member.node for member in members)
        values.refuse("initial-cluster", f"names {names}, and this node is {node} (--node)")
    return members, join


def limits_of(values: Values) -> Limits:
    """Return the limits given. Bytes in flight follow from the budget, and hold the largest append."""
    limits = Limits()
    append = values.get("max-append-bytes", parse_size)
    budget = values.get("memory-budget", parse_size)
    if append > MAX_APPEND_BYTES:
        bound = f"{MAX_APPEND_BYTES // MIB}MiB ({MAX_APPEND_BYTES} bytes)"
        values.refuse("max-append-bytes", f"{append} bytes are too many: it can be set to {bound} at most")
    if budget < MIN_MEMORY_BUDGET:
        values.refuse("memory-budget", f"{budget} bytes are too few: at least {MIN_MEMORY_BUDGET // MIB}MiB")
    if append > (inflight := MemoryShares.of(budget).inflight_bytes):
        values.refuse(
            "max-append-bytes",
            f"{append} bytes do not fit the memory-budget: of {budget} bytes {inflight} are for what is in flight",
        )
    return replace(
        limits,
        max_append_bytes=append,
        max_inflight_bytes=inflight,
        memory_budget=budget,
        max_unsent_bytes=budget // 16,
        long_poll_timeout_s=values.get("long-poll-timeout", parse_duration),
        sse_lifetime_s=values.get("sse-lifetime", parse_duration),
    )


def _parse_node(text: str) -> NodeId:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text):
        raise ValueError(f"{text!r} is not a node name: at most 63 letters, digits, '.', '_' and '-'")
    return NodeId(text)


def _parse_members(text: str) -> tuple[Member, ...]:
    members: list[Member] = []
    for item in items(text):
        name, equals, address = item.partition("=")
        if not equals:
            raise ValueError(f"{item!r} is not NAME=HOST:PEERPORT")
        member = Member(_parse_node(name), parse_address(address))
        if any(member.node == other.node or member.peer == other.peer for other in members):
            raise ValueError(f"{item!r} repeats a name or an address")
        members.append(member)
    return tuple(members)
