"""Who a data directory is, and what is refused to be started on."""

import shutil
from pathlib import Path

import pytest

from durable_streams_cluster import opening
from durable_streams_cluster.config import Config
from durable_streams_cluster.errors import ConfigError, CorruptData
from durable_streams_cluster.ids import NodeId
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.raft import Member, Membership
from durable_streams_cluster.replica.bootstrap import cluster_of
from durable_streams_cluster.replica.replica import ONLY_GROUP
from durable_streams_cluster.storage import keys
from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity
from durable_streams_cluster.storage.kv import Family, Kv, WriteBatch
from durable_streams_cluster.storage.memory import MemoryKv
from durable_streams_cluster.storage.rocks import RocksKv
from durable_streams_cluster.storage.stream_store import StreamStore

N1, N2, N3 = (NodeId(f"n{number}") for number in range(1, 4))
THREE = "n1=host:1,n2=host:2,n3=host:3"
OLD = Path(__file__).parent / "compat" / "v1" / "data"


def members(*incarnations: int) -> tuple[Member, ...]:
    return tuple(Member(NodeId(f"n{at}"), number, f"host:{at}") for at, number in enumerate(incarnations, 1))


class Directory:
    """A data directory: its file on disk, its store in memory."""

    def __init__(self, path: Path, kv: Kv | None = None) -> None:
        self.path = path
        self.kv = kv or MemoryKv()
        self.file = IdentityFile(path)

    def open(self, **settings: str) -> StoredIdentity:
        config = Config.load({"data-dir": str(self.path), **settings}, {}, None)
        return opening.identity(config, self.kv, self.file)

    def begin(self, record: tuple[Member, ...] = (), *, begun: bool = True) -> StoredIdentity:
        """As ``Birth`` does after the first start."""
        first = self.open(**({"initial-cluster": THREE} if len(record) != 1 else {}))
        record = tuple(each if each.node != N1 else Member(N1, first.incarnation, each.address) for each in record)
        stored = StoredIdentity(N1, first.incarnation, cluster_of(record), record, begun)
        self.file.write(stored)
        return stored

    def change(self, membership: Membership) -> None:
        batch = WriteBatch()
        StreamStore(self.kv, ONLY_GROUP).know_members(batch, membership)
        self.kv.write(batch)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_a_new_directory_has_its_number_in_both_places(directory: Directory) -> None:
    stored = directory.open()
    assert stored == StoredIdentity(N1, stored.incarnation)
    assert directory.kv.get(Family.LOG, keys.REPLICA) == stored.incarnation.to_bytes(8, "big")
    assert directory.open() == stored


def test_a_start_that_was_killed_between_the_two_places_is_gone_on_with(directory: Directory) -> None:
    directory.file.write(StoredIdentity(N1, 7))
    assert directory.open(**{"initial-cluster": THREE}) == StoredIdentity(N1, 7)
    assert directory.kv.get(Family.LOG, keys.REPLICA) == (7).to_bytes(8, "big")


def test_a_lost_file_is_not_made_up(directory: Directory, tmp_path: Path) -> None:
    stored = directory.begin(members(1))
    (tmp_path / "identity").unlink()
    for _ in range(2):
        with pytest.raises(CorruptData, match=r"or the file was lost.*Next step: restore the file"):
            directory.open()
    directory.file.write(stored)
    assert directory.open() == stored


def test_the_file_of_another_directory_is_refused(directory: Directory) -> None:
    stored = directory.begin(members(1, 2, 3))
    directory.file.write(StoredIdentity(N1, stored.incarnation ^ 1, stored.cluster, stored.record, begun=True))
    with pytest.raises(CorruptData, match="holds the store of another data directory"):
        directory.open(**{"initial-cluster": THREE})


@pytest.mark.parametrize("settings", [{}, {"initial-cluster": THREE}, {"join": "host:1"}])
def test_a_store_that_was_wiped_beside_its_file_promises_nothing(
    directory: Directory, settings: dict[str, str]
) -> None:
    """It would vote again, and acknowledge again, under a number that the others believe."""
    directory.begin(members(1, 2, 3))
    directory.kv = MemoryKv()
    with pytest.raises(CorruptData, match="its store is empty: it was lost"):
        directory.open(**settings)
    assert directory.kv.get(Family.LOG, keys.REPLICA) is None


