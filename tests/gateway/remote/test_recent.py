"""The newest pages of a stream, against a model of it: whoever reads them reads the stream, and nothing else."""

import copy
from dataclasses import dataclass, field
from random import Random
from typing import Self

import pytest
from msgspec.structs import replace

from durable_streams_cluster.api import Page
from durable_streams_cluster.gateway.remote.recent import NEAR, Recent
from durable_streams_cluster.streams.offsets import START, Offset
from tests.runs import somehow

BODIES = [b"\r", b"\n", b"a\r", b"\nb", b"cd", b"efghij"]


@dataclass
class Stream:
    """What a node has: appends, and the offset behind each."""

    name: str
    generation: int
    content_type: str
    bodies: list[bytes] = field(default_factory=list)
    ends: list[Offset] = field(default_factory=lambda: [START])
    closed: bool = False
    random: Random = field(default_factory=lambda: Random(1))

    def append(self, body: bytes) -> None:
        self.bodies.append(body)
        self.ends.append(Offset(self.generation, self.ends[-1].position + len(body)))

    def page(self, at: Offset, max_bytes: int | None) -> Page:
        """As ``runtime.service``."""
        first = last = self.ends.index(at)
        size = 0
        while last < len(self.bodies):
            size += len(self.bodies[last])
            if max_bytes is not None and last > first and size > max_bytes:
                break
            last += 1
        is_end = last == len(self.bodies)
        return Page(
            self.name,
            self.content_type,
            False,
            at,
            self.ends[last],
            somehow(self.random, self.bodies[first:last], at.position),
            is_end,
            self.closed and is_end,
            None,
            None,
            {},
            behind=sum(map(len, self.bodies[last:])),
            after_cr=last > first and self.follows_cr(first),
        )

    def follows_cr(self, number: int) -> bool:
        split = number > 0 and self.bodies[number - 1][-1:] == b"\r" and self.bodies[number][:1] == b"\n"
        return split and self.content_type.lower().startswith("text/")


@dataclass
class Reader:
    stream: Stream
    at: Offset
    behind: bool = False
    """It was told that there is more."""
    ended: bool = False


