"""Where a local cluster's nodes are, and what each is told."""

import pytest

from durable_streams_cluster.cli import _parse, load
from durable_streams_cluster.config import Config
from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.local.plan import plan
from durable_streams_cluster.settings import BY_KEY


def test_ports_and_directories_follow_from_the_first_port_and_the_directory() -> None:
    three = plan(3, "./data", 4437)
    assert [(node.name, node.url, node.data_dir) for node in three.nodes] == [
        ("n1", "http://127.0.0.1:4437", "./data/n1"),
        ("n2", "http://127.0.0.1:4447", "./data/n2"),
        ("n3", "http://127.0.0.1:4457", "./data/n3"),
    ]
    assert [three.nodes[2].address(each) for each in ("http", "grpc", "peer", "ops")] == [
        f"127.0.0.1:{port}" for port in (4457, 4458, 4459, 4460)
    ]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_each_node_is_told_what_serve_takes(count: int) -> None:
    layout = plan(count, "/tmp/some data/", 5000)
    configs = [load(_parse(layout.arguments(node)), {}, BY_KEY, Config.load) for node in layout.nodes]
    assert [config.node for config in configs] == [node.name for node in layout.nodes]
    assert [config.data_dir for config in configs] == [f"/tmp/some data/n{number + 1}" for number in range(count)]
    assert len({config.initial_cluster for config in configs}) == 1
    assert [member.peer.port for member in configs[0].initial_cluster] == [5002 + 10 * each for each in range(count)]
    assert [config.listen.peer for config in configs] == [member.peer for member in configs[0].initial_cluster]


@pytest.mark.parametrize(("count", "majority"), [(1, 1), (3, 2), (5, 3)])
def test_a_majority(count: int, majority: int) -> None:
    assert plan(count, "d", 1000).majority == majority


@pytest.mark.parametrize(
    ("count", "base", "says"),
    [
        (
            2,
            4437,
            "--nodes 2: an even number costs a node and gains nothing: a majority of 2 is 2, so it survives no loss",
        ),
        (
            4,
            4437,
            "a majority of 4 is 3, so it survives the loss of 1, and so does a cluster of 3; it can be 1, 3 or 5",
        ),
        (7, 4437, "--nodes 7: each node has a copy of everything"),
        (0, 4437, "--nodes 0: there must be a node"),
        (-3, 4437, "--nodes -3: there must be a node"),
        (3, 0, "--base-port 0: three nodes would take ports 0 to 23"),
        (5, 65_500, "--base-port 65500: five nodes would take ports 65500 to 65543, and ports are 1 to 65535"),
    ],
)
def test_what_cannot_be(count: int, base: int, says: str) -> None:
    with pytest.raises(ConfigError, match=r".") as refused:
        plan(count, "d", base)
    assert says in str(refused.value)


def test_a_directory_must_be_named() -> None:
    with pytest.raises(ConfigError, match="must name a directory"):
        plan(3, "", 4437)