def test_one_that_has_promised_nothing_may_lose_its_store(directory: Directory) -> None:
    stored = directory.begin(members(1, 2, 3), begun=False)
    directory.kv = MemoryKv()
    assert directory.open(**{"initial-cluster": THREE}) == stored


def test_a_directory_from_before_there_were_such_files_is_of_a_node_that_is_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(OLD, data)
    kv = RocksKv.open(data, memory_budget=64 * MIB)
    try:
        directory = Directory(data, kv)
        with pytest.raises(ConfigError, match="was used by a node that is alone, and --initial-cluster names 3"):
            directory.open(**{"initial-cluster": THREE})
        stored = directory.open()
        assert stored.begun
        assert stored.record == (Member(N1, stored.incarnation),)
        assert stored.cluster == cluster_of(stored.record)
        assert directory.open() == stored
        assert directory.open(join="host:2") == stored, "what is begun is not begun again"
    finally:
        kv.close()


def test_a_node_that_is_alone_does_not_begin_with_others(directory: Directory) -> None:
    stored = directory.begin(members(1))
    with pytest.raises(ConfigError, match=r"--initial-cluster names 3\. Next step: start it without"):
        directory.open(**{"initial-cluster": THREE})
    assert directory.open() == directory.open(**{"initial-cluster": "n1=host:1"}) == stored


def test_one_that_grew_to_three_may_be_told_of_all_three(directory: Directory) -> None:
    stored = directory.begin(members(1))
    directory.change(Membership(members(stored.incarnation, 2, 3)))
    assert directory.open(**{"initial-cluster": THREE}) == stored


def test_one_of_three_that_is_left_alone_starts_as_it_always_did(directory: Directory) -> None:
    stored = directory.begin(members(1, 2, 3))
    directory.change(Membership(members(stored.incarnation)))
    assert directory.open(**{"initial-cluster": THREE}) == stored


def test_one_that_joined_starts_with_whatever_it_was_told(directory: Directory) -> None:
    stored = directory.begin()
    for settings in ({}, {"initial-cluster": THREE}, {"join": "host:2"}):
        assert directory.open(**settings) == stored


def test_one_that_the_others_may_have_begun_with_begins_nothing_alone(directory: Directory) -> None:
    """n2 and n3 begin as soon as they hear what is on record here: there would be two clusters."""
    stored = directory.begin(members(1, 2, 3), begun=False)
    for settings in ({}, {"initial-cluster": "n1=host:1"}):
        with pytest.raises(ConfigError, match="is about to begin a cluster with n1, n2, n3"):
            directory.open(**settings)
    assert directory.open(**{"initial-cluster": THREE}) == directory.open(join="host:2") == stored


# --- A node that nobody else can reach.


def alone(path: Path) -> opening.Opened:
    return opening.open_alone(Config.of({"data-dir": str(path), "memory-budget": 64 * MIB, "max-append-bytes": MIB}))


def test_one_that_is_alone_begins_its_own_cluster_once(tmp_path: Path) -> None:
    stored = []
    for _ in range(2):
        opened = alone(tmp_path / "data")
        opened.kv.close()
        stored.append(opened.stored)
    assert stored[0] == stored[1] == IdentityFile(tmp_path / "data").read()
    assert (stored[0].begun, stored[0].first_membership.nodes) == (True, (N1,))


def test_one_that_is_alone_goes_on_where_a_node_with_an_address_was(tmp_path: Path) -> None:
    opened = alone(tmp_path / "data")
    record = (Member(N1, opened.stored.incarnation, "host:4439"),)
    served = StoredIdentity(N1, opened.stored.incarnation, cluster_of(record), record, begun=True)
    opened.file.write(served)
    opened.kv.close()
    opened = alone(tmp_path / "data")
    opened.kv.close()
    assert opened.stored == served


@pytest.mark.parametrize("grew", [False, True])
def test_one_of_several_is_not_opened_as_if_it_was_alone(tmp_path: Path, grew: bool) -> None:
    opened = alone(tmp_path / "data")
    several = members(opened.stored.incarnation, 2, 3)
    if grew:
        batch = WriteBatch()
        StreamStore(opened.kv, ONLY_GROUP).know_members(batch, Membership(several))
        opened.kv.write(batch)
        opened.kv.sync()
    else:
        begun = StoredIdentity(N1, opened.stored.incarnation, cluster_of(several), several, begun=True)
        opened.file.write(begun)
    opened.kv.close()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"of several \(n1, n2, n3\), and an embedded node is alone"):
            alone(tmp_path / "data")
