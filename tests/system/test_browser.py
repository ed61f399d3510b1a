"""The npm client in a real browser, on another origin than the server's: what CORS must allow and expose."""

from pathlib import Path

import httpx

from tests.server import running_server
from tests.system.browsing import Reports, chromium, pages, play

CHECKS = 23
# Those a page can meet only from routes or in states that this test does not make.
ALSO_EXPOSED = {"retry-after", "upstream-content-type", "upstream-status"}


def test_client_in_a_browser(tmp_path: Path) -> None:
    reports = Reports()
    with running_server("--long-poll-timeout", "500ms", folder=tmp_path / "server") as server, pages(reports) as origin:
        seen, count = play(f"{origin}/browser.html?server={server.url}", reports, tmp_path)
    failures = "\n".join(f"{name}: {error}" for name, error in seen.items() if error is not None)
    print(f"{len(seen)} checks in {chromium()}")
    assert not failures, failures
    assert len(seen) == count == CHECKS


def test_exposed_beyond_what_a_page_meets_here(tmp_path: Path) -> None:
    with running_server(folder=tmp_path) as server:
        answer = httpx.get(server.stream("none"), headers={"origin": "http://page.example"})
    exposed = {name.strip().lower() for name in answer.headers.get("access-control-expose-headers", "").split(",")}
    assert exposed >= ALSO_EXPOSED
