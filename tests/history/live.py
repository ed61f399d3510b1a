"""Of a history, what readers got; live ones all of it, once, in order, over whatever connections. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from tests.history.content import Content, name
from tests.history.records import Op, offset


def check_live(content: Content, paths: Mapping[str, Sequence[Op]]) -> Iterator[str]:
    """The bytes were compared with everybody else's when the content was put together."""
    ends = {path: _newest_read(those) for path, those in paths.items()}
    readers: dict[tuple[str, str], list[Op]] = {}
    for path, those in paths.items():
        for op in those:
            if op.kind == "live":
                readers.setdefault((path, op.client), []).append(op)
            if op.kind in ("read", "live") and op.outcome == "acked" and op.start:
                size = len(op.body.encode())
                if offset(op.next)[1] - offset(op.start)[1] != size:
                    yield f"{name(op)} has {size} bytes from {op.start} on"
    for (path, _), deliveries in readers.items():
        yield from _chain(deliveries)
        last, end = deliveries[-1], ends[path]
        complete = last.last and last.outcome == "acked" and not last.closed
        if complete and end is not None and offset(last.next) < offset(end.next):
            yield f"{name(last)} is the last it got, though {name(end)} was there"


def _newest_read(ops: Sequence[Op]) -> Op | None:
    """The last read that has all of a stream, if the stream is there at the end."""
    last = [op for op in ops if op.kind == "read" and op.outcome != "unknown" and (op.up_to_date or op.why == "gone")]
    return last[-1] if last and last[-1].outcome == "acked" and last[-1].next else None


def _chain(deliveries: Sequence[Op]) -> Iterator[str]:
    before: Op | None = None
    for op in deliveries:
        if op.outcome != "acked":
            continue
        if before is not None and op.start != before.next:
            yield f"{name(op)} begins at {op.start}, though it had come to {before.next}"
        if before is not None and before.closed and (op.body or not op.closed):
            yield f"{name(op)} comes after the end of a closed stream"
        before = op
