"""Settings: which source wins, what every kind of value may look like, and each rule between them."""

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from durable_streams_cluster.config import Config, Member
from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import BATCH_SLACK_BYTES, MAX_BATCH_BYTES, MAX_INFLIGHT_BYTES, MIB, Limits
from durable_streams_cluster.policies import parse_policies
from durable_streams_cluster.settings import SETTINGS, Address, parse_address, parse_duration, parse_size


def load(
    flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None, file: str | None = None
) -> Config:
    return Config.load(flags or {}, environ or {}, file, "node.toml")


def source(config: Config, key: str) -> str:
    return next(given.source for given in config.given if given.key == key)


def test_defaults() -> None:
    config = load()
    assert config.data_dir == "./data"
    assert [str(getattr(config.listen, name)) for name in ("http", "grpc", "peer", "ops")] == [
        f"127.0.0.1:{port}" for port in (4437, 4438, 4439, 4440)
    ]
    assert (config.node, config.advertise, config.public_url) == ("n1", "127.0.0.1", None)
    assert (config.initial_cluster, config.join, config.in_memory, config.allow_unauthenticated) == (
        (),
        (),
        False,
        False,
    )
    assert (config.log.format, config.log.level) == ("text", "info")
    assert config.limits == Limits()
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("flags", "environ", "file", "node", "told"),
    [
        ({}, {}, None, "n1", "default"),
        ({}, {}, 'node = "f"', "f", "file node.toml"),
        ({}, {"DURABLE_STREAMS_NODE": "e"}, 'node = "f"', "e", "environment DURABLE_STREAMS_NODE"),
        ({"node": "g"}, {"DURABLE_STREAMS_NODE": "e"}, 'node = "f"', "g", "flag --node"),
        ({}, {"DURABLE_STREAMS_NODE": ""}, 'node = "f"', "f", "file node.toml"),
    ],
)
def test_precedence(flags: dict[str, str], environ: dict[str, str], file: str | None, node: str, told: str) -> None:
    config = load(flags, environ, file)
    assert (config.node, source(config, "node")) == (node, told)


def test_every_setting_has_one_name_in_four_spellings() -> None:
    for setting in SETTINGS:
        text = {"switch": "true", "duration": "7s", "size": "4MiB"}.get(setting.kind, setting.default)
        text = "1GiB" if setting.key == "memory-budget" else text
        if not text:
            continue
        section, _, name = setting.key.rpartition(".")
        quoted = text if setting.kind == "switch" else f'"{text}"'
        file = f"[{section}]\n{name} = {quoted}" if section else f"{name} = {quoted}"
        loaded = [load({setting.key: text}), load({}, {setting.env: text}), load({}, {}, file)]
        one, *others = [(config.limits, config.listen, config.log, config.in_memory) for config in loaded]
        assert all(other == one for other in others), setting.key


def test_prefixes_are_tables_in_the_file_and_text_elsewhere() -> None:
    text = "logs/ retain-age=7d retain-bytes=1GiB, * ttl=30d"
    file = '[prefixes."logs/"]\nretain-age = "7d"\nretain-bytes = "1GiB"\n[prefixes."*"]\nttl = "30d"\n'
    configs = [
        load({"prefixes": text}),
        load({}, {"DURABLE_STREAMS_PREFIXES": text}),
        load({}, {}, file),
        load({}, {}, f'prefixes = "{text}"'),
    ]
    assert [config.policies for config in configs] == [parse_policies(text)] * 4
    assert load({}, {}, configs[2].to_toml()).policies == configs[2].policies


def test_no_setting_has_a_name_that_kubernetes_injects() -> None:
    for setting in SETTINGS:
        assert not setting.env.endswith("_PORT")
        assert "_SERVICE_" not in setting.env


# --- Names that are no setting.


