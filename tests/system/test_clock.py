"""The machine's clock is set forward and back under a running node (libfaketime): nothing ends early.

CLOCK_JUMPS says how many jumps (4; 20 for an acceptance), CLOCK_SEED repeats a run's choices.
"""

import datetime
import http.client
import os
import random
import secrets
import time
from pathlib import Path

import pytest

from tests.server import LOOPBACK, Server, running

PREFIX = "/v1/stream/"
DAY_S = 24 * 3600


class SkewedServer(Server):
    """A node whose wall clock is off by what a file says; the steady clock is the machine's."""

    def set_clock(self, offset_s: int) -> None:
        """Seconds the wall clock is ahead from now on."""
        draft = self.folder / "offset.tmp"
        draft.write_text(f"{offset_s:+d}\n")
        draft.replace(self.folder / "offset")

    def environment(self) -> dict[str, str]:
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        return super().environment() | {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / "offset"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def ask(server: Server, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> int:
    connection = http.client.HTTPConnection(LOOPBACK, server.ports["http"], timeout=20)
    try:
        connection.request(method, PREFIX + path, body, {"content-type": "text/plain"} | (headers or {}))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def at(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(time.time() + seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def shown_by(server: Server) -> float:
    """The server's wall clock, by its own Date header, in seconds ahead of ours."""
    connection = http.client.HTTPConnection(LOOPBACK, server.ports["http"], timeout=20)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        date = datetime.datetime.strptime(answer.headers["date"], "%a, %d %b %Y %H:%M:%S %Z").replace(
            tzinfo=datetime.UTC
        )
        return date.timestamp() - time.time()
    finally:
        connection.close()


def wait_until_shown(server: Server, offset_s: int) -> None:
    """Until the node was seen to have the new time: its date is made once a second."""
    deadline = time.monotonic() + 20
    while abs(shown_by(server) - offset_s) > 3:
        assert time.monotonic() < deadline, f"the clock did not move to {offset_s:+d} s"


def test_a_clock_that_jumps_ends_nothing_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jumps, seed = int(os.environ.get("CLOCK_JUMPS", "4")), os.environ.get("CLOCK_SEED") or secrets.token_hex(4)
    with capsys.disabled():
        print(f"\nCLOCK_JUMPS={jumps} CLOCK_SEED={seed}", flush=True)
    rng = random.Random(seed)
    server = SkewedServer(tmp_path)
    server.set_clock(0)
    with running(server):
        for number in range(jumps):
            paths = [f"{number}/window", f"{number}/hour", f"{number}/day"]
            assert ask(server, "PUT", paths[0], {"stream-ttl": "3600"}) == 201
            assert ask(server, "PUT", paths[1], {"stream-expires-at": at(3600)}) == 201
            assert ask(server, "PUT", paths[2], {"stream-expires-at": at(DAY_S)}) == 201
            for _ in range(rng.randrange(20)):
                assert ask(server, "POST", paths[0], body=b"x") == 204
            offset_s = rng.choice((-1, 1)) * rng.randrange(2 * 3600, 30 * DAY_S)
            server.set_clock(offset_s)
            wait_until_shown(server, offset_s)
            # More than a round of the job that ends streams: it runs once a second.
            made = f"{number}/made-meanwhile"
            assert ask(server, "PUT", made, {"stream-ttl": "1"}) == 201
            while ask(server, "HEAD", made) == 200:
                pass
            assert [ask(server, method, path) for path in paths for method in ("HEAD", "GET")] == [200] * 6, (
                f"CLOCK_SEED={seed}: a jump of {offset_s:+d} s ended something"
            )
            server.set_clock(0)
            wait_until_shown(server, 0)
        soon = "soon"
        assert ask(server, "PUT", soon, {"stream-expires-at": at(2)}) == 201
        late = time.monotonic() + 30
        while ask(server, "HEAD", soon) == 200:
            assert time.monotonic() < late, "what is due does end, once the clock is right again"
