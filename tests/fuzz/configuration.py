"""Settings: any flags, environment and file are a configuration or a ``ConfigError`` that says what is wrong.

An input is lines of ``--flag value`` and ``NAME=value``, a line ``---``, and the file.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from durable_streams_cluster.config import Config
from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.gateway import paths
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.policies import NO_POLICY, parse_policies
from durable_streams_cluster.settings import (
    Address,
    is_service_link,
    parse_address,
    parse_duration,
    parse_host,
    parse_size,
)
from tests.fuzz.refusals import told

LIMITS = Limits()
RULED = (
    "node",
    "data_dir",
    "in_memory",
    "listen",
    "advertise",
    "public_url",
    "initial_cluster",
    "join",
    "log",
    "limits",
)


def check_config(data: bytes) -> None:
    before, marker, file = data.partition(b"---\n")
    flags: dict[str, str] = {}
    environ: dict[str, str] = {}
    for line in before.decode("utf-8", "surrogateescape").split("\n"):
        if line.startswith("--"):
            name, _, value = line[2:].partition(" ")
            flags[name] = value
        elif line:
            name, _, value = line.partition("=")
            environ[name] = value
    config = loaded(flags, environ, file.decode("utf-8", "replace") if marker else None)
    if config is None:
        return
    again = loaded({}, {}, config.to_toml())
    assert again is not None, config.to_toml()
    for name in RULED:
        assert getattr(again, name) == getattr(config, name), name
    for address in (config.listen.http, config.listen.grpc, config.listen.peer, config.listen.ops):
        assert parse_address(str(address)) == address
        assert address.is_loopback or config.allow_unauthenticated
    assert not Address(config.advertise, 0).is_wildcard
    if config.public_url is not None:
        assert all("!" <= each <= "~" for each in config.public_url), "it becomes part of a header"
    for warning in config.warnings:
        assert warning.startswith("ignored unknown environment variables: ")


def loaded(flags: dict[str, str], environ: dict[str, str], file: str | None) -> Config | None:
    try:
        return Config.load(flags, environ, file, "node.toml")
    except ConfigError as error:
        told(error)
        return None


def check_settings(data: bytes) -> None:
    """Each parser on the same text: a value in bounds, or ValueError with the rule."""
    text = data.decode("utf-8", "surrogateescape")
    host = parsed(parse_host, text)
    assert host is None or host == text
    address = parsed(parse_address, text)
    if address is not None:
        assert 0 <= address.port <= 65535
        assert parse_host(address.host)
        assert parse_address(str(address)) == address
        assert not (address.is_loopback and address.is_wildcard)
    seconds = parsed(parse_duration, text)
    assert seconds is None or 0 < seconds <= 24 * 3600
    policies = parsed(parse_policies, text)
    if policies is not None:
        for prefix in policies.by_prefix:
            assert policies.of(prefix) == policies.by_prefix[prefix]
            path = prefix if len(prefix.encode()) == LIMITS.max_path_bytes else prefix + "x"
            assert paths.stream_path(quote(path).encode(), LIMITS.max_path_bytes) == path, "a prefix that fits no path"
        prefixes = [prefix for prefix in policies.by_prefix if text.startswith(prefix)]
        assert policies.of(text) == (policies.by_prefix[max(prefixes, key=len)] if prefixes else NO_POLICY)
    size = parsed(parse_size, text)
    assert size is None or 0 < size < 10**18 * 2**40
    assert is_service_link("DURABLE_STREAMS_HTTP", text) is False
    is_service_link(text, text)


def parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        told(error)
        return None
