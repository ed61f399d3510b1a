"""What the streams held, put together from every answer that showed or placed some of it; pure.

A stream at one path is several, one after the other, when it is deleted and created again: their offsets have other
generations. ``Key`` names one of them. A fork's path is used once, so it needs no generation, and what lies before its
fork point is its source's.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.history.records import Op, offset

Key = tuple[str, int]
OWN = -1
"""In place of a fork's generation."""


class Piece(NamedTuple):
    """Some bytes at some place, and who says so."""

    start: int
    data: bytes
    op: Op


class Placed(NamedTuple):
    """An append as it stands in a stream."""

    op: Op
    key: Key
    end: int


class Content:
    """All that is known of all streams; ``wrong`` has what cannot be."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self.wrong: list[str] = []
        self.placed: list[Placed] = []
        self._forks = {op.path: op for op in ops if op.kind == "create" and op.source and op.outcome != "refused"}
        self._by_line: dict[bytes, Op] = {}
        for op in ops:
            if op.writes:
                first = _first_line(op.body.encode(), 0)
                assert first not in self._by_line, f"two bodies begin with {first!r}"
                self._by_line[first] = op
        pieces: dict[Key, list[Piece]] = {}
        for op in ops:
            if op.outcome == "acked" and op.body and op.next:
                for key, piece in self._pieces(op):
                    pieces.setdefault(key, []).append(piece)
        seen: dict[int, Placed] = {}
        for key, those in pieces.items():
            for start, data in self._joined(key, those):
                self._walk(key, start, data, seen)

    def key_of(self, path: str, generation: int) -> Key:
        """Which stream a position of this generation belongs to, where it is the path's own."""
        return (path, OWN if path in self._forks else generation)

    def _pieces(self, op: Op) -> Iterator[tuple[Key, Piece]]:
        generation, end = offset(op.next)
        path, data = op.path, op.body.encode()
        while data:
            fork = self._forks.get(path)
            point = offset(fork.at)[1] if fork is not None else 0
            own = data[max(0, len(data) - (end - point)) :] if end > point else b""
            if own:
                yield self.key_of(path, generation), Piece(end - len(own), own, op)
                data, end = data[: len(data) - len(own)], end - len(own)
            if not data:
                return
            if fork is None:
                self.wrong.append(f"{name(op)} has bytes before the beginning of {path}")
                return
            path, generation = fork.source, offset(fork.at)[0]

    def _joined(self, key: Key, pieces: list[Piece]) -> Iterator[tuple[int, bytes]]:
        """Runs without a hole; pieces that lie over each other must agree."""
        pieces.sort(key=lambda piece: (piece.start, -len(piece.data)))
        start, run, says = pieces[0].start, bytearray(), pieces[0].op
        for piece in pieces:
            if piece.start > start + len(run):
                yield start, bytes(run)
                start, run = piece.start, bytearray()
            at = piece.start - start
            if run[at : at + len(piece.data)] != piece.data[: len(run) - at]:
                self.wrong.append(
                    f"{key[0]}: the bytes from {piece.start} on are others for {name(piece.op)} than for {name(says)}"
                )
            elif at + len(piece.data) > len(run):
                run[at:], says = piece.data, piece.op
        yield start, bytes(run)

    def _walk(self, key: Key, start: int, data: bytes, seen: dict[int, Placed]) -> None:
        """Append by append: each is somebody's, whole, and there once."""
        at = 0
        while at < len(data):
            op = self._by_line.get(_first_line(data, at))
            if op is None or not data.startswith(op.body.encode(), at):
                what = _first_line(data, at)[:60]
                self.wrong.append(f"{key[0]}: at {start + at} stands {what!r}, which nobody appended so")
                return
            at += len(op.body.encode())
            placed = Placed(op, key, start + at)
            before = seen.get(id(op))
            if before is not None and before.key != key and op.path == key[0] == before.key[0] and op.attempts > 1:
                continue  # One of its attempts came to a stream that was made anew, which knows nothing of the others.
            if before is not None:
                self.wrong.append(f"{name(op)} stands twice: {before.key} {before.end} and {key} {placed.end}")
            elif op.path != key[0]:
                self.wrong.append(f"{name(op)} stands in {key[0]}")
            elif op.outcome == "refused":
                self.wrong.append(f"{name(op)} is there, though it was refused ({op.why})")
            else:
                seen[id(op)] = placed
                self.placed.append(placed)


def _first_line(data: bytes, at: int) -> bytes:
    end = data.find(b"\n", at)
    return data[at : end if end >= 0 else len(data)]


def name(op: Op) -> str:
    """An operation, for people."""
    what = f" {op.body.partition('|')[0]}" if op.writes else f" to {op.next}" if op.next else ""
    closes = ", closing," if op.closes else ""
    return f"{op.kind}{what}{closes} of {op.path} by {op.client or '?'} at {op.node or '?'} ({op.sent:.3f} s)"
