"""A page in a real browser, and what it reports."""

import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import npm
from tests.server import LOOPBACK

Reports = queue.SimpleQueue[dict[str, Any]]

HERE = Path(__file__).parent
LIMIT = 120.0
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TYPES = {".html": "text/html; charset=utf-8", ".mjs": "text/javascript", ".js": "text/javascript"}


def chromium() -> str:
    """The browser. This test fails without one: skipping it would hide that nobody ever ran it."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "needs Chromium: apt-get install -y --no-install-recommends chromium"
    return found


@contextmanager
def pages(reports: Reports) -> Iterator[str]:
    """Serve the page, its script and the npm packages, and take what the page reports."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?")[0].lstrip("/")
            root = (npm.packages() if path.startswith("node_modules/") else HERE).resolve()
            source = (root / path).resolve()
            if source.suffix in TYPES and source.is_relative_to(root) and source.is_file():
                self._answer(200, source.read_bytes(), TYPES[source.suffix])
            else:
                if source.suffix in TYPES:
                    reports.put({"name": path, "error": "the page asked for it, and it is not here"})
                self._answer(404, b"", "text/plain")

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(200, b"", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a browser that ends resets connections
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


@contextmanager
def browser(url: str, folder: Path, *switches: str) -> Iterator[subprocess.Popen[bytes]]:
    """A browser that looks at one page, in a session of its own, so that all its processes end with it."""
    command = [
        chromium(),
        *SWITCHES,
        *switches,
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        url,
    ]
    with (folder / "browser.log").open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield child
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(30)


def play(page: str, reports: Reports, folder: Path, *switches: str) -> tuple[dict[str, str | None], int]:
    """Look at a page until it says that it is done: what it reported by name, an error or None; how many it says."""
    seen: dict[str, str | None] = {}
    with browser(page, folder, *switches):
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                report = reports.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                log = (folder / "browser.log").read_text(errors="replace")
                raise AssertionError(
                    f"the page reported only {list(seen)}; the browser said:\n{log[-4_000:]}"
                ) from None
            if report.get("done"):
                return seen, report["count"]
            seen[report["name"]] = report["error"]
