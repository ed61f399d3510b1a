"""A copy of a data directory is put back while the others have gone on: it acknowledges nothing, and is replaced."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import httpx

from durable_streams_client import cli as command
from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity
from tests.server import LOOPBACK, Server, until
from tests.system.three import readiness, start, three

TEXT = {"content-type": "text/plain"}


def identity(server: Server) -> StoredIdentity:
    found = IdentityFile(server.folder / "data").read()
    assert found is not None
    return found


def voting(server: Server) -> int:
    """How many vote, as it says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        ended = command.main(["admin", "status", "--target", f"{LOOPBACK}:{server.ports['grpc']}", "-o", "json"])
    return sum(each["voter"] for each in json.loads(out.getvalue())["members"]) if ended == 0 else 0


def test_it_is_found_out_marked_and_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    with three(tmp_path) as servers:
        until(lambda: any("leader: leader" in readiness(each) for each in servers.values()), "nobody leads")
        old = next(each for each in servers.values() if "leader: follower" in readiness(each))
        others = [each for each in servers.values() if each is not old]
        httpx.put(others[0].stream("s"), headers=TEXT, content="1;").raise_for_status()
        assert old.stop() == 0
        shutil.copytree(old.folder / "data", old.folder / "copy")
        start(old)
        written = "1;"
        for number in range(2, 30):
            httpx.post(old.stream("s"), headers=TEXT, content=f"{number};").raise_for_status()
            written += f"{number};"
            assert httpx.get(old.stream("s")).text == written, "it takes part"
        before = identity(old)
        old.kill()

        # The copy takes its place.
        shutil.rmtree(old.folder / "data")
        (old.folder / "copy").rename(old.folder / "data")
        process = old.launch()
        assert process.wait() == 1
        assert "is an older image of itself: it had term" in process.errors
        assert "has forgotten what it promised, and is used no more. Next step: start this node again" in process.errors
        assert not any(line.startswith("ready ") for line in process.said), "it served nobody"
        assert "is an older image of itself" in (old.folder / "data" / "needs-repair").read_text()
        assert any("refused a peer" in each.process.errors for each in others if each.process is not None)

        # Alone it says what it waits for, and touches nothing: also those who forgot why it was refused do not hear it.
        for each in others:
            each.kill()
        old.launch()
        until(lambda: "asks to be taken in anew" in readiness(old), "it does not say what it waits for")
        assert "is an older image of itself" in readiness(old)
        assert httpx.get(f"{old.ops_url}/readyz").status_code == 503
        assert (old.folder / "data" / "needs-repair").exists()
        start(*others)
        assert old.process is not None
        old.process.wait_ready()
        for each in servers.values():
            assert httpx.get(each.stream("s")).text == written
        after = identity(old)
        assert (after.cluster, after.node) == (before.cluster, before.node)
        assert after.incarnation != before.incarnation
        assert (old.folder / "data" / "damaged-1" / "db").is_dir()
        assert not (old.folder / "data" / "needs-repair").exists()
        for each in servers.values():
            assert each.stop() == 0


def test_an_image_from_before_there_were_others_is_found_out_too(tmp_path: Path) -> None:
    """It knows nobody, and would lead alone again: it is marked nevertheless, and says what it needs."""
    first = Server(tmp_path / "n1", ["--node", "n1"])
    join = ["--join", f"{LOOPBACK}:{first.ports['peer']}"]
    others = [Server(tmp_path / name, ["--node", name, *join]) for name in ("n2", "n3")]
    try:
        start(first)
        httpx.put(first.stream("s"), headers=TEXT, content="1;").raise_for_status()
        assert first.stop() == 0
        shutil.copytree(first.folder / "data", first.folder / "copy")
        assert identity(first).others == ()
        start(first)
        start(*others)
        until(lambda: voting(first) == 3, "they do not vote")
        httpx.post(first.stream("s"), headers=TEXT, content="2;").raise_for_status()
        first.kill()
        until(lambda: any("leader: leader" in readiness(each) for each in others), "nobody leads")
        shutil.rmtree(first.folder / "data")
        (first.folder / "copy").rename(first.folder / "data")
        # It does not come to note whom it meets; else that is a matter of moments.
        (first.folder / "data" / "identity.tmp").mkdir()
        process = first.launch()
        assert process.wait() == 1
        assert "is an older image of itself" in process.errors
        assert "is an older image of itself" in (first.folder / "data" / "needs-repair").read_text()
        assert identity(first).others == ()
        (first.folder / "data" / "identity.tmp").rmdir()
        process = first.launch()
        assert process.wait() == 1
        assert "Next step: start this node with --join" in process.errors
        assert not any(line.startswith("ready ") for line in process.said), "it served nobody"
        first.arguments += ["--join", f"{LOOPBACK}:{others[0].ports['peer']}"]
        start(first)
        assert httpx.get(first.stream("s")).text == "1;2;"
        for each in (first, *others):
            assert each.stop() == 0
    finally:
        for each in (first, *others):
            if each.process is not None and each.process.running:
                each.kill()
