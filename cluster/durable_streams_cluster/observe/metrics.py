"""Every series of the node as a plain attribute; turned into Prometheus text only when somebody scrapes.

Counting is ``metrics.appends += 1``: no lock, no label lookup, no library on the hot path. All of it happens on the
event loop's thread, scrapes too, so numbers of one scrape belong together. What another object knows already (bytes in
flight, connections) is asked for by a callable at scrape time rather than copied.

No label ever holds a stream's name or anything else a client chooses: a series costs memory for ever.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from durable_streams_cluster import __version__
from durable_streams_cluster.ids import NodeId

PREFIX = "durable_streams_"

SYNC_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

DISK_HELP: Mapping[str, str] = {
    "free_bytes": "Free bytes on the disk of the data directory.",
    "size_bytes": "Bytes of the file system of the data directory.",
    "reserve_bytes": "Free bytes below which appends are refused.",
    "refusing": "Whether appends are refused, where this node leads, because the disk is almost full.",
}

UPSTREAM_HELP: Mapping[str, str] = {
    "tails": "Streams that are followed from the cluster, once for all readers here.",
    "broken": "Upstream reads that ended before their stream did, and went on at another node or later.",
}

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Histogram:
    """Counts by upper bound (inclusive), and their sum; ``observe`` is one bisection and three additions."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative buckets, as Prometheus wants them."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Connections(Protocol):
    """What is read of an HTTP server at scrape time."""

    @property
    def connections(self) -> int:
        """Connections open now."""
        ...

    @property
    def refused(self) -> "Counter[str]":
        """Connections ended for a bound, by reason."""
        ...


class PeerFigures(NamedTuple):
    """What is read of one stream to a peer at scrape time."""

    connected: int
    queued_bytes: int
    sent_bytes: int
    sent_payloads: int
    dropped_payloads: int


PEER_GAUGES: Mapping[str, str] = {
    "connected": "Whether this stream to the peer is open.",
    "queued_bytes": "Bytes that wait to be sent to the peer.",
}
PEER_COUNTERS: Mapping[str, str] = {
    "sent_bytes": "Bytes of payloads sent to the peer.",
    "sent_payloads": "Payloads sent to the peer.",
    "dropped_payloads": "Payloads that were to be sent to the peer and were not.",
}


class Metrics:
    """All series. Made once by ``node`` and handed out; the attributes are counted up where things happen."""

    def __init__(self) -> None:
        self.http_requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        """By method and status; use :meth:`request`, which knows what may be a label."""
        self.wal_syncs = 0
        self.wal_sync_seconds = Histogram(SYNC_BUCKETS_S)
        self.turns = 0
        self.appends = 0
        self.append_bytes = 0
        self.live_readers: dict[str, int] = {"long-poll": 0, "sse": 0}
        self.event_loop_lag_seconds = Histogram(LAG_BUCKETS_S)
        self.inflight_bytes: Callable[[], int] = lambda: 0
        self.proposals_pending: Callable[[], int] = lambda: 0
        self.wall_clock_doubted: Callable[[], int] = lambda: 0
        self.takes_no_entries: Callable[[], int] = lambda: 0
        self.store: Callable[[], Mapping[str, int]] = dict
        """Sizes of the store, by name."""
        self.disk: Callable[[], Mapping[str, int]] = dict
        """Room on the disk in bytes, and whether appends are refused for lack of it, by name."""
        self.upstream: Callable[[], Mapping[str, int]] = dict
        """Of a stand-alone gateway: streams that it follows (``tails``), and how often that broke off (``broken``)."""
        self.servers: dict[str, Connections] = {}
        """HTTP servers by listener name, for their connections."""
        self.peers: Callable[[], Mapping[tuple[str, str], PeerFigures]] = dict
        """Streams to peers, by peer and stream."""
        self.peer_received_bytes: Mapping[NodeId, int] = {}
        self.peer_rejected: Mapping[str, int] = {}
        self.peer_unreadable = 0
        """Streams of would-be peers that were refused, by reason."""
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(_Collector(self))

    def request(self, method: str, status: int) -> None:
        """Count one answered request; a method we do not know must not make a series."""
        self.http_requests[method if method in METHODS else "other", status] += 1

    def render(self) -> bytes:
        """Return the exposition, in the text format every Prometheus reads."""
        return generate_latest(self.registry)

    content_type = "text/plain; version=0.0.4; charset=utf-8"
    """Of :meth:`render`."""