@pytest.mark.parametrize(
    ("flags", "file", "message"),
    [
        ({"htpp": "x"}, None, "flag --htpp: unknown setting 'htpp'; did you mean 'http'?"),
        ({"zzz": "x"}, None, "flag --zzz: unknown setting 'zzz'"),
        ({}, 'data_dir = "x"', "file node.toml: unknown setting 'data_dir'; did you mean 'data-dir'?"),
        ({}, "[log]\nfromat = 'json'", "file node.toml: unknown setting 'log.fromat'; did you mean 'log.format'?"),
        ({}, "[http]\nport = 1", "file node.toml: unknown setting 'http.port'"),
        ({}, "log = 'json'", "file node.toml: unknown setting 'log'"),
        ({}, "port = 1", "file node.toml: unknown setting 'port'"),
    ],
)
def test_unknown_flags_and_keys_are_errors(flags: dict[str, str], file: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        load(flags, {}, file)


def test_unknown_environment_gives_one_warning() -> None:
    config = load(
        {}, {"DURABLE_STREAMS_HTPP": "1", "DURABLE_STREAMS_ZZZZZZZZ": "2", "HOME": "/", "DURABLE_STREAMS_TOKEN": "s"}
    )
    assert config.warnings == (
        "ignored unknown environment variables: DURABLE_STREAMS_HTPP (did you mean DURABLE_STREAMS_HTTP?), "
        "DURABLE_STREAMS_ZZZZZZZZ",
    )


@pytest.mark.parametrize("service", ["", "_GATEWAY", "_HTTP", "_MY_2ND"])
def test_service_links_of_kubernetes_are_nothing(service: str) -> None:
    name = "DURABLE_STREAMS" + service
    links = {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": "4437",
        f"{name}_SERVICE_PORT_HTTP": "4437",
        f"{name}_PORT": "tcp://10.0.0.1:4437",
        f"{name}_PORT_4437_TCP": "tcp://10.0.0.1:4437",
        f"{name}_PORT_4437_TCP_PROTO": "tcp",
        f"{name}_PORT_4437_TCP_PORT": "4437",
        f"{name}_PORT_4437_TCP_ADDR": "10.0.0.1",
    }
    config = load({}, links)
    assert config == load()


def test_a_port_that_a_person_set_is_told() -> None:
    (warning,) = load({}, {"DURABLE_STREAMS_PORT": "8080"}).warnings
    assert "DURABLE_STREAMS_PORT" in warning


# --- Values.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("2m", 120), ("1h", 3600), ("1.5s", 1.5), ("24h", 86400), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "s", "-1s", "0s", "2d", "30 s", "1m30s", "25h", "٣s", "1e3s", "nans", "30s\n"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|zero"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("16MiB", 16 * MIB), ("1GB", 10**9), ("3KB", 3000), ("2KiB", 2048), ("7B", 7), ("1 GiB", 2**30)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0MiB", "-1", "1.5GiB", "16M", "16mib", "MiB", "1PiB", "1 2"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|zero"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:4437", Address("127.0.0.1", 4437)),
        ("[::1]:0", Address("::1", 0)),
        ("[fe80::1%eth0]:1", Address("fe80::1%eth0", 1)),
        ("localhost:65535", Address("localhost", 65535)),
        ("n1.peers.ns.svc.cluster.local.:1", Address("n1.peers.ns.svc.cluster.local.", 1)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("4437", "is not HOST:PORT"),
        ("host", "is not HOST:PORT"),
        ("host:", "is not HOST:PORT"),
        ("host:65536", "is not HOST:PORT"),
        ("host:+1", "is not HOST:PORT"),
        ("host:\u0661", "is not HOST:PORT"),
        (":4437", "0.0.0.0:4437 for every interface"),
        ("::1:4437", "in brackets, like [::1]:4437"),
        ("[::1:4437", "in brackets"),
        ("[127.0.0.1]:1", "in brackets|is not"),
        ("*:4437", "is not a host name"),
        ("-a:1", "is not a host name"),
        ("a_b c:1", "is not a host name"),
        ("0:1", "is not a host name"),
        ("127.1:1", "is not a host name"),
        ("0x7f000001:1", "is not a host name"),
        ("256.0.0.1:1", "is not a host name"),
        ("http://a:1", "brackets"),
    ],
)
def test_no_addresses(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says if "|" in says else re.escape(says)):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback", "wildcard"),
    [
        ("127.9.9.9", True, False),
        ("::1", True, False),
        ("LOCALHOST", True, False),
        ("::ffff:127.0.0.1", True, False),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("::ffff:0.0.0.0", False, True),
        ("10.0.0.1", False, False),
        ("localhost.example.com", False, False),
    ],
)
def test_what_an_address_reaches(host: str, loopback: bool, wildcard: bool) -> None:
    assert (Address(host, 1).is_loopback, Address(host, 1).is_wildcard) == (loopback, wildcard)