class Reading:
    """An upstream read brings pages when it likes; readers read what came, and ask the node for what is not known."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.recent = Recent()
        self.stream = Stream("1", 1, chance.choice(["text/plain", "Text/CSV; a=b", "x/y"]))
        self.streams = {"1": self.stream}
        self.follows: Offset | None = None
        """Where the upstream read goes on; None: it is broken, or has not begun."""
        self.was_up_to_date = False
        self.readers: list[Reader] = []
        self.given: list[tuple[Page, Page]] = []
        """Each page as it was given out, and as it was then."""

    def run(self) -> None:
        steps = {self.append: 6, self.come: 6, self.read: 12, self.arrive: 2, self.keep: 1, self.change: 1}
        for step in self.chance.choices([*steps], [*steps.values()], k=60):
            step()
        self.end()

    def most(self) -> int | None:
        return self.chance.choice([None, self.chance.randint(1, 12)])

    # --- What writers do.

    def append(self) -> None:
        for _ in range(0 if self.stream.closed else self.chance.randint(1, 4)):
            self.stream.append(self.chance.choice(BODIES))

    def change(self) -> None:
        match self.chance.choice(["era", "era", "close", "last", "replace", "break"]):
            case "era":  # A restore: offsets are of another generation from here on.
                self.stream.generation += 1
            case "close":
                self.stream.closed = True
            case "last":
                self.append()
                self.stream.closed = True
            case "replace":  # Deleted, and created again; the upstream read ends with that.
                number = len(self.streams) + 1
                self.stream = Stream(str(number), self.stream.generation + 1, self.stream.content_type)
                self.streams[self.stream.name] = self.stream
                self.follows = None
            case "break":
                self.follows = None

    # --- What the upstream read does.

    def come(self) -> None:
        """The next page, if there is news (``runtime.follows``)."""
        if self.follows is None:
            self.follows = self.recent.end or self.stream.ends[-1]
            if self.follows not in self.stream.ends:  # 410: what is known is of no use.
                self.recent.forget()
                self.follows = self.stream.ends[-1]
            self.was_up_to_date = False
        page = self.stream.page(self.follows, self.most())
        if page.bodies or page.closed or (page.up_to_date and not self.was_up_to_date):
            is_known = self.recent.end is not None
            assert self.recent.add(page) or (is_known and not page.bodies and not page.closed)
            self.follows, self.was_up_to_date = page.next, page.up_to_date

    def keep(self) -> None:
        most = self.chance.choice([0, 10, 20])
        self.recent.keep(most)
        assert self.recent.size <= most

    # --- What readers do.

    def arrive(self) -> None:
        reader = Reader(self.stream, self.chance.choice(self.stream.ends))
        self.readers.append(reader)
        self._read(reader, self.most(), fresh=True)

    def read(self) -> None:
        reader = self.chance.choice(self.readers) if self.readers else None
        if reader is not None and not reader.ended:
            self._read(reader, self.most(), fresh=self.chance.random() < 0.2)

    def _read(self, reader: Reader, most: int | None, *, fresh: bool = False) -> None:
        page = None if fresh else self.recent.at(reader.at, most)
        if page is not None:
            self._check(page, reader, most)
        elif reader.at in self.stream.ends:
            page = self.stream.page(reader.at, most)
            self.recent.hear(page)
        else:
            reader.ended = True  # 410.
            return
        reader.ended = page.closed or page.stream != reader.stream.name
        if page.stream == reader.stream.name:
            reader.at, reader.behind = page.next, not page.up_to_date

    def _check(self, page: Page, reader: Reader, most: int | None) -> None:
        """Of what was kept."""
        history = self.streams[page.stream]
        assert page.start == reader.at
        assert page.stream == reader.stream.name, "offsets name the stream"
        first, last = history.ends.index(page.start), history.ends.index(page.next)
        assert page.bodies == history.bodies[first:last]
        assert page.after_cr == (bool(page.bodies) and history.follows_cr(first))
        is_plain = page.start.generation == page.next.generation
        assert most is None or len(page.bodies) <= 1 or sum(map(len, page.bodies)) <= most or not is_plain
        end = self.recent.end
        assert end is not None
        if page.up_to_date:
            assert page.next == end, "more is here"
            assert page.bodies or not reader.behind, "it was told that there is more"
        assert not page.closed or (history.closed and page.next == history.ends[-1] and page.up_to_date)
        last = self.recent.at(end, None)
        assert page.closed or page.next != end or last is None or not last.closed, "nobody else will tell it"
        form = f"{page.start}{page.next}{page.bodies}{page.up_to_date}{page.closed}{page.after_cr}".encode()
        assert page.encoded.setdefault("form", form) == form
        self.given.append((page, copy.deepcopy(page)))

    def end(self) -> None:
        """Everything arrives at last, and what was given out is what it was."""
        while self.follows != self.stream.ends[-1] or self.recent.end != self.follows:
            self.come()
        for reader in self.readers:
            while not reader.ended and reader.at != self.stream.ends[-1]:
                self._read(reader, None)
        assert all(page == as_it_was for page, as_it_was in self.given)


@pytest.mark.parametrize("first", range(0, 2_000, 200))
def test_whoever_reads_reads_the_stream(first: int) -> None:
    for seed in range(first, first + 200):
        try:
            Reading(Random(seed)).run()
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


class Body(bytes):
    """Bytes that are missed when they go."""

    kept = 0

    def __new__(cls, body: bytes) -> Self:
        cls.kept += 1
        return super().__new__(cls, body)

    def __del__(self) -> None:
        Body.kept -= 1


def test_what_is_not_counted_is_not_kept() -> None:
    """The newest page is there in two ways, and only one of them was bounded."""
    recent, stream = Recent(), Stream("1", 1, "x/y")
    for _ in range(3):
        stream.append(Body(b"0123456789"))
        recent.add(stream.page(stream.ends[-2], None))
    stream.bodies.clear()
    assert (Body.kept, recent.size) == (3, 30)
    recent.keep(29)
    assert (Body.kept, recent.size) == (2, 20)
    recent.keep(0)
    assert (Body.kept, recent.size) == (0, 0)
    assert recent.end == stream.ends[-1], "where it goes on is still known"
    recent.forget()
    assert (recent.end, recent.ttl_s) == (None, None)


def test_an_offset_that_was_made_up_says_nothing_of_the_stream() -> None:
    recent, stream = Recent(), Stream("1", 1, "x/y")
    stream.append(b"one")
    recent.add(stream.page(START, None))
    end = stream.ends[-1]
    beyond = Offset(1, 1_000)
    recent.hear(replace(stream.page(end, None), start=beyond, next=beyond))
    assert recent.at(end, None) is not None
    assert recent.at(beyond, None) is None


def of(*bodies: bytes, name: str = "1") -> Stream:
    stream = Stream(name, 1, "x/y")
    for body in bodies:
        stream.append(body)
    return stream


def test_what_is_kept_is_read_from_here() -> None:
    recent, stream = Recent(), of(b"zero", b"one", b"two", b"three", b"four")
    at = stream.ends[1]
    while at != stream.ends[-1]:
        page = stream.page(at, 8)
        recent.add(page)
        at = page.next
    assert [recent.at(end, None) is not None for end in stream.ends] == [False, True, True, True, True, True]
    recent.keep(9)
    assert [recent.at(end, None) is not None for end in stream.ends] == [False, False, False, True, True, True]


def test_who_is_far_behind_is_not_given_many_small_pages() -> None:
    recent, stream = Recent(), Stream("1", 1, "x/y")
    for _ in range(NEAR + 3):
        stream.append(b"x")
        recent.add(stream.page(stream.ends[-2], None))
    served = [recent.at(end, None) is not None for end in stream.ends]
    assert served == [False] * 3 + [True] * (NEAR + 1)


def test_pages_that_do_not_adjoin_are_no_stream() -> None:
    recent, stream = Recent(), of(b"one", b"two", b"three")
    first, second, third = (stream.page(end, 1) for end in stream.ends[:3])
    recent.add(first)
    assert recent.add(third), "it begins anew"
    assert (recent.at(first.start, None), recent.size) == (None, 5)
    recent.add(replace(second, stream="2", start=third.next, next=Offset(1, 14)))
    assert (recent.at(third.start, None), recent.size) == (None, 3)


def test_who_reads_another_stream_asks_the_node() -> None:
    """All streams that are at a path one after the other begin at one offset; two forks of one source share more."""
    recent, stream = Recent(), of(b"one")
    recent.add(stream.page(START, None))
    end = stream.ends[-1]
    assert recent.at(START, None) is None
    assert recent.at(end, None) is not None
    recent.hear(replace(stream.page(end, None), stream="2"))
    assert recent.at(end, None) is None


def test_at_an_end_that_is_none_the_node_is_asked() -> None:
    recent, stream = Recent(), of(b"one")
    recent.add(replace(stream.page(START, None), up_to_date=False))
    assert recent.at(stream.ends[-1], None) is None
