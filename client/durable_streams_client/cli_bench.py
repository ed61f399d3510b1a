"""``durable-streams bench``: a quick look at what a cluster does, with streams that it makes and deletes."""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

from durable_streams_client import _arguments as arguments
from durable_streams_client import cli_common as common
from durable_streams_client import errors
from durable_streams_client._admin_text import printable
from durable_streams_client._batching import ProducerLimits
from durable_streams_client._bench import PHASES, Measured, as_json, as_text
from durable_streams_client._formats import MAX_RECORD_BYTES
from durable_streams_client.cli_progress import Progress
from durable_streams_client.client import Client
from durable_streams_client.follower import Follower
from durable_streams_client.stream import Stream
from durable_streams_client.types import START

T = TypeVar("T")

PHASE_MIB = 256
"""No phase appends more, unless one record is larger."""
MOST_AT_A_TIME = 10_000
KEPT_S = 3600
"""A stream that could not be deleted ends by itself so many seconds after its last use."""
DELETE_S = 10.0
LOOK_S = 0.2
"""How often (seconds) the bar moves."""

_DESCRIPTION = f"""\
Take a quick look at what a cluster does. IT WRITES TO THE CLUSTER, as fast as the cluster takes it: each phase appends
for --seconds, and at most --count records or {PHASE_MIB} MiB. The streams are its own, PATH/bench-RANDOM/PHASE, and are
deleted at the end, also when it is interrupted or fails. One that cannot be deleted is named, and ends by itself an
hour after its last use.
"""
_PHASES = "\n".join(f"  {name:<8} {what}" for name, what in PHASES.items())
_EPILOG = f"""\
phases, in this order:
{_PHASES}

This is one client, a process with one thread: many clients together may get more. It shares the processors with nodes
on the same machine, and both are slower for it. Over HTTP the appends of one client to one stream leave one after the
other, whatever --concurrency is: the times are those in the queue.

examples:
  durable-streams bench
  durable-streams bench --phase append --concurrency 1 --size 1000
  durable-streams bench tests/here --seconds 30 --target a:4438,b:4438,c:4438 -o json

{common.EXIT_CODES}
"""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run ``bench`` and return the exit code; ``argv`` is what comes after it."""
    parser = build()
    try:
        options = parser.parse_intermixed_args(list(argv))
        common.take_environment(parser, options, environ)
    except SystemExit as exit_:  # argparse has printed help (0) or its complaint (2)
        return common.EXIT_USAGE if exit_.code else common.EXIT_OK
    return common.run(_bench, options)


def build() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog="durable-streams bench",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("path", metavar="PATH", nargs="?", default="", help="its streams are below it (default: none)")
    parser.add_argument(
        "--phase", metavar="PHASE", choices=tuple(PHASES), action="append", help="only this one; may be given again"
    )
    parser.add_argument(
        "--seconds", metavar="N", type=arguments.count, default=5, help="how long each phase lasts (default 5)"
    )
    parser.add_argument(
        "--count", metavar="N", type=arguments.count, default=10_000_000, help="records of a phase (default 10000000)"
    )
    parser.add_argument(
        "--size", metavar="BYTES", type=arguments.up_to(MAX_RECORD_BYTES), default=100, help="of a record (default 100)"
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=arguments.up_to(MOST_AT_A_TIME),
        default=32,
        help="plain appends at a time (default 32)",
    )
    common.add_common(parser)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="(default table)")
    return parser


async def _bench(client: Client, options: argparse.Namespace) -> int:
    streams = _Streams(client, options.path)
    try:
        asked = [phase for phase in PHASES if phase in (options.phase or PHASES)]
        measured = [await _Phase(options, phase).measure(streams) for phase in asked]
    finally:
        deleted = await streams.delete()
    if options.output == "json":
        about = {"target": options.target, "sizeBytes": options.size, "concurrency": options.concurrency}
        sys.stdout.write(as_json(about, measured))
    else:
        sys.stdout.write(as_text(measured))
    return common.EXIT_OK if deleted else common.EXIT_FAILED


class _Streams:
    """Those that this run makes: under a name that nobody else has, so that nothing of others is deleted."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._prefix = f"{path.rstrip('/')}/bench-{uuid4().hex[:12]}".lstrip("/")
        self._made: dict[str, Stream] = {}

    async def get(self, name: str) -> tuple[Stream, bool]:
        """The stream of this name, and whether it was made now."""
        if name in self._made:
            return self._made[name], False
        # Kept first: a create that is interrupted may have happened.
        made = self._made[name] = self._client.stream(f"{self._prefix}/{name}", content_type="application/octet-stream")
        try:
            await made.create(ttl_s=KEPT_S)
        except errors.DurableStreamError as error:
            if not error.maybe_applied:
                del self._made[name]
            raise
        return made, True

    async def delete(self) -> bool:
        """Delete all of them; whether none is left. Says on standard error which are."""
        return all(await asyncio.gather(*map(self._delete, self._made.values())))

    async def _delete(self, stream: Stream) -> bool:
        try:
            await stream.delete(timeout_s=DELETE_S)
        except errors.StreamNotFoundError:
            pass  # What was to make it failed.
        except errors.DurableStreamError as error:
            said = f"{stream.path} is left behind, for an hour after its last use: {error}"
            sys.stderr.write(f"durable-streams: warning: {printable(said)}\n")
            return False
        return True


