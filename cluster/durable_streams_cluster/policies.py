"""What streams get by the beginning of their path: a lifetime, a bound, and how much of them is kept.

Written ``PREFIX RULE=VALUE ...``, several divided by commas: ``logs/ retain-age=7d, tmp/ ttl=60s``; ``*`` is all paths.
The longest prefix that fits a path decides alone. Defaults are stamped into the command that creates a stream;
retention is the leader's, so it follows the configuration, also for streams that are there.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from durable_streams_cluster.limits import MAX_TTL_S, Limits
from durable_streams_cluster.settings import parse_duration, parse_size

CACHED = 10_000
_DAY_S = 24 * 3600
_DIVIDER = re.compile(r"[\s,=]")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one prefix; None: no rule."""

    ttl_s: int | None = None
    """For streams created without Stream-TTL and Stream-Expires-At."""
    max_bytes: int | None = None
    """What a stream may hold when it is created; appends beyond are refused."""
    retain_bytes: int | None = None
    """Of a stream that holds more, the oldest appends are forgotten."""
    retain_age_s: int | None = None
    """Appends older than this are forgotten."""

    @property
    def retains(self) -> bool:
        """Whether streams are trimmed."""
        return self.retain_bytes is not None or self.retain_age_s is not None


NO_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a node, by prefix."""

    by_prefix: Mapping[str, Policy]
    _cache: dict[str, Policy] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.by_prefix)

    @property
    def trimmed(self) -> tuple[str, ...]:
        """The prefixes whose streams are trimmed."""
        return tuple(prefix for prefix, policy in self.by_prefix.items() if policy.retains)

    @property
    def ages(self) -> bool:
        """Whether any streams are trimmed by age."""
        return any(policy.retain_age_s is not None for policy in self.by_prefix.values())

    def of(self, path: str) -> Policy:
        """The policy of the longest prefix of ``path``."""
        policy = self._cache.get(path)
        if policy is None:
            fitting = max((prefix for prefix in self.by_prefix if path.startswith(prefix)), key=len, default=None)
            policy = NO_POLICY if fitting is None else self.by_prefix[fitting]
            if len(self._cache) >= CACHED:
                self._cache.clear()
            self._cache[path] = policy
        return policy


def _seconds(text: str) -> int:
    seconds = parse_duration(text, most_days=MAX_TTL_S // _DAY_S)
    if seconds != int(seconds):
        raise ValueError(f"{text!r} must be whole seconds")
    return int(seconds)


_RULES: Mapping[str, tuple[str, Callable[[str], int]]] = {
    "ttl": ("ttl_s", _seconds),
    "max-bytes": ("max_bytes", parse_size),
    "retain-bytes": ("retain_bytes", parse_size),
    "retain-age": ("retain_age_s", _seconds),
}


def parse_policies(text: str) -> Policies:
    """Read the form above; a prefix is percent-encoded as in a URL, without a leading slash. Raises ValueError."""
    found: dict[str, Policy] = {}
    for item in text.split(",") if text.strip() else ():
        written, *rules = item.split() or [""]
        prefix = _prefix(written)
        if prefix in found:
            raise ValueError(f"{written!r} is there twice")
        found[prefix] = _policy(written, rules)
    return Policies(found)


def write_policies(tables: Mapping[str, Mapping[str, object]]) -> str:
    """The form above, of prefixes and their rules as a file has them. Raises ValueError for what it cannot hold."""
    for prefix, rules in tables.items():
        if not prefix:
            raise ValueError("'' is no prefix: * is every path")
        if found := _DIVIDER.search(prefix):
            raise ValueError(f"{prefix!r} has {found[0]!r}: write it as {quote(found[0])}, as in a URL")
        for rule, value in rules.items():
            if _DIVIDER.search(rule):
                raise ValueError(f"{prefix!r}: {rule!r} is no rule; there are {', '.join(_RULES)}")
            if found := _DIVIDER.search(str(value)):
                raise ValueError(f"{prefix!r}: {rule}: {value!r} has {found[0]!r}: write one value, without spaces")
    return ", ".join(
        " ".join([prefix, *(f"{rule}={value}" for rule, value in rules.items())]) for prefix, rules in tables.items()
    )


def _prefix(written: str) -> str:
    """The beginning of paths that is meant: paths as ``gateway.paths`` makes them, so that each prefix fits some."""
    if not written or "=" in written:
        raise ValueError(
            f"{written!r} is no prefix: write PREFIX RULE=VALUE, as in logs/ retain-age=7d; * is every path"
        )
    if written == "*":
        return ""
    if "*" in written:
        raise ValueError(f"{written!r}: a prefix needs no *, like logs/; write one that is part of the path as %2A")
    if _BROKEN_ESCAPE.search(written):
        raise ValueError(f"{written!r} has a '%' that is not followed by two hexadecimal digits; write % as %25")
    try:
        prefix = unquote(written, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"{written!r} is not UTF-8 once decoded: no path is") from None
    if prefix.startswith("/"):
        raise ValueError(f"{written!r}: a prefix is of what follows /v1/stream/, without a slash before it, like logs/")
    if wrong := _never_fits(prefix):
        raise ValueError(f"{written[:1024]!r} fits no path: none {wrong}")
    return prefix


def _never_fits(prefix: str) -> str | None:
    if _CONTROL.search(prefix):
        return "has a control character"
    *segments, begun = prefix.split("/")
    if "" in segments:
        return "has an empty segment ('//')"
    if "." in segments or ".." in segments:
        return "has a '.' or '..' segment"
    if segments[:1] == ["__ds"]:
        return "is below __ds, which is reserved"
    if len(prefix.encode()) + (not begun) > (most := Limits().max_path_bytes):
        return f"is longer than {most} bytes"
    return None


def _policy(written: str, rules: list[str]) -> Policy:
    if not rules:
        raise ValueError(f"{written!r} has no rule: {', '.join(_RULES)}")
    fields: dict[str, int] = {}
    for rule in rules:
        name, _, value = rule.partition("=")
        if name not in _RULES:
            raise ValueError(f"{written!r}: {name!r} is no rule; there are {', '.join(_RULES)}")
        field, parse = _RULES[name]
        if field in fields:
            raise ValueError(f"{written!r}: {name} is there twice")
        try:
            fields[field] = parse(value)
        except ValueError as error:
            raise ValueError(f"{written!r}: {name}: {error}") from None
    return Policy(**fields)
