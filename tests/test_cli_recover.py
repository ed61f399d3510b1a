"""``admin recover`` asks before it does anything: whoever types the id of the cluster means that one."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_cluster import cli, cli_recover
from durable_streams_cluster.errors import StorageError
from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import EntryId, Member, Membership
from durable_streams_cluster.replica.quorum_loss import Found, Held
from durable_streams_cluster.runtime.offline import Recovered
from durable_streams_cluster.storage.identity import StoredIdentity

N1 = NodeId("n1")
LAST = EntryId(Term(3), Index(9))
HELD = Held(Term(3), LAST, LAST, Membership(tuple(Member(NodeId(f"n{number}"), number) for number in (1, 2, 3))))


class Terminal(io.StringIO):
    """Somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def recovered(monkeypatch: pytest.MonkeyPatch) -> list[Found]:
    """What was recovered."""
    done: list[Found] = []

    def recover(found: Found, _: Callable[[int], int]) -> Recovered:
        done.append(found)
        return Recovered(found, StoredIdentity(N1, 77, "c-new", begun=True))

    monkeypatch.setattr(cli_recover, "look", lambda path: Found(str(path), N1, 1, "c-old", HELD))
    monkeypatch.setattr(cli_recover, "recover", recover)
    return done


@pytest.mark.parametrize(("typed", "code"), [("c-old\n", 0), ("c-new\n", 1), ("yes\n", 1), ("", 1)])
def test_the_id_is_typed(
    typed: str,
    code: int,
    recovered: list[Found],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert cli.run(["admin", "recover", "--unsafe", "/n1/", "/n1"], environ={}) == code
    out, err = capsys.readouterr()
    assert "WARNING: this ends cluster c-old" in err
    assert "type the id of the cluster that ends (c-old): " in err
    assert "STATE\n/n1" in out, "what it is about is shown before"
    assert [found.directory for found in recovered] == ([] if code else [str(Path("/n1"))])
    assert ("/n1 is of cluster c-new now" in out) is (code == 0)
    assert ("Nothing was changed" in err) is (code == 1)


def test_a_file_that_the_next_start_writes_is_a_warning(
    recovered: list[Found], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    does = cli_recover.recover

    def recover(found: Found, draw: Callable[[int], int]) -> Recovered:
        return does(found, draw)._replace(late="identity cannot be written: No space left on device")

    monkeypatch.setattr(cli_recover, "recover", recover)
    assert cli.run(["admin", "recover", "--unsafe", "--yes", "c-old", "/n1"], environ={}) == 0
    out, err = capsys.readouterr()
    assert recovered
    assert "/n1 is of cluster c-new now" in out
    assert "WARNING: recovered; the next start writes the file 'identity', which failed here: identity cannot be" in err


@pytest.mark.parametrize("flags", [[], ["--unsafe", "--yes", "c-old"]])
def test_while_one_cannot_be_read_nothing_is_offered(
    flags: list[str], recovered: list[Found], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = cli_recover.look

    def look(path: Path) -> Found:
        if path.name != "n1":
            raise StorageError(f"whether {path} is sound cannot be told")
        return sound(path)

    monkeypatch.setattr(cli_recover, "look", look)
    assert cli.run(["admin", "recover", *flags, "/n1", "/n2", "/n3"], environ={}) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "durable-streams: error: whether /n2 is sound cannot be told\n")
    assert not recovered
