"""The ten lines of ``examples/embedded.py`` under uvicorn, and a page that is reloaded."""

import sys
from pathlib import Path

from tests.server import LOOPBACK, ROOT, Process, clean_environment, free_ports, until
from tests.system.browsing import Reports, pages, play


def test_a_page_that_is_reloaded_goes_on(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "examples"), "--port", str(port)]
    server = Process([*command, "embedded:app"], clean_environment(), tmp_path, tmp_path / "uvicorn.log")
    reports = Reports()
    try:
        until(lambda: "Uvicorn running" in server.errors, "uvicorn does not start")
        with pages(reports) as origin:
            page = f"{origin}/resume.html?server=http://{LOOPBACK}:{port}/streams"
            seen, count = play(page, reports, tmp_path)
        assert [f"{name}: {error}" for name, error in seen.items() if error is not None] == []
        assert len(seen) == count
        server.terminate()  # uvicorn ends by the signal itself, once it has drained.
        assert "Application shutdown complete" in server.errors
    finally:
        if server.running:
            server.kill()
