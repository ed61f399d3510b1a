"""python -m benchmarks.attack.attackers PORT: the attack, as JSON on standard input; ends with its input.

The plan is a list of groups: ``{"kind": ..., "count": ..., ...}``, see ``KINDS``. Everything is done from one epoll
loop, slowly: what an attack costs its victim is measured, not how fast one Python process sends. A connection that the
victim ends is opened again after ``AGAIN``. Prints how often each group was cut and what it was answered.
"""

import collections
import errno
import heapq
import json
import os
import random
import select
import socket
import sys
import time
from typing import Any

from benchmarks.attack.wire import HOST, get

AGAIN = 1.0
"""Seconds until a connection that was ended is opened again."""
SMALL_BUFFER = 4096
POST = b"POST /v1/stream/attack/none HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\n"
KIND_HEADS = {
    "request-line": b"GET /v1/stream/hal",
    "headers": b"GET /v1/stream/x HTTP/1.1\r\nhost: a\r\n"
    + b"".join(b"x-%02d: %s\r\n" % (n, b"y" * 320) for n in range(94)),
    "many-headers": b"GET /v1/stream/x HTTP/1.1\r\nhost: a\r\n" + b"a:b\r\n" * 6_400,
    "no-body": POST + b"content-length: 1000\r\n\r\n",
    "fat-body": POST + b"content-length: 16000000\r\n\r\n" + b"z" * 4_000_000,
    "dribble": POST + b"content-length: 16000000\r\n\r\n" + b"z" * 100_000,
    "pipelined": get("attack/hot", "offset=now&live=sse")
    + (b"GET /v1/stream/x HTTP/1.1\r\nhost: a\r\n" + b"b: c\r\n" * 90 + b"\r\n") * 31,
    "huge-head": b"GET /v1/stream/x HTTP/1.1\r\nhost: a\r\n" + (b"x: " + b"y" * 1000 + b"\r\n") * 20_000,
}
DRIP = {"dribble": b"z", "headers": b"", "fat-body": b"", "request-line": b"f"}
KINDS = ("reader", *KIND_HEADS)


class Group:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.kind: str = plan["kind"]
        self.name: str = plan.get("name", self.kind)
        self.count: int = plan["count"]
        self.targets: list[list[str]] = plan.get("targets", [])
        self.every_s: float = plan.get("every_s", 0.0)
        """A reader takes one byte, a sender sends one, so often; never when 0."""
        self.counts: collections.Counter[str] = collections.Counter()


class One:
    """One hostile connection."""

    def __init__(self, group: Group, number: int) -> None:
        self.group, self.number = group, number
        self.socket = socket.socket()
        self.out = memoryview(b"")
        self.answered = False
        self.life = 0

    def open(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.socket.setblocking(False)
        if self.socket.connect_ex((HOST, port)) not in (0, errno.EINPROGRESS):
            raise OSError("cannot connect")
        if self.group.kind == "reader":
            path, query = self.group.targets[self.number % len(self.group.targets)]
            self.out = memoryview(get(path, query))
        else:
            self.out = memoryview(KIND_HEADS[self.group.kind])
        self.answered = False
        self.life += 1
        self.group.counts["opened"] += 1

    @property
    def reads(self) -> bool:
        return self.group.kind != "reader"

    def send(self) -> None:
        while self.out:
            try:
                sent = self.socket.send(self.out[: 1 << 18])
            except BlockingIOError:
                return
            self.out = self.out[sent:]

    def look(self) -> bool:
        """Take an answer, if this kind does; False when the connection has ended."""
        data = self.socket.recv(65536)
        if data and not self.answered:
            self.answered = True
            self.group.counts[data[9:12].decode("latin-1")] += 1
        return bool(data)

    def drip(self) -> None:
        """The byte that keeps it alive."""
        if self.reads:
            if not self.out:
                self.socket.send(DRIP.get(self.group.kind, b"") or b"")
        else:
            self.socket.recv(1)


class Attack:
    def __init__(self, port: int, plans: list[dict[str, Any]], ramp_s: float) -> None:
        self.port = port
        self.groups = [Group(plan) for plan in plans]
        self.poll = select.epoll()
        self.open: dict[int, One] = {}
        self.due: list[tuple[float, int, int, One]] = []
        """When, a number that makes it unique, the life of that connection that gets a byte (0: open it), and which."""
        self.order = 0
        ones = [One(group, number) for group in self.groups for number in range(group.count)]
        random.Random(1).shuffle(ones)
        now = time.monotonic()
        for place, one in enumerate(ones):
            self.later(now + ramp_s * place / len(ones), one)

    def later(self, at: float, one: One, life: int = 0) -> None:
        self.order += 1
        heapq.heappush(self.due, (at, self.order, life, one))

    def start(self, one: One) -> None:
        one.open(self.port)
        self.open[one.socket.fileno()] = one
        self.poll.register(
            one.socket.fileno(), select.EPOLLOUT | select.EPOLLRDHUP | (select.EPOLLIN if one.reads else 0)
        )
        if one.group.every_s:
            self.later(time.monotonic() + one.group.every_s, one, one.life)

    def end(self, one: One, why: str) -> None:
        one.group.counts[why] += 1
        self.open.pop(one.socket.fileno(), None)
        one.socket.close()
        self.later(time.monotonic() + AGAIN, one)

    def run(self) -> None:
        stdin = sys.stdin.fileno()
        self.poll.register(stdin, select.EPOLLIN | select.EPOLLHUP)
        while True:
            wait = min(0.2, max(0.0, self.due[0][0] - time.monotonic())) if self.due else 0.2
            for number, event in self.poll.poll(wait, 256):
                if number == stdin:
                    return
                if number in self.open:
                    self.handle(self.open[number], event)
            while self.due and self.due[0][0] <= time.monotonic():
                _, _, life, one = heapq.heappop(self.due)
                self.act(one, life)

    def handle(self, one: One, event: int) -> None:
        try:
            if event & select.EPOLLOUT:
                one.send()
                if not one.out:
                    self.poll.modify(one.socket.fileno(), select.EPOLLRDHUP | (select.EPOLLIN if one.reads else 0))
            if event & select.EPOLLIN and not one.look():
                self.end(one, "ended")
            elif event & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                self.end(one, "cut" if event & select.EPOLLERR else "ended")
        except OSError:
            self.end(one, "cut")

    def act(self, one: One, life: int) -> None:
        try:
            if not life:
                self.start(one)
            elif life == one.life and one.socket.fileno() in self.open:
                self.later(time.monotonic() + one.group.every_s, one, life)
                one.drip()
        except BlockingIOError:
            pass
        except OSError:
            if life:
                self.end(one, "cut")
            else:
                one.group.counts["refused"] += 1
                self.later(time.monotonic() + AGAIN, one)


def main() -> int:
    os.nice(19)  # They would have machines of their own: what they take of this one's processor is not their attack.
    plans = json.loads(sys.stdin.readline())
    attack = Attack(int(sys.argv[1]), plans["groups"], plans["ramp_s"])
    attack.run()
    print(json.dumps({group.name: dict(group.counts) for group in attack.groups}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
