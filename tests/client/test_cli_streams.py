"""The commands that a shell user types, against a node."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from uuid import uuid4

import pytest

from durable_streams_client import cli
from tests.server import LOOPBACK, Server, running_server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--in-memory") as one:
        yield one


@pytest.fixture(params=["grpc", "http"])
def target(request: pytest.FixtureRequest, server: Server) -> str:
    scheme = "http://" if request.param == "http" else ""
    return f"{scheme}{LOOPBACK}:{server.ports[request.param]}"


@pytest.fixture
def run(target: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    monkeypatch.setenv("DURABLE_STREAMS_TARGET", target)

    def command(*argv: str, stdin: bytes | None = None) -> tuple[int, str, str]:
        reading, writing = os.pipe()
        with io.FileIO(reading) as source, io.FileIO(writing, "w") as end:

            def type_it() -> None:
                end.write(stdin or b"")
                end.close()

            typing = threading.Thread(target=type_it)
            typing.start()
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source, isatty=lambda: False))
            code = cli.main(argv)
            typing.join()
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return command


def test_a_streams_life(run: Run) -> None:
    path = uuid4().hex
    assert run("create", path, "--json", "--ttl", "1h") == (0, f"made: {path} (application/json)\n", "")
    assert run("create", path, "--json", "--ttl", "1h")[1].startswith("was there")
    code, first, _ = run("append", path, '{"say": "hi"}')
    assert (code, len(first)) == (0, 34)
    run("write", path, "--batch-json", '[1, {"a":"b"}]')
    run("append", path, "--json", stdin=b"[1,\n2]\n")
    assert run("read", path)[1] == '{"say": "hi"}\n1\n{"a":"b"}\n[1,2]\n'
    assert run("read", path, "--offset", first.strip())[1].startswith("1\n")
    (row,) = map(json.loads, run("read", path, "-o", "json")[1].splitlines())
    assert row["messages"] == [{"say": "hi"}, 1, {"a": "b"}, [1, 2]]
    head = json.loads(run("head", path, "-o", "json")[1])
    assert (head["contentType"], head["nextOffset"], head["ttlSeconds"]) == (
        "application/json",
        row["nextOffset"],
        3600,
    )
    assert run("head", path)[1].splitlines()[0] == "contentType  application/json"
    assert run("fork", path, f"{path}/f", "--offset", first.strip())[0] == 0
    assert run("read", f"{path}/f")[1] == '{"say": "hi"}\n'
    listed = [json.loads(line)["path"] for line in run("list", path, "-o", "json")[1].splitlines()]
    assert listed == [path, f"{path}/f"]
    code, out, err = run("list", path, "--limit", "1")
    assert (code, out.split()[-1]) == (0, path)
    assert "there may be more" in err
    assert run("close", path)[0] == 0
    assert run("delete", path) == (0, "", "")
    code, out, err = run("read", path)
    assert (code, out) == (3, "")
    assert err.startswith(f"durable-streams: error: {path}: this stream was deleted")


def test_bytes_are_what_was_typed_or_piped(run: Run) -> None:
    path = uuid4().hex
    run("append", path, "--create", r"one\ttwo", r"three\n")
    run("append", path, "--close", stdin=b"\\n stays\n")
    assert run("read", path)[1] == "one\ttwo three\n\\n stays\n"
    assert run("tail", path, "--offset", "-1")[1] == "one\ttwo three\n\\n stays\n", "it is closed: tail ends"
    binary = uuid4().hex
    run("append", binary, "--create", "--content-type", "application/octet-stream", stdin=b"\xff\x00")
    assert json.loads(run("read", binary, "-o", "json")[1])["base64"] == "/wA="
    assert run("append", path, "x")[0] == 1
    assert run("append", binary, "--if-match", f"{9:016d}_{9:016d}", "x")[0] == 1
    assert run("append", binary, "--seq", "b", "x")[0] == 0
    assert run("append", binary, "--seq", "a", "x")[0] == 1


def test_each_line_is_a_record(run: Run) -> None:
    numbers, messages = uuid4().hex, uuid4().hex
    text = "".join(f"{number}\n" for number in range(3000)) + "end"
    assert run("append", numbers, "--lines", "--create", "--close", stdin=text.encode())[0] == 0
    assert run("read", numbers)[1] == text
    lines = b'{"a":1}\n\n [2] \r\n"x"\n'
    assert run("append", messages, "--lines", "--create", "--json", stdin=lines)[0] == 0
    assert run("read", messages)[1] == '{"a":1}\n[2]\n"x"\n'


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["read", "no/such"], 3, "no/such: no stream at this path"),
        (["append", "no/such", "x"], 3, "no/such: "),
        (["append", "x", "--json", "{", "--create"], 2, "DATA is not JSON: "),
        (["append", "x", "--lines", "y", "--create"], 2, "--lines reads standard input"),
        (["append", "x", "--content-type", "nonsense", "--create", "y"], 1, "must be type/subtype"),
        (["read", "x", "--offset", "7"], 1, "offset must be -1, now, or an offset"),
        (["create", "a//b"], 1, "path has an empty segment"),
        (["create", "x", "--ttl", "1"], 2, "'1' is not a time: write 500ms"),
        (["create", "x", "--expires-at", "tomorrow"], 2, "is not a time with its zone"),
        (["create", "x", "--target", "nonsense"], 2, "'nonsense' is not HOST:PORT of a node's --grpc listener"),
        (["create"], 2, "required: PATH"),
        (["list", "--limit", "0"], 2, "'0' is not a number from 1 on"),
        (["create", "x", "--expires-at", "1960-01-01T00:00:00Z"], 2, "is not a time from 1970 to 9999"),
        (["append", "x", "--create", "--json", "[" * 100_000], 2, "DATA is not JSON: nested too deeply"),
        (["reed", "x"], 2, "did you mean 'read'?"),
    ],
)
def test_what_is_wrong_is_said(run: Run, argv: list[str], code: int, says: str) -> None:
    got, out, err = run(*argv)
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_what_utf8_cannot_say_is_escaped(run: Run) -> None:
    path = uuid4().hex
    run("append", path, "--create", "--json", stdin=b'["\\ud800",\n1]')
    assert run("read", path)[1] == '["\\ud800",1]\n'
    assert json.loads(run("read", path, "-o", "json")[1])["messages"] == [["\ud800", 1]]


def test_an_interrupt_ends_it_while_nothing_comes(server: Server) -> None:
    # Whoever runs the tests in the background of a shell has them ignore interrupts.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from durable_streams_client import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    path, target = uuid4().hex, f"{LOOPBACK}:{server.ports['grpc']}"
    command = [sys.executable, "-c", program, "append", path, "--lines", "--create"]
    with subprocess.Popen([*command, "--target", target], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"1\n")
        process.stdin.flush()
        read = [sys.executable, "-m", "durable_streams_client.cli", "read", path, "--target", target]
        while b"1\n" not in subprocess.run(read, capture_output=True, check=False).stdout:
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_nobody_there_says_how_to_start_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run("read", "x", "--target", f"{LOOPBACK}:1")
    assert code == 1
    assert f"nobody listens at {LOOPBACK}:1. Next step: start a node with durable-streams serve" in err
    monkeypatch.setenv("DURABLE_STREAMS_TARGET", "nonsense")
    assert "environment DURABLE_STREAMS_TARGET" in run("read", "x")[2]


def test_what_comes_is_seen_by_a_reader_that_may_leave(server: Server) -> None:
    path, target = uuid4().hex, f"{LOOPBACK}:{server.ports['grpc']}"
    command = [sys.executable, "-m", "durable_streams_client.cli"]
    subprocess.run([*command, "create", path, "--json", "--target", target], check=True, capture_output=True)
    tail = f"{sys.executable} -m durable_streams_client.cli tail {path} --offset -1 --target {target} | head -n 1"
    shell = ["bash", "-c", f'{tail}; echo "exit ${{PIPESTATUS[0]}}"']
    with subprocess.Popen(shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        for number in range(2):
            append = [*command, "append", path, str(number), "--target", target]
            subprocess.run(append, check=True, capture_output=True)
        assert reader.stdout is not None
        assert reader.stdout.readline() == "0\n"
        # head has left; tail notices with the next message, at the latest.
        while reader.poll() is None:
            subprocess.run(append, check=True, capture_output=True)
        # Not by communicate, which knows nothing of what was read together with the line above.
        assert reader.stderr is not None
        assert (reader.stdout.read(), reader.stderr.read()) == ("exit 0\n", "")


@pytest.mark.parametrize(
    "command", ["create", "append", "write", "read", "tail", "head", "close", "delete", "fork", "list"]
)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: durable-streams {command}" in out
    assert "examples:\n  durable-streams " in out
    assert "exit codes: 0 done" in out
