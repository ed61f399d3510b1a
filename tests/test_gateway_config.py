"""Settings of a stand-alone gateway: its own rules, and those that it has from the node."""

import pytest

from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.gateway_config import MAX_WORKERS, GatewayConfig
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.settings import GATEWAY_SETTINGS, SETTINGS


def load(file: str | None = None, environ: dict[str, str] | None = None, **flags: str) -> GatewayConfig:
    return GatewayConfig.load(
        {key.replace("_", "-"): text for key, text in flags.items()}, environ or {}, file, "gateway.toml"
    )


def test_defaults() -> None:
    config = load()
    assert (config.target, config.token, config.workers) == (("127.0.0.1:4438",), None, 1)
    assert (str(config.http), str(config.ops)) == ("127.0.0.1:4537", "127.0.0.1:4540")
    assert (config.public_url, config.warnings) == (None, ())
    assert (config.limits.memory_budget, config.limits.max_append_bytes) == (256 * MIB, 16 * MIB)
    assert config.limits.max_append_bytes <= config.limits.max_inflight_bytes


def test_every_setting_has_one_name_in_four_spellings() -> None:
    texts = {"switch": "true", "duration": "7s", "size": "4MiB"}
    own = {"memory-budget": "1GiB", "workers": "3", "token": "secret", "public-url": "http://a", "log.level": "debug"}
    for setting in GATEWAY_SETTINGS:
        text = own.get(setting.key) or texts.get(setting.kind) or setting.default
        section, _, name = setting.key.rpartition(".")
        quoted = text if setting.kind == "switch" else f'"{text}"'
        file = f"[{section}]\n{name} = {quoted}" if section else f"{name} = {quoted}"
        by_flag = GatewayConfig.load({setting.key: text}, {}, None)
        assert by_flag == load(environ={setting.env: text}) == load(file), setting.key
        assert (by_flag != load()) == (text != setting.default and setting.kind != "switch"), setting.key


def test_what_has_the_name_of_a_nodes_setting_is_the_same_thing() -> None:
    nodes = {setting.key: setting for setting in SETTINGS}
    for setting in GATEWAY_SETTINGS:
        node = nodes.get(setting.key)
        assert node is None or (node.kind, node.metavar, node.flag) == (setting.kind, setting.metavar, setting.flag)


def test_a_list_may_be_one_in_the_file() -> None:
    assert load('target = ["a:1", "b:2"]').target == ("a:1", "b:2")
    assert load(target=" a:1, [::1]:2 ,a:1").target == ("a:1", "[::1]:2")


def test_of_several_that_say_it_the_nearest_wins() -> None:
    file, environ = 'workers = "2"', {"DURABLE_STREAMS_WORKERS": "3"}
    assert [load(file).workers, load(file, environ).workers, load(file, environ, workers="4").workers] == [2, 3, 4]
    assert load(file, {"DURABLE_STREAMS_WORKERS": ""}).workers == 2


