"""Retention: what the policies say may go is trimmed, by the leader, a bounded part of the streams at a time."""

import asyncio
from itertools import islice

from durable_streams_cluster.errors import Overloaded
from durable_streams_cluster.policies import Policies
from durable_streams_cluster.runtime.driver import Driver
from durable_streams_cluster.streams import retention
from durable_streams_cluster.streams.commands import Trim
from durable_streams_cluster.streams.meta import StreamMeta, StreamRef
from durable_streams_cluster.streams.outcomes import Outcome

PER_ROUND = 500
"""Streams that one round looks at: those that grew, and as many of all, one after the other."""
SLICE = 50
"""Looked at before the loop gets its turn; by age each costs some forty look-ups."""
COMMAND_BYTES = 512
"""What a command holds, roughly."""


class Retention:
    """Trims streams whose policy keeps a size or an age. ``grew`` is called for each append, so it is cheap."""

    def __init__(self, driver: Driver, policies: Policies) -> None:
        self._driver = driver
        self._policies = policies
        self._grown: dict[str, None] = {}
        self._prefixes = policies.trimmed
        self._prefix = 0
        self._after = ""

    def grew(self, path: str) -> None:
        """A stream took an append."""
        if self._prefixes and self._policies.of(path).retain_bytes is not None:
            self._grown[path] = None

    async def round(self) -> None:
        """Trim those that grew since, and go on with the walk over all streams with such a policy."""
        if not self._prefixes:
            return
        paths = list(islice(self._grown, PER_ROUND))
        for path in paths:
            del self._grown[path]
        trimmed: list[asyncio.Future[Outcome]] = []
        for number, path in enumerate([*paths, *self._walk()], 1):
            if (proposed := self._trim(path)) is not None:
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

    def _trim(self, path: str) -> asyncio.Future[Outcome] | None:
        view = self._driver.replica.group.store.committed
        ref = view.find(path)
        meta = view.meta(ref) if ref is not None else None
        if ref is None or meta is None or meta.deleted:
            return None
        before = self._cut(path, ref, meta)
        if before <= meta.head:
            return None
        try:
            return self._driver.propose(Trim(path, ref.id, before), COMMAND_BYTES)
        except Overloaded:
            self._grown[path] = None  # in a later round
            return None

    def _cut(self, path: str, ref: StreamRef, meta: StreamMeta) -> int:
        policy = self._policies.of(path)
        group = self._driver.replica.group
        view = group.store.committed
        before = meta.head
        if policy.retain_bytes is not None:
            before = retention.cut_by_size(view, ref, meta, policy.retain_bytes)
        if policy.retain_age_s is not None:
            oldest_ms = group.cluster_ms(self._driver.now()) - policy.retain_age_s * 1000
            before = max(before, retention.cut_by_age(view, ref, meta, oldest_ms))
        return before
