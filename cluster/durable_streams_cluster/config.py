"""Config: what a node was told, as frozen and checked values; where each came from is kept beside it.

One setting has one name, spelled four ways: ``--long-poll-timeout`` on the command line,
``DURABLE_STREAMS_LONG_POLL_TIMEOUT`` in the environment, ``long-poll-timeout`` in the TOML file, and a default here.
The first of them that is given wins. ``settings.SETTINGS`` is the one list.

Everything here is pure: ``Config.load`` is handed the arguments, the environment and the text of the file (``cli``
alone reads them), so a test needs no process and no disk.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import MAX_APPEND_BYTES, MIB, MIN_MEMORY_BUDGET, Limits, MemoryShares
from durable_streams_cluster.policies import Policies, parse_policies, write_policies
from durable_streams_cluster.settings import (
    BY_KEY,
    CLIENT_ENV,
    ENV_PREFIX,
    SETTINGS,
    Address,
    Setting,
    is_service_link,
    parse_address,
    parse_duration,
    parse_host,
    parse_size,
    unknown_key,
)

T = TypeVar("T")


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
class Given:
    """One setting's text and who gave it, e.g. ``flag --http``."""

    key: str
    text: str
    source: str


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
        for key in argv_values:
            if key not in BY_KEY:
                unknown_key(key, f"flag --{key}")
        from_file = {} if file_text is None else _read_file(file_text, file_name)
        values: dict[str, Given] = {}
        for setting in SETTINGS:
            key, env = setting.key, setting.env
            if key in argv_values:
                values[key] = Given(key, argv_values[key], f"flag --{key}")
            elif environ.get(env):  # Empty counts as not given: charts and compose files cannot leave a variable out.
                values[key] = Given(key, environ[env], f"environment {env}")
            elif key in from_file:
                values[key] = Given(key, from_file[key], f"file {file_name}")
            else:
                values[key] = Given(key, setting.default, "default")
        return _build(values, _unknown_environment(environ))

    @staticmethod
    def of(arguments: Mapping[str, object]) -> "Config":
        """Resolve and check what a program gives, by setting, as values of the file. Raises ConfigError."""
        values: dict[str, Given] = {}
        for setting in SETTINGS:
            values[setting.key] = Given(setting.key, setting.default, "default")
            if setting.key in arguments:
                source = f"argument {setting.key.replace('-', '_')}"
                values[setting.key] = Given(setting.key, _text(setting, arguments[setting.key], source), source)
        return _build(values, ())

    def to_toml(self) -> str:
        """Return the effective settings as a file that :meth:`load` accepts, each with where it came from."""
        rows: list[tuple[str, str]] = []
        table = ""
        for given in self.given:
            section, _, name = given.key.rpartition(".")
            if section != table:
                rows += [("", ""), (f"[{section}]", "")]
                table = section
            text = given.text
            switch = BY_KEY[given.key].kind == "switch"
            quoted = str(_parse_switch(text)).lower() if switch else json.dumps(text, ensure_ascii=False)
            rows.append((f"{name} = {quoted}" if text else f"# {name} is not set", "" if not text else given.source))
        width = min(48, max(len(left) for left, _ in rows))
        return "".join(f"{left:<{width}}  # {right}\n" if right else f"{left}\n" for left, right in rows)


# --- Sources.


