"""Log lines: one record, one line, whatever a client put into it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from durable_streams_cluster.observe import logs

EVIL = "a\r\n2024-01-01 INFO forged\x1b[2J\x85\u2028\u202e\ud800\x00"


@pytest.fixture(autouse=True)
def _process_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    yield
    root.handlers[:], root.level, logging.raiseExceptions = before


def logged(style: str, level: str = "info") -> str:
    stream = io.StringIO()
    logs.configure(style, level, stream)
    log = logging.getLogger("durable_streams_cluster.gateway.app")
    log.debug("quiet")
    log.info("append to %s", EVIL, extra={"fields": {"path": EVIL, "level": "forged"}})
    log.error("failed", exc_info=RuntimeError(EVIL))
    return stream.getvalue()


def test_json_is_one_object_a_line() -> None:
    rows = [json.loads(row) for row in logged("json").split("\n")[:-1]]
    assert len(rows) == 2
    assert rows[0]["message"] == f"append to {EVIL}"
    assert (rows[0]["path"], rows[0]["level"], rows[0]["logger"]) == (
        EVIL,
        "info",
        "durable_streams_cluster.gateway.app",
    )
    assert rows[0]["time"].endswith("Z")
    assert "RuntimeError" in rows[1]["exception"]


def test_text_forges_nothing() -> None:
    text = logged("text")
    assert all(char.isprintable() or char == "\n" for char in text)
    first, second, *trace = text.splitlines()
    assert (
        " INFO    gateway.app: append to a\\r\\n2024-01-01 INFO forged\\x1b[2J\\x85\\u2028\\u202e\\ud800\\x00 path=a"
        in first
    )
    assert " ERROR   gateway.app: failed" in second
    assert trace == ["    RuntimeError: a\\r", "    2024-01-01 INFO forged\\x1b[2J\\x85\\u2028\\u202e\\ud800\\x00"]
    text.encode("utf-8")


def test_the_level_decides() -> None:
    assert "quiet" in logged("text", "debug")
    assert "append" not in logged("text", "error")


def test_a_closed_stream_does_not_reach_the_node() -> None:
    stream = io.StringIO()
    logs.configure("text", "info", stream)
    stream.close()
    logging.getLogger().error("nobody hears")
