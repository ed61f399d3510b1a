"""Every target on its corpus and on seeded mutations of it: the form of fuzzing that runs everywhere, each time."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from struct import Struct

import pytest

from durable_streams_cluster import asked, config, given, policies
from durable_streams_cluster.gateway import caching, connection, headers, paths, sse
from durable_streams_cluster.gateway.app import GatewayApp
from durable_streams_cluster.gateway.connection import Connection
from durable_streams_cluster.runtime import introductions
from durable_streams_cluster.storage import codecs, data_dir, identity, keys, recovery
from durable_streams_cluster.streams import json_mode
from tests.fuzz import distil, engine
from tests.fuzz.engine import Target, escaped, mutations, regression_test, unescaped
from tests.fuzz.targets import TARGETS


def finding(target: Target, rounds: int = 1) -> str | None:
    """What breaks the target first, of the inputs that are always tried; of more of them with more ``rounds``."""
    for data in islice(mutations(target, seed=1), 1 + len(target.corpus()) + target.quick * rounds):
        try:
            target.check(data)
        except Exception as error:  # with an input that shows it, whatever it is
            return regression_test(target, data, f"{type(error).__name__}: {error}")
    return None


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds(name: str) -> None:
    found = finding(TARGETS[name])
    if found is not None:
        pytest.fail(found, pytrace=False)


def one_too_many(cut: Callable[..., int | None]) -> Callable[..., int | None]:
    return lambda stored, count: cut(stored, count + (count == 2))


def leaking(hold: Callable[..., None]) -> Callable[..., None]:
    return lambda self, size: hold(self, size + 1)


# A target, and a bug that it must see: what to replace, and with what.
PLANTED: list[tuple[str, object, str, object]] = [
    ("json", json_mode, "_SURROGATE", re.compile(rb"\\u[dD][89ab][0-9a-fA-F]{2}")),
    ("json", json_mode, "_check_utf8", lambda body: None),
    ("json_pieces", json_mode, "cut_after", one_too_many(json_mode.cut_after)),
    ("json_pieces", json_mode, "_TOKEN", re.compile(rb'"[^"]*"|[\[\]{},]')),
    ("paths", asked, "has_control", lambda text: "\0" in text),
    ("paths", paths, "_BROKEN_ESCAPE", re.compile(rb"%$")),
    ("list", asked, "has_control", lambda text: False),
    ("list", keys, "listing_range", lambda prefix, after: (b"L" + after.encode(), b"L" + prefix.encode() + b"\xff")),
    ("headers", headers, "_INTEGER", re.compile(rb"[0-9]+")),
    ("headers", asked, "END_OF_TIME_MS", 2**62),
    ("append", headers, "stream_seq", lambda given, limits: given.get(b"stream-seq")),
    ("append", headers, "if_match", lambda given: None if b"producer-id" in given else given.get(b"if-match")),
    ("create", headers, "MAX_TTL_S", 2**60),
    ("append", headers, "index", dict),
    ("caching", caching, "_interval", lambda wall_ms: (wall_ms - caching.CURSOR_EPOCH_MS) // 20_000),
    ("caching", caching, "matches", lambda sent, tag: sent is not None and (b"*" in sent or tag in sent)),
    ("sse", sse, "is_binary", lambda content_type: False),
    ("sse", sse, "control_event", lambda page, cursor: b'event: control\ndata: {"a":1}\n\n'),
    ("values", codecs, "record_time", lambda value: 0),
    ("sealed", codecs, "crc32", lambda data: 0),
    ("sealed", codecs, "entry_crc", lambda group, entry: entry.crc),
    ("keys", keys, "_RECORD", Struct("<cHIQcQ")),
    ("keys", keys, "_unpack", lambda layout, data, what: layout.unpack(data)),
    ("wal", recovery, "_ENDLESS", frozenset({5, 6, 7, 8})),
    ("turn_keys", recovery, "TURNS_KEPT", 63),
    ("durable_turn", recovery, "_unpack", lambda content, at: int.from_bytes(content[at + 8 : at + 16], "big")),
    ("format", data_dir, "_format_of", lambda text: json.loads(text)["format"]),
    ("identity", identity, "_decode", identity._decoder.decode),
    ("introductions", introductions, "parse_address", lambda text: None),
    ("introductions", introductions, "_incarnation", lambda number: number),
    ("config", given, "_is_plain", lambda value: True),
    ("config", config, "parse_url", lambda text: text or None),
    ("settings", policies, "_never_fits", lambda prefix: None),
    ("wire", connection, "MAX_PIPELINED", 1_000),
    ("wire", Connection, "check", lambda self, now_ms: None),
    ("wire", Connection, "busy", property(lambda self: self.answering is not None and not self.answering.more_body)),
    ("wire", GatewayApp, "_hold", leaking(GatewayApp._hold)),
    ("ops", Connection, "_check_host", lambda self, version: self.transport.write(b"\r\n")),
]


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "bug"), PLANTED, ids=[f"{name}-{attribute}" for name, _, attribute, _ in PLANTED]
)
def test_a_target_sees(monkeypatch: pytest.MonkeyPatch, name: str, owner: object, attribute: str, bug: object) -> None:
    monkeypatch.setattr(owner, attribute, bug)
    assert finding(TARGETS[name], rounds=5) is not None


def test_a_line_of_a_corpus_is_the_input_again() -> None:
    for data in (bytes(range(256)), b"'\"\\", b'"', b"'", b"\\x00\r\n ", b""):
        line = escaped(data)
        assert line.isascii()
        assert line.isprintable()
        assert unescaped(line) == data


def test_the_same_seed_makes_the_same_inputs() -> None:
    target = TARGETS["paths"]
    one, two, other = (list(islice(mutations(target, seed), 200)) for seed in (1, 1, 2))
    assert one == two != other
    assert all(len(data) <= target.max_len for data in one)


def test_distilling_keeps_what_reaches_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CORPUS", tmp_path)
    monkeypatch.setattr(distil, "CORPUS", tmp_path)
    target = replace(TARGETS["paths"], seeds=(b"a",))
    found = tmp_path / "found"
    found.mkdir()
    for number, data in enumerate((b"%zz", b"%zy", b"a" * 400, b"b")):
        (found / str(number)).write_bytes(data)
    assert distil.keep(target, found) == 1
    assert target.corpus() == [b"a", b"%zy"]


def test_a_campaign_reports_what_it_tried() -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.fuzz",
        "--mutations",
        "--seed",
        "1",
        "--inputs",
        "300",
        "paths",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, _, row, total = done.stdout.splitlines()
    assert first == "seed 1; seeded mutations, no coverage"
    assert re.fullmatch(r"paths +300 .* 0", row)
    assert re.fullmatch(r"in all +300 +\d+", total)
