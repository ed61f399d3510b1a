"""Series: their names, what counts them, and that a scrape is what Prometheus reads."""

from collections import Counter

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from durable_streams_cluster import __version__
from durable_streams_cluster.observe.metrics import Histogram, Metrics


def scrape(metrics: Metrics) -> dict[str, float]:
    """Samples as ``name{label=value}``."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('durable_streams_')}{{{labels}}}"] = sample.value
    return found


def test_a_new_node_has_every_series_at_zero() -> None:
    found = scrape(Metrics())
    assert found.pop(f"build_info{{version={__version__}}}") == 1
    assert set(found.values()) == {0}
    for name in ("wal_syncs_total", "turns_total", "appends_total", "append_bytes_total", "wal_sync_seconds_count"):
        assert f"{name}{{}}" in found
    for name in ("inflight_bytes{}", "proposals_pending{}", "live_readers{mode=sse}", "event_loop_lag_seconds_sum{}"):
        assert name in found


def test_counts_what_was_counted() -> None:
    metrics = Metrics()
    metrics.appends += 2
    metrics.append_bytes += 300
    metrics.wal_syncs += 1
    metrics.turns += 1
    metrics.live_readers["sse"] += 3
    metrics.inflight_bytes = lambda: 17
    metrics.proposals_pending = lambda: 4
    metrics.request("GET", 200)
    metrics.request("GET", 200)
    metrics.request("POST", 409)
    found = scrape(metrics)
    assert found["appends_total{}"] == 2
    assert found["append_bytes_total{}"] == 300
    assert found["wal_syncs_total{}"] == found["turns_total{}"] == 1
    assert found["live_readers{mode=sse}"] == 3
    assert (found["inflight_bytes{}"], found["proposals_pending{}"]) == (17, 4)
    assert found["http_requests_total{method=GET,status=200}"] == 2
    assert found["http_requests_total{method=POST,status=409}"] == 1


def test_a_method_that_a_client_made_up_makes_no_series() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.request(f"M{number}", 405)
    assert scrape(metrics)["http_requests_total{method=other,status=405}"] == 100
    assert len(metrics.http_requests) == 1


def test_histograms_are_cumulative_and_their_bounds_inclusive() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]
    assert (histogram.count, histogram.total) == (5, 104.0)
    metrics = Metrics()
    metrics.wal_sync_seconds.observe(0.0004)
    found = scrape(metrics)
    assert found["wal_sync_seconds_bucket{le=0.00025}"] == 0
    assert found["wal_sync_seconds_bucket{le=0.0005}"] == found["wal_sync_seconds_bucket{le=+Inf}"] == 1
    assert found["wal_sync_seconds_sum{}"] == pytest.approx(0.0004)


def test_servers_are_asked_when_somebody_scrapes() -> None:
    class Server:
        connections = 5

        @property
        def refused(self) -> Counter[str]:
            return Counter({"431": 2})

    metrics = Metrics()
    metrics.servers["http"] = Server()
    found = scrape(metrics)
    assert found["http_connections{listener=http}"] == 5
    assert found["http_connections_refused_total{listener=http,reason=431}"] == 2


def test_the_disk_is_shown_once_it_was_seen() -> None:
    metrics = Metrics()
    assert "durable_streams_disk" not in metrics.render().decode()
    metrics.disk = lambda: {"free_bytes": 7, "size_bytes": 9, "reserve_bytes": 8, "refusing": 1}
    shown = metrics.render().decode()
    for line in ("free_bytes 7.0", "size_bytes 9.0", "reserve_bytes 8.0", "refusing 1.0"):
        assert f"durable_streams_disk_{line}\n" in shown


def test_two_nodes_in_one_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.appends += 1
    assert scrape(other)["appends_total{}"] == 0
    assert not any(family.name.startswith("durable_streams") for family in REGISTRY.collect())
