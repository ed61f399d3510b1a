"""Retention: what the policies say may go is trimmed, by the leader, a bounded part of the streams at a time."""

import asyncio
import contextlib
from itertools import islice

from durable_streams_cluster.answer import Answer
from durable_streams_cluster.errors import Overloaded, StorageError
from durable_streams_cluster.policies import Policies
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.streams import retention
from durable_streams_cluster.streams.commands import Trim
from durable_streams_cluster.streams.meta import StreamMeta, StreamRef

PER_ROUND = 500
"""Streams that one round looks at: those that grew, and as many of all, one after the other."""
SLICE = 50
"""Looked at before the loop gets its turn; it also gets one after each read of an append, which may be large."""
REMEMBERED = 20_000
"""Streams of which it is known when their oldest append was stored."""
COMMAND_BYTES = 512
"""What a command holds, roughly."""


class Retention:
    """Trims streams whose policy keeps a size or an age. ``grew`` is called for each append, so it is cheap."""

    def __init__(self, driver: Driver, policies: Policies) -> None:
        self._driver = driver
        self._policies = policies
        if policies.ages:
            driver.counts_time = True
        self._grown: dict[str, None] = {}
        self._oldest: dict[StreamRef, tuple[int, int]] = {}
        """Of streams that are trimmed by age: the head (bytes), and when the append there was stored (cluster ms)."""
        self._prefixes = policies.trimmed
        self._prefix = 0
        self._after = ""

    @property
    def applies(self) -> bool:
        """Whether there is any such policy."""
        return bool(self._prefixes)

    def grew(self, path: str) -> None:
        """A stream took an append, perhaps."""
        keep = self._policies.of(path).retain_bytes if self._prefixes else None
        if keep is None:
            return
        with contextlib.suppress(StorageError):  # no matter of the append; the walk meets it, too
            found = self._find(path)
            if found is not None and retention.exceeds(found[1], keep):
                self._grown[path] = None

    async def round(self) -> None:
        """Trim those that grew since, and go on with the walk over all streams with such a policy."""
        if not self._prefixes:
            return
        paths = list(islice(self._grown, PER_ROUND))
        for path in paths:
            del self._grown[path]
        trimmed: list[Answer] = []
        for number, path in enumerate([*paths, *self._walk()], 1):
            if (proposed := await self._trim(path)) is not None:
                trimmed.append(proposed)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        if trimmed:
            await asyncio.gather(*trimmed)

    def _walk(self) -> list[str]:
        """The next paths of the walk. A path under two prefixes is met twice, which changes nothing."""
        prefix = self._prefixes[self._prefix]
        view = self._driver.replica.group.store.committed
        paths = view.paths(prefix, self._after, PER_ROUND)
        if len(paths) == PER_ROUND:
            self._after = paths[-1]
        else:
            self._prefix, self._after = (self._prefix + 1) % len(self._prefixes), ""
        return paths

    def _find(self, path: str) -> tuple[StreamRef, StreamMeta] | None:
        view = self._driver.replica.group.store.committed
        ref = view.find(path)
        meta = view.meta(ref) if ref is not None else None
        return (ref, meta) if ref is not None and meta is not None and not meta.deleted else None

    async def _trim(self, path: str) -> Answer | None:
        found = self._find(path)
        if found is None:
            return None
        ref, meta = found
        before = await self._cut(path, ref, meta)
        if before <= meta.head:
            return None
        try:
            return self._driver.propose(Trim(path, ref.id, before), COMMAND_BYTES)
        except Overloaded:
            self._grown[path] = None  # in a later round
            return None

    async def _cut(self, path: str, ref: StreamRef, meta: StreamMeta) -> int:
        policy = self._policies.of(path)
        group = self._driver.replica.group
        view = group.store.committed
        before = meta.head
        if policy.retain_bytes is not None:
            before = retention.cut_by_size(view, ref, meta, policy.retain_bytes)
        if policy.retain_age_s is not None:
            before_ms = group.time.at(self._driver.now()) - policy.retain_age_s * 1000
            before = max(before, await self._cut_by_age(ref, meta, before_ms))
        return before

    async def _cut_by_age(self, ref: StreamRef, meta: StreamMeta, before_ms: int) -> int:
        view = self._driver.replica.group.store.committed
        head, oldest_ms = self._oldest.get(ref, (-1, 0))
        if head != meta.head:
            found_ms = retention.oldest_ms(view, ref, meta)
            if found_ms is None:
                return meta.head
            oldest_ms = found_ms
            self._oldest.pop(ref, None)
            if len(self._oldest) >= REMEMBERED:
                del self._oldest[next(iter(self._oldest))]
            self._oldest[ref] = meta.head, oldest_ms
            await asyncio.sleep(0)
        if oldest_ms >= before_ms:
            return meta.head
        looking = retention.cut_by_age(view, ref, meta, before_ms)
        while True:
            now = view.meta(ref)
            if now is None or now.head != meta.head:
                return meta.head  # gone meanwhile
            try:
                next(looking)
            except StopIteration as cut:
                return int(cut.value)
            await asyncio.sleep(0)
