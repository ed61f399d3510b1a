"""The settings by name, and how their values are written: one table, and a parser a kind.

A parser is given text and raises ValueError with the rule that was broken; ``config`` adds which setting it was, and
who gave it. The command line's flags, the names in the environment and the keys of the file come from ``SETTINGS``.
"""

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

from durable_streams_cluster.errors import ConfigError

ENV_PREFIX = "DURABLE_STREAMS_"

Kind = Literal["text", "list", "switch", "duration", "size", "rules"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: a name, how its value is written, and what it is for."""

    key: str
    default: str
    metavar: str
    group: str
    help: str
    kind: Kind = "text"
    flag: bool = True
    """False: only in the environment and the file (the command line is a contract, and small)."""

    @property
    def env(self) -> str:
        """The name in the environment; never ends in ``_PORT``, nor has ``_SERVICE_``: Kubernetes injects those."""
        return ENV_PREFIX + re.sub("[-.]", "_", self.key).upper()


_LISTEN, _MEMBERS, _LIMITS, _OTHER = "listeners", "the cluster", "limits", "the node"
SETTINGS: tuple[Setting, ...] = (
    Setting("data-dir", "./data", "DIR", _OTHER, "where streams are stored; one process at a time holds it"),
    Setting("in-memory", "false", "", _OTHER, "store nothing on disk: all is lost at exit (one voter only)", "switch"),
    Setting("http", "127.0.0.1:4437", "HOST:PORT", _LISTEN, "Durable Streams protocol, for browsers and any client"),
    Setting("grpc", "127.0.0.1:4438", "HOST:PORT", _LISTEN, "operators (durable-streams admin), and the client SDK"),
    Setting("peer", "127.0.0.1:4439", "HOST:PORT", _LISTEN, "the other nodes of the cluster"),
    Setting("ops", "127.0.0.1:4440", "HOST:PORT", _LISTEN, "/livez, /readyz and /metrics"),
    Setting(
        "advertise", "", "HOST", _LISTEN, "name others reach this node by; needed when --peer or --grpc is a wildcard"
    ),
    Setting(
        "public-url", "", "URL", _LISTEN, "the address browsers use, where it differs from --http (behind a proxy)"
    ),
    Setting(
        "allow-unauthenticated", "false", "", _LISTEN, "let anyone who reaches a listener read and write", "switch"
    ),
    Setting("node", "n1", "NAME", _MEMBERS, "this node's name, unique in the cluster and kept for good"),
    Setting("initial-cluster", "", "NAME=HOST:PEERPORT,...", _MEMBERS, "the members of a new cluster", "list"),
    Setting("join", "", "HOST:PEERPORT,...", _MEMBERS, "nodes of a running cluster to join", "list"),
    Setting("long-poll-timeout", "30s", "TIME", _LIMITS, "how long a live=long-poll read waits", "duration"),
    Setting(
        "sse-lifetime", "60s", "TIME", _LIMITS, "how long one live=sse response lasts before it reconnects", "duration"
    ),
    Setting(
        "max-append-bytes",
        "16MiB",
        "SIZE",
        _LIMITS,
        "the largest body of one append, at most 64MiB and a twelfth of --memory-budget",
        "size",
    ),
    Setting(
        "memory-budget",
        "512MiB",
        "SIZE",
        _LIMITS,
        "for block cache, memtables and bytes in flight; about 60 MiB come on top",
        "size",
    ),
    Setting(
        "disk-reserve",
        "auto",
        "SIZE",
        _LIMITS,
        "free space below which appends are refused; auto: 512MiB, or an eighth of a smaller disk",
        "size",
        flag=False,
    ),
    Setting(
        "prefixes",
        "",
        "PREFIX RULE=VALUE...,...",
        _LIMITS,
        "what streams get by the beginning of their path: ttl, max-bytes, retain-bytes, retain-age",
        "rules",
        flag=False,
    ),
    Setting("log.format", "text", "text|json", _OTHER, "lines for people, or one JSON object a line", flag=False),
    Setting("log.level", "info", "LEVEL", _OTHER, "debug, info, warning or error", flag=False),
)
BY_KEY: Mapping[str, Setting] = {setting.key: setting for setting in SETTINGS}

_GATEWAY = "the gateway"
GATEWAY_SETTINGS: tuple[Setting, ...] = (
    Setting(
        "target",
        "127.0.0.1:4438",
        "HOST:GRPC,...",
        _GATEWAY,
        "--grpc listeners of nodes; one will do, several survive",
        "list",
    ),
    Setting("token", "", "TOKEN", _GATEWAY, "who this gateway is to the nodes, if they ask", flag=False),
    Setting("workers", "1", "N", _GATEWAY, "processes that share --http; the ops listener of each is one port higher"),
    replace(BY_KEY["http"], default="127.0.0.1:4537"),
    replace(BY_KEY["ops"], default="127.0.0.1:4540"),
    *(BY_KEY[key] for key in ("public-url", "allow-unauthenticated", "long-poll-timeout", "sse-lifetime")),
    BY_KEY["max-append-bytes"],
    replace(
        BY_KEY["memory-budget"], default="256MiB", help="for bytes in flight and new pages; about 60 MiB come on top"
    ),
    BY_KEY["log.format"],
    BY_KEY["log.level"],
)
"""Of ``durable-streams gateway``. What has the name of a node's setting is the same thing."""

CLIENT_ENV = (ENV_PREFIX + "CONFIG", ENV_PREFIX + "TARGET", ENV_PREFIX + "TOKEN")
"""Known names that are no setting: the file itself, and what the client commands read."""

# What Kubernetes puts into every container for each Service of the namespace whose name starts with durable-streams
# (enableServiceLinks). A bare ..._PORT is theirs only with a URL in it: DURABLE_STREAMS_PORT=8080 is a mistake to tell.
_SERVICE_LINK = re.compile(
    r"DURABLE_STREAMS_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_LINK_URL = re.compile(r"(tcp|udp|sctp)://")


def is_service_link(name: str, value: str) -> bool:
    """Tell whether this is a variable that Kubernetes injected for some Service called ``durable-streams...``."""
    if name.endswith("_PORT") and _SERVICE_LINK_URL.match(value):
        return True
    return _SERVICE_LINK.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Address:
    """A host (IPv6 without brackets) and a port; port 0 means that the system picks one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Every interface: nothing that another machine could dial."""
        ip = _as_ip(self.host)
        return ip is not None and ip.is_unspecified

    @property
    def is_loopback(self) -> bool:
        """Reachable from this machine only. A name other than localhost may resolve to anything: not loopback."""
        ip = _as_ip(self.host)
        return self.host.lower() == "localhost" if ip is None else ip.is_loopback


def unknown_key(key: str, source: str, known: Iterable[str]) -> NoReturn:
    """Refuse a name that is no setting, and say which one may have been meant."""
    near = difflib.get_close_matches(key.replace("_", "-"), list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{source}: unknown setting {key!r}{hint}")


def _as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    # ::ffff:0.0.0.0 binds every IPv4 interface: judged as what it stands for.
    return getattr(ip, "ipv4_mapped", None) or ip


_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


def parse_host(text: str) -> str:
    """Return a host name or IP address, as given. Raises ValueError."""
    # A last label of digits is an address in disguise: "0" and "127.1" mean something to the resolver.
    if _as_ip(text) or (_NAME.fullmatch(text) and not re.search(r"(^|\.)(\d+|0[xX][0-9a-fA-F]*)\.?$", text)):
        return text
    raise ValueError(f"{text!r} is not a host name or IP address")


def parse_address(text: str) -> Address:
    """``HOST:PORT``, ``[IPv6]:PORT``. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT (port 0 to 65535)")
    if not host:
        raise ValueError(f"{text!r} has no host: write 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface")
    if host.startswith("[") and host.endswith("]") and ":" in host:
        return Address(parse_host(host[1:-1]), int(port))
    if ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, like [::1]:{port}")
    return Address(parse_host(host), int(port))


_DAY_S = 24 * 3600
_DURATION_UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY_S}
_SIZE_UNITS: Mapping[str, int] = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGT", start=1)
}


def parse_duration(text: str, most_days: int = 1) -> float:
    """``500ms``, ``30s``, ``2m``, ``1h``, ``7d`` as seconds, more than none. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write a number and ms, s, m, h or d, like 30s")
    seconds = float(match[1]) * _DURATION_UNITS[match[2]]
    if not 0 < seconds <= most_days * _DAY_S:
        raise ValueError(f"{text!r} must be more than zero and at most {f'{most_days}d' if most_days > 1 else '24h'}")
    return seconds


def parse_size(text: str) -> int:
    """``16MiB``, ``1GB`` or plain bytes, more than none. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,18}) ?([A-Za-z]{0,3})", text)
    if match is None or match[2] not in _SIZE_UNITS:
        raise ValueError(
            f"{text!r} is not a size: write bytes, or a number and KiB, MiB, GiB, KB, MB or GB, like 16MiB"
        )
    size = int(match[1]) * _SIZE_UNITS[match[2]]
    if size == 0:
        raise ValueError("must be more than zero")
    return size
