"""A copy of a data directory is put back while the others have gone on: it acknowledges nothing, and is replaced."""

import shutil
from pathlib import Path

import httpx

from durable_streams_cluster.storage.identity import IdentityFile, StoredIdentity
from tests.server import Server
from tests.system.three import readiness, start, three, until

TEXT = {"content-type": "text/plain"}


def identity(server: Server) -> StoredIdentity:
    found = IdentityFile(server.folder / "data").read()
    assert found is not None
    return found


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