def _read_file(text: str, name: str) -> dict[str, str]:
    """Return the file's settings as text, so that one parser serves every source. Unknown keys are errors."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of thousands of digits
        raise ConfigError(f"file {name}: not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"file {name}: not TOML: nested too deeply") from error
    flat: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict) and not (key in BY_KEY and BY_KEY[key].kind == "rules"):
            flat |= {f"{key}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[key] = value
    values: dict[str, str] = {}
    for key, value in flat.items():
        if key not in BY_KEY:
            unknown_key(key, f"file {name}")
        values[key] = _text(BY_KEY[key], value, f"file {name}")
    return values


def _text(setting: Setting, value: object, source: str) -> str:
    """A value as the text that one parser reads, wherever it comes from. Raises ConfigError: it has another type."""
    match setting.kind, value:
        case "switch", bool():
            return "true" if value else "false"
        case "size", int() if _is_plain(value):
            return str(value)
        case "rules", dict() if all(
            isinstance(rules, dict) and all(map(_is_plain, rules.values())) for rules in value.values()
        ):
            # [prefixes."logs/"] with a key a rule, as the text that the environment would hold.
            try:
                return write_policies(value)
            except ValueError as error:
                raise ConfigError(f"{setting.key} ({source}): {error}") from None
        case "list", list() if all(isinstance(item, str) for item in value):
            return ",".join(value)
        case (("text" | "list" | "duration" | "size" | "rules"), str()):
            return value
        case _:
            pass
    wanted = {
        "switch": "true or false",
        "list": "a string or an array of strings",
        "size": 'a string like "16MiB"',
        "rules": f'tables like [{setting.key}."logs/"]',
    }
    raise ConfigError(f"{source}: {setting.key} must be {wanted.get(setting.kind, 'a string')}, not {_shown(value)}")


def _is_plain(value: object) -> bool:
    """Whether it is a string, or a number that TOML promises to keep (Python's parser takes any)."""
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def _shown(value: object) -> str:
    """A value of the file in a message: never all of a long one, and nothing that Python refuses to print."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "this"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _unknown_environment(environ: Mapping[str, str]) -> tuple[str, ...]:
    """One warning for all the names that look like ours and are not: other software may share the prefix."""
    known = [*(setting.env for setting in SETTINGS), *CLIENT_ENV]
    strange = [
        name
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX) and name not in known and not is_service_link(name, value)
    ]
    if not strange:
        return ()
    hints = []
    for name in sorted(strange):
        # Without the prefix, which makes all of them alike.
        near = difflib.get_close_matches(name[len(ENV_PREFIX) :], [other[len(ENV_PREFIX) :] for other in known], n=1)
        hints.append(f"{name} (did you mean {ENV_PREFIX}{near[0]}?)" if near else name)
    return ("ignored unknown environment variables: " + ", ".join(hints),)


# --- Values and the rules between them.


class _Values:
    """The resolved texts, read through a parser; a broken rule becomes an error naming the setting and its source."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        self.given = given

    def get(self, key: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(self.text(key))
        except ValueError as error:
            self.refuse(key, str(error))

    def text(self, key: str) -> str:
        text = self.given[key].text
        if not text.isprintable():
            self.refuse(key, f"{text!r} has control characters")
        return text

    def refuse(self, key: str, rule: str) -> NoReturn:
        raise ConfigError(f"{key} ({self.given[key].source}): {rule}")


def _build(given: dict[str, Given], warnings: tuple[str, ...]) -> Config:
    values = _Values(given)
    listen = _listeners(values)
    advertise = _advertise(values, listen)
    if not given["advertise"].text:
        given["advertise"] = Given("advertise", advertise, "default: the host of --peer")
    node = values.get("node", _parse_node)
    in_memory = values.get("in-memory", _parse_switch)
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
        public_url=values.get("public-url", _parse_url),
        initial_cluster=initial,
        join=join,
        allow_unauthenticated=values.get("allow-unauthenticated", _parse_switch),
        log=LogConfig(
            format=values.get("log.format", _one_of("text", "json")),
            level=values.get("log.level", _one_of("debug", "info", "warning", "error")),
        ),
        limits=_limits(values),
        policies=values.get("prefixes", parse_policies),
        given=tuple(given.values()),
        warnings=warnings,
    )


def _listeners(values: _Values) -> Listen:
    """Check the four listeners: distinct, and closed to other machines for as long as nothing asks who calls."""
    anyone = values.get("allow-unauthenticated", _parse_switch)
    seen: dict[Address, str] = {}
    for key in ("http", "grpc", "peer", "ops"):
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
    return Listen(*(values.get(key, parse_address) for key in ("http", "grpc", "peer", "ops")))


def _advertise(values: _Values, listen: Listen) -> str:
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


def _membership(values: _Values, node: NodeId, in_memory: bool) -> tuple[tuple[Member, ...], tuple[Address, ...]]:
    """Return the members of a new cluster, or whom to ask to be taken into a running one."""
    members = values.get("initial-cluster", _parse_members)
    join = values.get("join", lambda text: tuple(parse_address(item) for item in _items(text)))
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


def _limits(values: _Values) -> Limits:
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
        disk_reserve=values.get("disk-reserve", lambda text: 0 if text == "auto" else parse_size(text)),
    )


def _parse_switch(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError(f"{text!r} is not true or false")


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text.lower()

    return parse


def _parse_node(text: str) -> NodeId:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text):
        raise ValueError(f"{text!r} is not a node name: at most 63 letters, digits, '.', '_' and '-'")
    return NodeId(text)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")] if text.strip() else []


def _parse_members(text: str) -> tuple[Member, ...]:
    members: list[Member] = []
    for item in _items(text):
        name, equals, address = item.partition("=")
        if not equals:
            raise ValueError(f"{item!r} is not NAME=HOST:PEERPORT")
        member = Member(_parse_node(name), parse_address(address))
        if any(member.node == other.node or member.peer == other.peer for other in members):
            raise ValueError(f"{item!r} repeats a name or an address")
        members.append(member)
    return tuple(members)


def _parse_url(text: str) -> str | None:
    if not text:
        return None
    if not re.fullmatch(r"[!-~]+", text) or set(text) & set('"<>\\^`{|}'):
        raise ValueError(f"{text!r} has a character that a URL writes as %XX")  # it becomes part of Location
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or "@" in url.netloc:
        raise ValueError(f"{text!r} is not http(s)://HOST[:PORT][/PATH]")
    parse_host(url.hostname)
    url.port  # noqa: B018  # raises ValueError when it is no port
    return text.rstrip("/")