# --- Rules. Every message names the setting and who gave it.

ANYONE = {"allow-unauthenticated": "true"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"http": "4437"}, "http (flag --http): '4437' is not HOST:PORT"),
        ({"http": "0.0.0.0:1"}, "http (flag --http): 0.0.0.0:1 can be reached by other machines"),
        ({"ops": "example.com:1"}, "ops (flag --ops): example.com:1 can be reached by other machines"),
        ({"http": "127.0.0.1:4438"}, "grpc (default): 127.0.0.1:4438 is already taken by http"),
        (ANYONE | {"peer": "0.0.0.0:1"}, "advertise (default): is required, because peer listens on every"),
        (ANYONE | {"grpc": "[::]:1"}, "advertise (default): is required, because grpc listens on every"),
        ({"advertise": "0.0.0.0"}, "advertise (flag --advertise): 0.0.0.0 is a wildcard"),
        ({"advertise": "a:1"}, "advertise (flag --advertise): 'a:1' is not a host name"),
        ({"in-memory": "maybe"}, "in-memory (flag --in-memory): 'maybe' is not true or false"),
        ({"node": "a b"}, "node (flag --node): 'a b' is not a node name"),
        ({"data-dir": "a\nready http=evil"}, "data-dir (flag --data-dir): 'a\\nready http=evil' has control"),
        ({"public-url": "ftp://a"}, "public-url (flag --public-url): 'ftp://a' is not http(s)://"),
        ({"public-url": "http://u:p@a"}, "public-url (flag --public-url): 'http://u:p@a' is not http(s)://"),
        ({"public-url": "http://a:99999"}, "public-url (flag --public-url): "),
        ({"public-url": "http://a/b c"}, "public-url (flag --public-url): 'http://a/b c' has a character"),
        ({"public-url": "http://a/é"}, "public-url (flag --public-url): 'http://a/é' has a character"),
        ({"public-url": 'http://a/"b"'}, "public-url (flag --public-url): "),
        ({"log.level": "loud"}, "log.level (flag --log.level): 'loud' is not one of debug, info"),
        ({"initial-cluster": "a:1"}, "initial-cluster (flag --initial-cluster): 'a:1' is not NAME=HOST"),
        ({"initial-cluster": "n1=a:1,n1=b:1"}, "initial-cluster (flag --initial-cluster): 'n1=b:1' repeats"),
        ({"initial-cluster": "n2=a:1"}, "initial-cluster (flag --initial-cluster): names n2, and this node is n1"),
        ({"join": "a:1", "initial-cluster": "n1=a:1"}, "join (flag --join): is for a node that asks a running cluster"),
        ({"join": "a:1", "in-memory": "true"}, "join (flag --join): --in-memory is for one voter"),
        (
            {"initial-cluster": "n1=a:1,n2=b:1", "in-memory": "true"},
            "initial-cluster (flag --initial-cluster): --in-memory is for one voter",
        ),
        (
            {"max-append-bytes": "300MiB", "memory-budget": "1GiB"},
            "max-append-bytes (flag --max-append-bytes): 314572800 bytes are too many: "
            "it can be set to 64MiB (67108864 bytes) at most",
        ),
        ({"max-append-bytes": "67108865"}, "max-append-bytes (flag --max-append-bytes): 67108865 bytes are too many"),
        (
            {"max-append-bytes": "60MiB", "memory-budget": "100MiB"},
            "max-append-bytes (flag --max-append-bytes): 62914560 bytes do not fit the memory-budget: of 104857600 "
            "bytes 8738133 are for what is in flight",
        ),
        (
            {"memory-budget": "16MiB"},
            "memory-budget (flag --memory-budget): 16777216 bytes are too few: at least 64MiB",
        ),
        ({"sse-lifetime": "60"}, "sse-lifetime (flag --sse-lifetime): '60' is not a duration"),
    ],
)
def test_rules(flags: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        load(flags)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("http = 4437", "file node.toml: http must be a string, not 4437"),
        ("in-memory = 'yes'", "file node.toml: in-memory must be true or false, not 'yes'"),
        ("long-poll-timeout = 30", "file node.toml: long-poll-timeout must be a string, not 30"),
        ("max-append-bytes = true", 'file node.toml: max-append-bytes must be a string like "16MiB", not True'),
        ("[prefixes]\na = 1", "file node.toml: prefixes must be tables like [prefixes.\"logs/\"], not {'a': 1}"),
        ("prefixes.a.ttl = 'x'", "prefixes (file node.toml): 'a': ttl: 'x' is not a duration"),
        ("prefixes.' a'.ttl = '1s'", "prefixes (file node.toml): ' a' has ' ': write it as %20, as in a URL"),
        ("prefixes.''.ttl = '1s'", "prefixes (file node.toml): '' is no prefix: * is every path"),
        ("prefixes.'a%2'.ttl = '1s'", "prefixes (file node.toml): 'a%2' has a '%' that is not followed by two"),
        ("join = [1]", "file node.toml: join must be a string or an array of strings, not [1]"),
        ("node = ", "file node.toml: not TOML: "),
        ("node = 'a'\nnode = 'b'", "file node.toml: not TOML: "),
        ("join = " + "[" * 2_000, "file node.toml: not TOML: nested too deeply"),
        ("max-append-bytes = " + "9" * 5_000, "file node.toml: not TOML: Exceeds the limit"),
        (
            "max-append-bytes = 0x" + "f" * 5_000,
            'file node.toml: max-append-bytes must be a string like "16MiB", not this',
        ),
        ("log.format" + ".a" * 3_000 + " = 1", "file node.toml: log.format must be a string, not this"),
        ("http = [" + "1," * 3_000 + "]", "file node.toml: http must be a string, not [1, 1,"),
        ("[prefixes.'a/']\nttl = 0x" + "f" * 5_000, "file node.toml: prefixes must be tables"),
        ("[prefixes.'a/']\nttl.a = 1", "file node.toml: prefixes must be tables"),
    ],
)
def test_types_in_the_file(file: str, message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)) as refused:
        load({}, {}, file)
    assert len(str(refused.value)) < 500, "the message repeats the file"


