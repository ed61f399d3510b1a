"""The disk of one of three runs full (tmpfs; that takes root): others lead, it reads on, and it catches up."""

import json
import re
from pathlib import Path
from random import Random

import httpx

from durable_streams_cluster.storage.space import measure
from tests.cluster import running_cluster
from tests.local.test_admin import admin
from tests.server import LOOPBACK, Server, until
from tests.system.faults.full import small_disk
from tests.system.three import readiness, three

TEXT = {"content-type": "text/plain"}
RESERVE_MIB, DISK_MIB = 24, 240
LARGE = 1_000_000


class SmallDiskServer(Server):
    def environment(self) -> dict[str, str]:
        return super().environment() | {"DURABLE_STREAMS_DISK_RESERVE": f"{RESERVE_MIB}MiB"}


def leader(servers: dict[str, Server]) -> str:
    return next((name for name, each in servers.items() if "leader: leader" in readiness(each)), "")


def room(server: Server) -> dict[str, int]:
    """The metrics of its disk, by name."""
    text = httpx.get(f"{server.ops_url}/metrics").text
    return {
        name: int(float(number))
        for name, number in re.findall(r"^durable_streams_disk_(\w+) (\S+)$", text, re.MULTILINE)
    }


def full(server: Server) -> bool:
    return "durable_streams_takes_no_entries 1.0" in httpx.get(f"{server.ops_url}/metrics").text


class Hog:
    """Something else on the disk."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "hog"

    def leave(self, server: Server, share: float) -> None:
        """Let so much be free, of what the node wants; it moves that meanwhile, so until it is so."""

        def is_so() -> bool:
            wanted = room(server)["reserve_bytes"]
            excess = measure(self._file).free - int(share * wanted)
            size = self._file.stat().st_size if self._file.exists() else 0
            with self._file.open("ab") as file:
                file.truncate(max(0, size + excess)) if excess < 0 else file.write(bytes(excess))
            return abs(excess) < wanted // 20

        until(is_so, f"there is never {share:.0%} of the reserve")

    def go(self) -> None:
        self._file.unlink()


def test_one_disk_runs_full_and_the_cluster_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path, DISK_MIB) as disk:
        small, hog = SmallDiskServer(disk), Hog(disk)
        with three(tmp_path, {"n1": small}) as servers:
            targets = [f"{LOOPBACK}:{each.ports['grpc']}" for each in servers.values()]
            admin(targets, "transfer", "n1")
            httpx.put(small.stream("s"), headers=TEXT, content="begun;").raise_for_status()
            written = "begun;"

            def write(at: Server) -> None:
                nonlocal written
                word = f"{len(written)};"
                httpx.post(at.stream("s"), headers=TEXT, content=word).raise_for_status()
                written += word

            # It runs full, and no append is refused: neither by the one that leads, nor while another takes over.
            assert leader(servers) == "n1"
            hog.leave(small, 1.12)

            def moved() -> bool:
                write(small)
                return leader(servers) not in ("", "n1")

            until(moved, "nobody else leads")
            hog.leave(small, 0.8)
            until(lambda: room(small)["refusing"] == 1, "it does not know")
            for at in servers.values():
                write(at)
                assert httpx.get(at.stream("s")).text == written
            assert "not fit to lead" in readiness(small)

            # What others append fills the rest of it, until nothing more is taken; and they go on.
            others = [each for each in servers.values() if each is not small]
            httpx.put(others[0].stream("large"), headers=TEXT).raise_for_status()
            chance = Random(1)

            def filled() -> bool:
                for at in others:
                    httpx.post(at.stream("large"), headers=TEXT, content=chance.randbytes(LARGE)).raise_for_status()
                return full(small)

            until(filled, "it takes whatever it is sent")
            for _ in range(20):
                filled()
                for at in others:
                    write(at)
                    assert httpx.get(at.stream("s")).text == written
            assert full(small)

            # It lives, says so, and shows nothing that is old.
            assert httpx.get(small.stream("s"), timeout=60).status_code == 503
            answer = httpx.get(f"{small.ops_url}/readyz?verbose")
            assert answer.status_code == 503
            assert "[-]disk" in answer.text
            assert "nothing is taken from the leader" in answer.text
            rows = json.loads(admin(targets, "status", "-o", "json"))["members"]
            assert next(row for row in rows if row["node"] == "n1")["lag"] > 0
            assert httpx.get(f"{small.ops_url}/livez").status_code == 200

            # There is room again.
            hog.go()
            until(lambda: not full(small), "it does not know")
            until(lambda: httpx.get(small.stream("s"), timeout=60).status_code == 200, "it does not catch up")
            assert httpx.get(small.stream("s")).text == written
            write(small)
            for each in servers.values():
                assert each.stop() == 0


def test_three_nodes_on_one_full_disk_refuse_read_on_and_find_room_again(tmp_path: Path) -> None:
    """As of ``cluster up`` on a laptop: nobody has room, so the lead stays where it is. A reserve has to do for all."""
    with (
        small_disk(tmp_path, 480) as disk,
        running_cluster(folder=disk, disk_reserve=f"{2 * RESERVE_MIB}MiB") as cluster,
    ):
        streams = [f"{url}/v1/stream/s" for url in cluster.urls]
        httpx.put(streams[0], headers=TEXT).raise_for_status()
        chance, stored = Random(1), 0
        with (disk / "hog").open("wb") as hog:
            hog.write(bytes(measure(disk).free - (150 << 20)))

        def refused() -> bool:
            nonlocal stored
            body = chance.randbytes(LARGE)
            answers = [httpx.post(stream, headers=TEXT, content=body, timeout=60) for stream in streams]
            stored += sum(answer.status_code == 204 for answer in answers)
            assert {answer.status_code for answer in answers} <= {204, 429, 507}
            return all(answer.status_code == 507 for answer in answers)

        until(refused, "appends are taken for ever")
        before = json.loads(admin(cluster.targets, "status", "-o", "json"))["term"]
        for _ in range(10):
            refused()
            for stream in streams:
                with httpx.stream("GET", stream, timeout=60) as answer:
                    assert answer.status_code == 200
                assert httpx.head(stream).headers["stream-next-offset"].endswith(f"{stored * LARGE:016d}")
        status = json.loads(admin(cluster.targets, "status", "-o", "json"))
        assert status["term"] == before, "the lead goes round and round"
        assert all(row["reachable"] for row in status["members"])
        httpx.delete(streams[1]).raise_for_status()

        def taken_again() -> bool:
            made = httpx.put(f"{cluster.urls[2]}/v1/stream/t", headers=TEXT, content=bytes(LARGE), timeout=60)
            return made.status_code in {200, 201}

        until(taken_again, "what is deleted gives no room back")