class _Phase:
    """One phase: it goes on for as long, and for as many records, as was asked for."""

    def __init__(self, options: argparse.Namespace, phase: str) -> None:
        self._options = options
        self._phase = phase
        self._now = asyncio.get_running_loop().time
        self._record = os.urandom(options.size)
        self._begun_s, self._records, self._most = 0.0, 0, 1
        self._latencies_s: list[float] = []

    async def measure(self, streams: _Streams) -> Measured:
        """Run it. Raises DurableStreamError."""
        # What produce wrote is what is read.
        stream, is_new = await streams.get("produce" if self._phase == "read" else self._phase)
        works = {"produce": self._produce, "append": self._append, "deliver": self._deliver, "read": self._read}
        room = min(self._options.count, max(1, PHASE_MIB * 2**20 // self._options.size))
        with self._shown():
            if self._phase == "read" and is_new:
                self._begin(room)
                await self._produce(stream)
            # What is only read needs no room.
            self._begin(self._options.count if self._phase == "read" else room)
            await works[self._phase](stream)
            seconds = self._now() - self._begun_s
        return Measured(self._phase, self._records, self._options.size, seconds, self._latencies_s)

    def _begin(self, most: int) -> None:
        self._begun_s, self._records, self._most = self._now(), 0, most

    # --------------------------------------------------------------------------------------------------------- phases

    async def _produce(self, stream: Stream) -> None:
        limits = ProducerLimits(delivery_timeout_s=self._options.timeout)
        async with stream.producer(limits=limits) as producer:
            while self._takes_one():
                await producer.append(self._record)

    async def _append(self, stream: Stream) -> None:
        async def append_on() -> None:
            while self._takes_one():
                begun_s = self._now()
                await stream.append(self._record)
                self._latencies_s.append(self._now() - begun_s)

        await _together(*(append_on() for _ in range(min(self._options.concurrency, self._most))))

    async def _deliver(self, stream: Stream) -> None:
        async with stream.follow(patience_s=self._options.timeout) as pages:
            await self._delivery_s(stream, pages)  # Not measured: it finds the way there.
            self._begin(self._most)
            while self._takes_one():
                self._latencies_s.append(await self._delivery_s(stream, pages))

    async def _delivery_s(self, stream: Stream, pages: Follower) -> float:
        async def arrives_s() -> float:
            left = self._options.size
            async for page in pages:
                left -= sum(map(len, page.bodies))
                if left <= 0:
                    return self._now()
            raise errors.StreamClosedError("somebody closed this stream")

        async def appended_s() -> float:
            begun_s = self._now()
            await stream.append(self._record)
            return begun_s

        # Who follows waits before there is something.
        came_s, begun_s = await _together(arrives_s(), appended_s())
        return came_s - begun_s

    async def _read(self, stream: Stream) -> None:
        offset, read = START, 0
        while self._goes_on():
            page = await stream.read(offset)
            read += sum(map(len, page.bodies))
            self._records = read // self._options.size
            offset = START if page.up_to_date else page.next_offset

    # -------------------------------------------------------------------------------------------------------- progress

    def _goes_on(self) -> bool:
        lasts = self._now() - self._begun_s < float(self._options.seconds)
        return lasts and self._records < self._most

    def _takes_one(self) -> bool:
        """Whether the phase goes on; then it has one more record."""
        goes_on = self._goes_on()
        self._records += goes_on
        return goes_on

    @contextlib.contextmanager
    def _shown(self) -> Iterator[None]:
        """A bar meanwhile. A task moves it, and not the loops: they are measured."""
        shown = sys.stderr.isatty()
        with Progress(shown) as progress:
            moving = asyncio.create_task(self._move(progress)) if shown else None
            try:
                yield
                progress.show(1.0, self._so_far())
            finally:
                if moving is not None:
                    moving.cancel()

    async def _move(self, progress: Progress) -> None:
        while True:
            lasted = (self._now() - self._begun_s) / self._options.seconds
            progress.show(max(lasted, self._records / self._most), self._so_far())
            await asyncio.sleep(LOOK_S)

    def _so_far(self) -> str:
        return f"{self._phase}: {self._records:,} records"


async def _together(*works: Coroutine[Any, Any, T]) -> list[T]:
    """Do all of it at once; the first failure calls the others off, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