class _Collector(Collector):
    """Reads the attributes when the registry is scraped."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        metrics = self._metrics
        yield _gauge("build_info", "Version of the node; always 1.", [((__version__,), 1)], ["version"])
        requests = [((method, str(status)), n) for (method, status), n in sorted(metrics.http_requests.items())]
        yield _counter("http_requests", "Answered HTTP requests.", requests, ["method", "status"])
        yield _counter("wal_syncs", "Completed syncs of the write-ahead log.", [((), metrics.wal_syncs)])
        yield _histogram("wal_sync_seconds", "Time one sync of the write-ahead log took.", metrics.wal_sync_seconds)
        yield _counter("turns", "Turns of the replica: batches of work written at once.", [((), metrics.turns)])
        yield _counter("appends", "Acknowledged appends.", [((), metrics.appends)])
        yield _counter("append_bytes", "Bytes of acknowledged appends.", [((), metrics.append_bytes)])
        readers = [((mode,), n) for mode, n in sorted(metrics.live_readers.items())]
        yield _gauge("live_readers", "Live reads open now.", readers, ["mode"])
        yield _gauge("inflight_bytes", "Bytes of requests held in memory.", [((), metrics.inflight_bytes())])
        yield _gauge("proposals_pending", "Proposals without an outcome yet.", [((), metrics.proposals_pending())])
        doubted = "1 while the wall clock was set forward and is not believed yet."
        yield _gauge("wall_clock_doubted", doubted, [((), metrics.wall_clock_doubted())])
        full = "1 while the disk has no room for what the leader sends, and nothing of it is taken."
        yield _gauge("takes_no_entries", full, [((), metrics.takes_no_entries())])
        lag = metrics.event_loop_lag_seconds
        yield _histogram("event_loop_lag_seconds", "How late the event loop came to what was due.", lag)
        for name, number in sorted(metrics.store().items()):
            yield _gauge(f"store_{name}", "Of the store on disk: " + name.replace("_", " ") + ".", [((), number)])
        for name, number in sorted(metrics.disk().items()):
            yield _gauge(f"disk_{name}", DISK_HELP[name], [((), number)])
        for name, number in sorted(metrics.upstream().items()):
            kind = _counter if name == "broken" else _gauge
            yield kind(f"upstream_{name}", UPSTREAM_HELP[name], [((), number)])
        yield from self._servers()
        yield from self._peers()

    def _peers(self) -> Iterator[Metric]:
        metrics = self._metrics
        peers = sorted(metrics.peers().items())
        for names, family in ((PEER_GAUGES, _gauge), (PEER_COUNTERS, _counter)):
            for name, help_text in names.items():
                samples = [(key, int(getattr(figures, name))) for key, figures in peers]
                yield family(f"peer_{name}", help_text, samples, ["peer", "stream"])
        received = [((node,), number) for node, number in sorted(metrics.peer_received_bytes.items())]
        yield _counter("peer_received_bytes", "Bytes of payloads received from the peer.", received, ["peer"])
        rejected = [((reason,), number) for reason, number in sorted(metrics.peer_rejected.items())]
        yield _counter("peer_rejected", "Streams refused to who is no peer of ours, by reason.", rejected, ["reason"])

    def _servers(self) -> Iterator[Metric]:
        servers = sorted(self._metrics.servers.items())
        open_now = [((name,), server.connections) for name, server in servers]
        yield _gauge("http_connections", "HTTP connections open now.", open_now, ["listener"])
        refused = [
            ((name, reason), count) for name, server in servers for reason, count in sorted(server.refused.items())
        ]
        help_text = "Connections ended for a bound, by reason (a status, idle, slow_reader, drain)."
        yield _counter("http_connections_refused", help_text, refused, ["listener", "reason"])


Samples = Sequence[tuple[tuple[str, ...], int]]


def _counter(name: str, help_text: str, samples: Samples, labels: list[str] | None = None) -> Metric:
    family = CounterMetricFamily(PREFIX + name, help_text, labels=labels or [])
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _gauge(name: str, help_text: str, samples: Samples, labels: list[str] | None = None) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, help_text, labels=labels or [])
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _histogram(name: str, help_text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(PREFIX + name, help_text, buckets=histogram.buckets(), sum_value=histogram.total)
