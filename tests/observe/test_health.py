"""The ops listener: probes, the scrape, and what it does with anything else."""

import asyncio
from typing import Any

import pytest

from durable_streams_cluster.observe.health import Check, HealthApp
from durable_streams_cluster.observe.metrics import Metrics


def ask(app: HealthApp, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    path, _, query = path.partition("?")
    asyncio.run(app({"type": "http", "method": method, "path": path, "query_string": query.encode()}, receive, send))
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, body["body"].decode()


def app(live: dict[str, Check] | None = None, **ready: Check) -> HealthApp:
    return HealthApp(ready, Metrics(), live)


def good() -> tuple[bool, str]:
    return True, "leader n1, term 3"


def bad() -> tuple[bool, str]:
    return False, "no leader for 4 s"


def broken() -> tuple[bool, str]:
    raise RuntimeError("oops")


def test_ready_when_every_check_is_well() -> None:
    assert ask(app(raft=good), "/readyz")[::2] == (200, "ok\n")
    assert ask(app(raft=good), "/readyz?verbose")[::2] == (200, "[+]raft: leader n1, term 3\nok\n")
    assert ask(app(), "/readyz")[0] == 200


def test_not_ready_names_what_is_wrong() -> None:
    status, headers, body = ask(app(raft=bad, disk=good), "/readyz")
    assert (status, body) == (503, "[-]raft: no leader for 4 s\nnot ok\n")
    assert headers["cache-control"] == "no-store"
    assert ask(app(raft=bad, disk=good), "/readyz?verbose=1")[2] == (
        "[-]raft: no leader for 4 s\n[+]disk: leader n1, term 3\nnot ok\n"
    )


def test_a_broken_check_is_a_failed_check() -> None:
    assert ask(app(raft=broken, disk=bad), "/readyz")[::2] == (
        503,
        "[-]raft: RuntimeError: oops\n[-]disk: no leader for 4 s\nnot ok\n",
    )


def test_live_although_not_ready() -> None:
    assert ask(app(raft=bad), "/livez")[::2] == (200, "ok\n")
    assert ask(app({"loop": bad}, raft=good), "/livez")[0] == 503


def test_checks_are_asked_anew() -> None:
    answers = iter([good(), bad()])
    probed = app(raft=lambda: next(answers))
    assert [ask(probed, "/readyz")[0] for _ in range(2)] == [200, 503]


def test_the_scrape() -> None:
    status, headers, body = ask(app(), "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "durable_streams_appends_total 0.0\n" in body
    assert int(headers["content-length"]) == len(body.encode())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/readyz/", 404),
        ("POST", "/readyz", 405),
        ("DELETE", "/metrics", 405),
        ("HEAD", "/livez", 200),
    ],
)
def test_anything_else(method: str, path: str, status: int) -> None:
    found, headers, body = ask(app(), path, method)
    assert found == status
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert ("allow" in headers) == (status == 405)
    if method == "HEAD":
        assert body == ""
        assert headers["content-length"] == "3"