def test_the_environment_of_a_node_beside_it_is_no_mistake() -> None:
    environ = {"DURABLE_STREAMS_DATA_DIR": "/data", "DURABLE_STREAMS_CONFIG": "x", "DURABLE_STREAMS_WORKER": "3"}
    (warning,) = load(environ=environ).warnings
    assert "DURABLE_STREAMS_WORKER (did you mean DURABLE_STREAMS_WORKERS?)" in warning
    assert "DATA_DIR" not in warning


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"target": ""}, "target (flag --target): names no node: write HOST:PORT of its --grpc listener"),
        ({"target": " "}, "names no node"),
        ({"target": "a"}, "'a' is not HOST:PORT"),
        ({"target": "a:1,"}, "'' is not HOST:PORT"),
        ({"target": ":1"}, "':1' has no host"),
        ({"target": "a:0"}, "'a:0' has no port that can be dialed"),
        ({"target": "http://a:1"}, "'http://a:1' is a URL: a gateway speaks gRPC to nodes; write HOST:PORT"),
        ({"target": "a:1,https://b"}, "'https://b' is a URL"),
        ({"target": "::1:2"}, "write an IPv6 address in brackets"),
        ({"target": "a:1\x00"}, "has control characters"),
        ({"workers": "0"}, f"'0' is not a number from 1 to {MAX_WORKERS}"),
        ({"workers": "65"}, "'65' is not a number"),
        ({"workers": "-1"}, "'-1' is not a number"),
        ({"workers": "two"}, "'two' is not a number"),
        ({"workers": "²"}, "'²' is not a number"),
        ({"workers": "1.0"}, "'1.0' is not a number"),
        ({"workers": ""}, "'' is not a number"),
        ({"workers": "0001999"}, "'0001999' is not a number"),
        ({"workers": "9" * 9999}, "is not a number"),
        ({"http": "127.0.0.1:9", "ops": "127.0.0.1:9"}, "ops (flag --ops): 127.0.0.1:9 is already taken by http"),
        ({"workers": "4", "ops": "127.0.0.1:9", "http": "127.0.0.1:12"}, "ports up to 12, and http is among them"),
        ({"workers": "3", "ops": "127.0.0.1:65534"}, "3 workers would take ports up to 65536"),
        ({"http": "0.0.0.0:9"}, "http (flag --http): 0.0.0.0:9 can be reached by other machines"),
        ({"ops": "0.0.0.0:9"}, "ops (flag --ops): 0.0.0.0:9 can be reached by other machines"),
        ({"max-append-bytes": "65MiB"}, "can be set to 64MiB"),
        ({"max-append-bytes": "30MiB"}, "do not fit the memory-budget"),
        ({"memory-budget": "1MiB"}, "at least 64MiB"),
        ({"long-poll-timeout": "0s"}, "must be more than zero"),
        ({"public-url": "ftp://a"}, "is not http(s)://"),
        ({"data-dir": "x"}, "flag --data-dir: unknown setting 'data-dir'"),
        ({"target": "a:1", "targets": "b:1"}, "did you mean 'target'?"),
    ],
)
def test_what_is_refused(flags: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        GatewayConfig.load(flags, {}, None)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "flags",
    [
        {"workers": "4", "ops": "127.0.0.1:9", "http": "127.0.0.1:13"},
        {"workers": "4", "ops": "127.0.0.1:9", "http": "127.0.0.1:8"},
        {"workers": "1", "ops": "127.0.0.1:9", "http": "127.0.0.1:10"},
        {"workers": "4", "ops": "127.0.0.2:9", "http": "127.0.0.1:10"},
        {"workers": "2", "ops": "127.0.0.1:65534"},
        {"workers": "64", "ops": "127.0.0.1:0", "http": "127.0.0.1:0"},
        {"workers": "0064"},
        {"http": "0.0.0.0:9", "allow-unauthenticated": "true"},
    ],
)
def test_what_is_taken(flags: dict[str, str]) -> None:
    GatewayConfig.load(flags, {}, None)


@pytest.mark.parametrize("token", ["sec ret", "secret\n", "\tsecret", "sécret", "sec\x00ret"])
def test_a_token_that_is_none_is_not_shown(token: str) -> None:
    """As of a file that ends with a line end: the message goes to a log."""
    with pytest.raises(ConfigError, match=r"token \(environment DURABLE_STREAMS_TOKEN\): has characters") as refused:
        load(environ={"DURABLE_STREAMS_TOKEN": token})
    assert "cret" not in str(refused.value)
    assert load(environ={"DURABLE_STREAMS_TOKEN": "abc.DEF-123_~+/="}).token == "abc.DEF-123_~+/="


def test_a_file_for_a_node_is_not_taken_for_one_of_a_gateway() -> None:
    with pytest.raises(ConfigError, match=r"file gateway.toml: unknown setting 'node'"):
        load('node = "n1"')
