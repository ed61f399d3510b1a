"""Streams as files, and back."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from durable_streams_client import cli
from durable_streams_client._formats import Importer, exported
from durable_streams_client.types import Page
from tests.server import LOOPBACK, Server, running_server

BYTES = (b"one\n", b"\xff\x00", "t\u00e9xt".encode())
MESSAGES = (b'{"a": 1},[2]', b'"x,]\\"y"')


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--in-memory") as one:
        yield one


def page(bodies: tuple[bytes, ...], content_type: str, stream: str = "1-1") -> Page:
    return Page(bodies, "a", "b", True, False, content_type, 0, stream)


@pytest.mark.parametrize("block", [1, 3, 10_000])
@pytest.mark.parametrize(
    ("format_", "json"), [("jsonl", False), ("jsonl", True), ("delimited", False), ("delimited", True), ("raw", True)]
)
def test_what_was_exported_is_imported(format_: str, block: int, *, json: bool) -> None:
    found = exported(page(MESSAGES if json else BYTES, "application/json" if json else "a/b"), format_)
    importer = Importer(format_, json_stream=json)
    records = [record for at in range(0, len(found), block) for record in importer.feed(found[at : at + block])]
    records += importer.end()
    assert tuple(records) == ((b'{"a": 1}', b"[2]", b'"x,]\\"y"') if json else BYTES)


def test_raw_bytes_are_what_they_are() -> None:
    assert exported(page(BYTES, "a/b"), "raw") == b"".join(BYTES)
    importer = Importer("raw", json_stream=False)
    assert [*importer.feed(b"a\n\x00"), *importer.feed(b""), *importer.end()] == [b"a\n\x00"]


@pytest.mark.parametrize(
    ("format_", "json", "data", "says"),
    [
        ("jsonl", False, b'"a"\nb\n', "line 2 is not JSON"),
        ("jsonl", False, b"7\n", "line 1 is neither a string nor"),
        ("jsonl", False, b'{"base64": "!"}\n', "line 1: base64 is not base64"),
        ("jsonl", False, b'{"base64": 7}\n', "line 1: base64 is not base64"),
        ("jsonl", True, b"1\n{", "line 2 is not JSON"),
        ("delimited", False, b"\x00\x00\x00\x05abc", "ends in the middle of a record, 7 bytes after"),
        ("delimited", False, b"\xff\xff\xff\xffabc", "is this a file of length-delimited records"),
    ],
)
def test_what_is_no_such_file_is_told(format_: str, data: bytes, says: str, *, json: bool) -> None:
    importer = Importer(format_, json_stream=json)
    with pytest.raises(ValueError, match=says):
        [*importer.feed(data), *importer.end()]


def test_over_http_nobody_can_tell_appends_from_each_other() -> None:
    with pytest.raises(ValueError, match="over HTTP nobody can tell appends from each other, as jsonl does"):
        exported(page(BYTES, "a/b", stream=""), "jsonl")


def test_a_stream_goes_to_a_file_and_to_another_cluster(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_TARGET", f"{LOOPBACK}:{server.ports['grpc']}")
    path, file = uuid4().hex, tmp_path / "chat.jsonl"
    assert cli.main(["create", path, "--json"]) == 0
    for number in range(3):
        assert cli.main(["append", path, f'{{"n": {number}}}']) == 0
    capfdbinary.readouterr()
    assert cli.main(["export", path, "-f", str(file)]) == 0
    assert file.read_bytes() == b'{"n": 0}\n{"n": 1}\n{"n": 2}\n'
    assert [each.name for each in tmp_path.iterdir()] == ["chat.jsonl"]
    assert cli.main(["export", path, "--format", "delimited"]) == 0
    assert capfdbinary.readouterr().out.startswith(b'\x00\x00\x00\x08{"n": 0}')
    with running_server("--in-memory") as other:
        target = ("--target", f"http://{LOOPBACK}:{other.ports['http']}")
        assert cli.main(["import", "copy", str(file), "--json", "--close", *target]) == 0
        assert cli.main(["read", "copy", *target]) == 0
        assert capfdbinary.readouterr().out == file.read_bytes()
        assert cli.main(["import", "copy", str(file), *target]) == 1, "it is closed"
        assert cli.main(["import", "none", str(file), *target]) == 3
        assert cli.main(["import", "new", str(tmp_path / "none"), "--json", *target]) == 1
        err = capfdbinary.readouterr().err.decode()
        assert f"{tmp_path}/none: No such file or directory" in err
        assert "none is not there: to make it, say of which type it is, with --json or --content-type" in err
    file.write_bytes(b"1\nnonsense\n")
    assert cli.main(["import", path, str(file)]) == 2
    assert b"line 2 is not JSON" in capfdbinary.readouterr().err


def test_somebody_who_watches_sees_how_far_it_is(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"x" * 1_000_000)
    seen, shown = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "durable_streams_client.cli",
        "import",
        uuid4().hex,
        str(file),
        "--content-type",
        "a/b",
    ]
    subprocess.run([*command, "--target", f"{LOOPBACK}:{server.ports['grpc']}"], stderr=shown, check=True)
    os.close(shown)
    with open(seen, "rb", buffering=0) as bar:
        assert b"[==============================] 100%  1.0 MB of 1.0 MB\r\n" in bar.read(10_000)