def test_a_cluster_of_one_is_fine() -> None:
    config = load({}, {}, 'initial-cluster = ["n1=10.0.0.1:4439"]')
    assert config.initial_cluster == (Member(NodeId("n1"), Address("10.0.0.1", 4439)),)


def test_any_port_may_be_picked_by_the_system() -> None:
    config = load(dict.fromkeys(("http", "grpc", "peer", "ops"), "127.0.0.1:0"))
    assert config.listen.http == config.listen.ops == Address("127.0.0.1", 0)


def test_a_listener_for_everyone_when_that_is_accepted() -> None:
    config = load(ANYONE | {"http": "0.0.0.0:4437"})
    assert config.advertise == "127.0.0.1"
    config = load(ANYONE | {"peer": "[::]:4439", "advertise": "n1.example.com"})
    assert config.advertise == "n1.example.com"


@pytest.mark.parametrize(
    ("append", "budget", "inflight"),
    [
        ("16MiB", "512MiB", 512 * MIB // 12),
        ("64MiB", "4GiB", MAX_INFLIGHT_BYTES),
        ("1", "64MiB", 64 * MIB // 12),
        ("64MiB", "768MiB", 64 * MIB),
    ],
)
def test_bytes_in_flight_follow(append: str, budget: str, inflight: int) -> None:
    limits = load({"max-append-bytes": append, "memory-budget": budget}).limits
    assert limits.max_inflight_bytes == inflight


def test_what_is_in_flight_fits_in_one_write_to_the_store() -> None:
    largest = replace(Limits(), max_inflight_bytes=MAX_INFLIGHT_BYTES)
    assert 2 * largest.max_inflight_bytes + BATCH_SLACK_BYTES <= MAX_BATCH_BYTES
    with pytest.raises(AssertionError, match="a turn must fit in one write"):
        replace(largest, max_inflight_bytes=MAX_INFLIGHT_BYTES + 1)
    with pytest.raises(AssertionError, match="room for others"):
        replace(largest, max_append_bytes=64 * MIB + 1)


def test_the_reserve_on_disk_follows_from_the_disk_unless_it_is_given() -> None:
    assert load({}).limits.disk_reserve == 0
    assert load({}, {"DURABLE_STREAMS_DISK_RESERVE": "3GiB"}).limits.disk_reserve == 3 * 1024 * MIB
    assert load({}, {}, 'disk-reserve = "auto"').limits.disk_reserve == 0
    with pytest.raises(ConfigError, match=r"disk-reserve .* is not a size"):
        load({}, {"DURABLE_STREAMS_DISK_RESERVE": "half"})


def test_times_reach_the_limits() -> None:
    limits = load({"long-poll-timeout": "500ms", "sse-lifetime": "2m"}).limits
    assert (limits.long_poll_timeout_s, limits.sse_lifetime_s) == (0.5, 120)


# --- What `config check` prints.


def test_the_effective_configuration_can_be_loaded_again() -> None:
    config = load(
        {"data-dir": 'a "quoted" \\ dir', "max-append-bytes": "1048576"},
        {"DURABLE_STREAMS_IN_MEMORY": "1", "DURABLE_STREAMS_LOG_FORMAT": "json"},
        'public-url = "https://streams.example.com/base/"\ninitial-cluster = ["n1=a:1"]',
    )
    again = Config.load({}, {}, config.to_toml())
    for name in ("data_dir", "in_memory", "listen", "advertise", "public_url", "initial_cluster", "log", "limits"):
        assert getattr(again, name) == getattr(config, name), name
    assert config.public_url == "https://streams.example.com/base"


def test_the_effective_configuration_says_where_from() -> None:
    text = load({"http": "[::1]:1"}, {"DURABLE_STREAMS_NODE": "e"}, "in-memory = true").to_toml()
    rows = [re.sub("  +", "  ", row) for row in text.splitlines()]
    assert 'http = "[::1]:1"  # flag --http' in rows
    assert 'node = "e"  # environment DURABLE_STREAMS_NODE' in rows
    assert "in-memory = true  # file node.toml" in rows
    assert 'ops = "127.0.0.1:4440"  # default' in rows
    assert 'advertise = "127.0.0.1"  # default: the host of --peer' in rows
    assert "# join is not set" in rows


# --- What a program gives.


def test_arguments_are_values_of_the_file_by_setting() -> None:
    assert replace(Config.of({}), warnings=()) == load()
    arguments = {"in-memory": True, "max-append-bytes": 2 * MIB, "sse-lifetime": "5s", "node": "e"}
    config = Config.of(arguments)
    file = 'in-memory = true\nmax-append-bytes = "2MiB"\nsse-lifetime = "5s"\nnode = "e"'
    assert replace(config, given=()) == replace(load(file=file), given=())
    assert source(config, "max-append-bytes") == "argument max_append_bytes"
    assert source(config, "data-dir") == "default"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"in-memory": 1}, "argument in_memory: in-memory must be true or false, not 1"),
        ({"max-append-bytes": "lots"}, "max-append-bytes (argument max_append_bytes): 'lots' is not a size"),
        ({"node": None}, "argument node: node must be a string, not None"),
    ],
)
def test_a_wrong_argument(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        Config.of(arguments)
