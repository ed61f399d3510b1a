"""python -m benchmarks.attack.bystander PORT CALM HOT: a client that behaves, and what it waits for.

Every PERIOD it appends to CALM, reads that append back, appends a mark to HOT and waits until its own SSE reader of HOT
has it. For each line on standard input it prints, in milliseconds, what it saw since the line before.
"""

import json
import select
import socket
import sys
import time

from benchmarks.attack.wire import Client, dial, get, post

PERIOD = 0.02
LIMIT = 20.0
KINDS = ("append", "read", "delivery")


class Tail:
    """An SSE reader of one stream that looks for marks; it comes back whenever its response ends."""

    def __init__(self, port: int, path: str) -> None:
        self.port, self.path = port, path
        self.socket: socket.socket | None = None
        self.seen = b""
        self.opened = 0

    def open(self) -> None:
        self.socket = dial(self.port)
        self.socket.sendall(get(self.path, "offset=now&live=sse"))
        self.seen = b""
        self.opened += 1
        while b"upToDate" not in self.seen:
            self.take(LIMIT)
            if self.socket is None:
                raise EOFError(f"{self.path} cannot be tailed: {self.seen[:200]!r}")

    def take(self, limit: float) -> None:
        """Read what is there; keep the end, where a mark may be half."""
        assert self.socket is not None
        if not select.select([self.socket], [], [], limit)[0]:
            return
        data = self.socket.recv(1 << 20)
        self.seen = self.seen[-4096:] + data
        if not data or self.seen.endswith(b"\r\n0\r\n\r\n"):
            self.socket.close()
            self.socket = None


class Bystander:
    def __init__(self, port: int, calm: str, hot: str) -> None:
        self.client, self.tail = Client(port), Tail(port, hot)
        self.calm, self.hot = calm, hot
        self.number = 0
        self.times: dict[str, list[float]] = {}
        self.failed: dict[str, int] = {}
        _, headers, _ = self.client.ask(get(calm, "offset=now"))
        self.at = headers["stream-next-offset"]

    def cycle(self) -> None:
        self.number += 1
        body = b"%08d" % self.number + b"." * 92
        status, headers, _ = self._timed("append", post(self.calm, body))
        if status == 204:
            status, _, found = self._timed("read", get(self.calm, f"offset={self.at}"))
            if status == 200 and not found.startswith(body[:8]):
                raise RuntimeError(f"read {found[:20]!r} where {body[:8]!r} was appended")
            self.at = headers["stream-next-offset"]
        if self.tail.socket is None:
            self.tail.open()
        mark = b"mark-%08d-" % self.number
        begun = time.perf_counter()
        status, _, _ = self.client.ask(post(self.hot, mark + b"." * 86))
        if status != 204:
            self._fail("delivery", status)
            return
        while mark not in self.tail.seen:
            if self.tail.socket is None or time.perf_counter() - begun > LIMIT:
                return  # The minute of this response is over: the next one comes after the mark.
            self.tail.take(LIMIT)
        self.times.setdefault("delivery", []).append(time.perf_counter() - begun)

    def _timed(self, kind: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
        begun = time.perf_counter()
        answer = self.client.ask(request)
        if answer[0] < 300:
            self.times.setdefault(kind, []).append(time.perf_counter() - begun)
        else:
            self._fail(kind, answer[0])
        return answer

    def _fail(self, kind: str, status: int) -> None:
        name = f"{kind} {status}"
        self.failed[name] = self.failed.get(name, 0) + 1

    def report(self) -> dict[str, object]:
        found: dict[str, object] = {"failed": self.failed}
        for kind in KINDS:
            times = sorted(self.times.get(kind, []))
            if times:
                found[kind] = {
                    "count": len(times),
                    "p50": times[len(times) // 2] * 1e3,
                    "p99": times[len(times) * 99 // 100] * 1e3,
                    "max": times[-1] * 1e3,
                }
        self.times, self.failed = {}, {}
        return found


def main() -> int:
    bystander = Bystander(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    due = time.perf_counter()
    while True:
        due = max(due + PERIOD, time.perf_counter())
        try:
            bystander.cycle()
        except OSError as error:
            bystander._fail(type(error).__name__, 0)
            bystander.client.close()
            time.sleep(0.1)
        while select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
            if not sys.stdin.readline():
                return 0
            print(json.dumps(bystander.report()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
