"""The harness is red whenever the suite was not wholly green. Each of these has passed for green in some harness."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import runner
from tests.server import LOOPBACK, free_ports

IMPORT = 'import { afterAll, beforeAll, describe, expect, test } from "vitest"\n'
PASSES = 'test("passes", () => { expect(1).toBe(1) })\n'
RED = {
    "nothing runs": ("", 0),
    "a file with no tests": ("export const nothing = 1\n", 0),
    "a test fails": (PASSES + 'test("fails", () => { expect(1).toBe(2) })\n', 1),
    "a test is skipped": (PASSES + 'test.skip("skipped", () => {})\n', 1),
    "a test is left to do": (PASSES + 'test.todo("later")\n', 1),
    "one too few": (PASSES, 2),
    "one too many": (PASSES + PASSES.replace("passes", "passes too"), 1),
    "a hook before fails": (
        'describe("s", () => { beforeAll(() => { throw new Error("hook") })\n' + PASSES + "})\n",
        1,
    ),
    "a hook after fails": ('describe("s", () => { afterAll(() => { throw new Error("hook") })\n' + PASSES + "})\n", 1),
    "the file does not load": ('throw new Error("load")\n' + PASSES, 0),
    "an error nobody awaits": (
        'test("passes", async () => { Promise.reject(new Error("lost")); await new Promise((r) => setTimeout(r)) })\n',
        1,
    ),
    "it never ends": ('test("hangs", () => new Promise(() => {}), 0)\n', 1),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Any server at all: the suites here make no requests."""
    with http.server.HTTPServer((LOOPBACK, 0), http.server.BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()
        thread.join(10)


def suite(folder: Path, text: str) -> Path:
    path = folder / "small.test.mjs"
    path.write_text(IMPORT + text)
    return path


@pytest.mark.parametrize("name", RED)
def test_red(name: str, tmp_path: Path, url: str) -> None:
    text, expected = RED[name]
    limit = 5 if name == "it never ends" else 60
    outcome = runner.run(url, suite=suite(tmp_path, text), expected=expected, limit=limit)
    assert not outcome.green
    assert outcome.problems


def test_green_when_all_pass(tmp_path: Path, url: str) -> None:
    outcome = runner.run(url, suite=suite(tmp_path, PASSES), expected=1, limit=60)
    assert outcome.green, outcome.problems
    assert str(outcome) == "conformance: 1 passed, 0 failed"


def test_a_run_that_is_called_off_is_red(tmp_path: Path, url: str) -> None:
    runs = runner.Runs()
    runs.end()
    outcome = runner.run(url, suite=suite(tmp_path, PASSES), expected=1, limit=60, runs=runs)
    assert not outcome.green


def test_red_without_a_server() -> None:
    outcome = runner.run(f"http://{LOOPBACK}:{free_ports(1)[0]}")
    assert not outcome.green
    assert (outcome.passed, outcome.failed) == (0, 1)
