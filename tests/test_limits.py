"""The sums behind the bounds."""

import pytest

from durable_streams_cluster.limits import (
    MAX_PEERS,
    MIN_CONNECTIONS,
    PEER_CONNECTIONS,
    PEER_STREAMS,
    STORE_OPEN_FILES,
    FilePlan,
    Limits,
    max_lingering,
)


@pytest.mark.parametrize("connections", [64, 1_000, Limits().max_connections])
@pytest.mark.parametrize("in_memory", [False, True])
def test_as_many_connections_as_the_files_allow(in_memory: bool, connections: int) -> None:
    wanted = FilePlan.wanted(connections, in_memory=in_memory)
    assert wanted.within(wanted.files) == wanted
    before = 0
    for files in range(wanted.reserved + 2 * max_lingering(0), wanted.files):
        plan = wanted.within(files)
        assert plan.files <= files
        assert before <= plan.connections < connections
        assert files - plan.files <= max_lingering(files) // 8 + 1, "few are left over"
        before = plan.connections
    assert wanted.within(wanted.reserved).connections == wanted.within(0).connections == 0


def test_what_shells_and_containers_begin_with_is_enough_for_some() -> None:
    assert FilePlan.wanted(10_000, in_memory=False).within(1024).connections > 2 * MIN_CONNECTIONS


def test_a_store_in_memory_opens_no_tables() -> None:
    stored, held = (FilePlan.wanted(100, in_memory=in_memory) for in_memory in (False, True))
    assert stored.files - held.files == STORE_OPEN_FILES


def test_connections_of_peers_are_set_aside() -> None:
    alone, three, most = (FilePlan.wanted(100, in_memory=False, peers=peers) for peers in (0, 2, MAX_PEERS))
    assert three.files - alone.files == PEER_CONNECTIONS + 2 * PEER_STREAMS
    assert most.files - alone.files == PEER_CONNECTIONS + MAX_PEERS * PEER_STREAMS
