"""How long a stream lives: a sliding window on cluster time, or a fixed end on wall time (PROTOCOL 5.1, 4.2)."""

from durable_streams_cluster.streams.commands import Create
from durable_streams_cluster.streams.meta import StreamMeta


def inherited(command: Create, source: StreamMeta | None) -> tuple[int | None, int | None]:
    """The ``(ttl_s, expires_at_ms)`` of a new stream: what was asked, else the source's (PROTOCOL 4.2, table).

    Where neither says anything, the default of the stream's prefix.
    """
    if command.ttl_s is not None or command.expires_at_ms is not None:
        return command.ttl_s, command.expires_at_ms
    if source is not None and (source.ttl_s is not None or source.expires_at_ms is not None):
        return source.ttl_s, source.expires_at_ms
    return command.default_ttl_s, None


def deadline(meta: StreamMeta) -> int | None:
    """When the stream ends if nothing more happens: cluster ms for a TTL, Unix ms for Expires-At, None for never."""
    if meta.ttl_s is not None:
        return meta.touched_at + meta.ttl_s * 1000
    return meta.expires_at_ms


def coalesce_ms(meta: StreamMeta) -> int:
    """How old a recorded touch may grow before a read must record a new one: a tenth of the window.

    Reads between are kept by the leader in memory. A leader that starts knows only recorded touches, so it gives
    each stream this much more (``due`` with ``slack``): nothing expires early, whatever died.
    """
    assert meta.ttl_s is not None
    return meta.ttl_s * 100


def due(meta: StreamMeta, touched_at: int, cluster_ms: int, wall_ms: int, *, slack: bool) -> bool:
    """Whether the stream's time is up, ``touched_at`` being the newest read or append known (cluster ms)."""
    if meta.ttl_s is not None:
        end = max(touched_at, meta.touched_at) + meta.ttl_s * 1000 + (coalesce_ms(meta) if slack else 0)
        return cluster_ms >= end
    return meta.expires_at_ms is not None and wall_ms >= meta.expires_at_ms
