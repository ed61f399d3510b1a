"""A quick look at a cluster: the figures, and that nothing of it is left behind."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from durable_streams_client import cli, cli_bench, errors
from durable_streams_client._bench import PHASES, Measured, as_json, as_text, percentile
from durable_streams_client.sync import Client
from durable_streams_client.types import AppendRequest, AppendResult, CreateRequest, CreateResult, Page
from tests.client.fake import FakeTransport, client_of
from tests.server import LOOPBACK, Server, running_server

FEW = ("--seconds", "60", "--count", "40")
"""Ended by the count, however slow the machine is."""
EMPTY = f"{0:016d}_{0:016d}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--in-memory") as one:
        yield one


@pytest.fixture(params=["grpc", "http"])
def target(request: pytest.FixtureRequest, server: Server) -> str:
    scheme = "http://" if request.param == "http" else ""
    return f"{scheme}{LOOPBACK}:{server.ports[request.param]}"


def paths(target: str) -> list[str]:
    with Client(target) as client:
        return [each.path for each in client.list()]


# --- Figures.


@pytest.mark.parametrize(
    ("values", "percent", "is_"),
    [
        ([7.0], 1, 7.0),
        ([7.0], 50, 7.0),
        ([7.0], 100, 7.0),
        ([1.0, 2.0], 50, 1.0),
        ([1.0, 2.0], 51, 2.0),
        ([1.0, 2.0, 3.0], 50, 2.0),
        ([float(number) for number in range(1, 101)], 99, 99.0),
        ([float(number) for number in range(1, 102)], 99, 100.0),
        ([float(number) for number in range(1, 701)], 99, 693.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], percent: int, is_: float) -> None:
    assert percentile(values, percent) == is_


MEASURED = (
    Measured("produce", 2_000_000, 100, 4.0),
    Measured("append", 100, 1000, 0.5, tuple(number / 1000 for number in range(100, 0, -1))),
    Measured("read", 0, 100, 0.0),
)


def test_figures_for_people() -> None:
    assert as_text(MEASURED) == (
        "PHASE    RECORDS    SECONDS  RECORDS/S  MB/S   P50 MS  P99 MS  MAX MS\n"
        "produce  2,000,000  4.00     500,000    50.00  -       -       -\n"
        "append   100        0.50     200        0.20   50.00   99.00   100.00\n"
        "read     0          0.00     0          0.00   -       -       -\n"
    )


def test_figures_for_programs() -> None:
    said = as_json({"sizeBytes": 100}, MEASURED)
    assert said.endswith("}\n")
    found = json.loads(said)
    assert found["sizeBytes"] == 100
    assert found["phases"][0] == {
        "phase": "produce",
        "records": 2_000_000,
        "seconds": 4.0,
        "recordsPerSecond": 500_000.0,
        "megabytesPerSecond": 50.0,
        "latencyMs": None,
    }
    assert found["phases"][1]["latencyMs"] == {"p50": 50.0, "p99": 99.0, "max": 100.0}
    assert found["phases"][2]["recordsPerSecond"] == 0.0


# --- Against a node.


def test_every_phase_is_measured_and_nothing_is_left(target: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *FEW, "--size", "10", "--target", target, "-o", "json"]) == 0
    out, err = capfd.readouterr()
    assert err == "", "a bar is for a terminal"
    found = json.loads(out)
    assert (found["sizeBytes"], found["concurrency"], found["target"]) == (10, 32, [target])
    assert [each["phase"] for each in found["phases"]] == list(PHASES)
    assert [each["records"] for each in found["phases"]] == [40, 40, 40, 40]
    times = {each["phase"]: each["latencyMs"] for each in found["phases"]}
    assert times["produce"] is times["read"] is None
    for phase in ("append", "deliver"):
        assert 0 < times[phase]["p50"] <= times[phase]["p99"] <= times[phase]["max"]
    assert paths(target) == []


def test_only_some_phases_in_their_order(target: str, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["--phase", "read", "--phase", "append", *FEW, "--concurrency", "1000", "--target", target]
    assert cli.main(["bench", *argv]) == 0
    head, *rows = capfd.readouterr().out.splitlines()
    assert head.split()[:2] == ["PHASE", "RECORDS"]
    assert [row.split()[:2] for row in rows] == [["append", "40"], ["read", "40"]]
    assert paths(target) == []


@pytest.mark.parametrize("phase", ["produce", "append", "deliver"])
def test_an_interrupt_leaves_nothing(phase: str, server: Server) -> None:
    # Whoever runs the tests in the background of a shell has them ignore interrupts.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from durable_streams_client import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    target = f"{LOOPBACK}:{server.ports['grpc']}"
    command = [sys.executable, "-c", program, "bench", "team/a/", "--phase", phase, "--seconds", "600"]
    with subprocess.Popen([*command, "--target", target], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            with Client(target) as client:
                while not (found := [each.path for each in client.list() if each.next_offset != EMPTY]):
                    assert process.poll() is None, "it ended by itself"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, b"", b"")
    assert re.fullmatch(f"team/a/bench-[0-9a-f]+/{phase}", *found)
    assert paths(target) == []


def test_a_failure_leaves_nothing(target: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *FEW, "--size", "17000000", "--target", target]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "error: body is larger than " in err
    assert paths(target) == []


def test_somebody_who_watches_sees_how_far_it_is(server: Server) -> None:
    seen, shown = pty.openpty()
    command = [sys.executable, "-m", "durable_streams_client.cli", "bench", *FEW]
    subprocess.run(
        [*command, "--target", f"{LOOPBACK}:{server.ports['grpc']}"], stdout=subprocess.PIPE, stderr=shown, check=True
    )
    os.close(shown)
    with open(seen, "rb", buffering=0) as terminal:
        bars = terminal.read(100_000)
    for phase in PHASES:
        assert f"[==============================] 100%  {phase}: 40 records\r\n".encode() in bars


# --- Without one.


class Shelf(FakeTransport):
    """Takes everything at once; ``trouble`` comes of what a test names."""

    def __init__(self, **trouble: errors.DurableStreamError) -> None:
        super().__init__()
        self.trouble = trouble
        self.created: list[CreateRequest] = []
        self.deleted: list[str] = []

    async def create(self, request: CreateRequest, timeout_s: float) -> CreateResult:
        self.created.append(request)
        self._fail("create")
        return CreateResult(False, request.content_type or "", "o", False, request.ttl_s, None)

    def begin_append(self, request: AppendRequest, timeout_s: float) -> "asyncio.Future[AppendResult]":
        future = super().begin_append(request, timeout_s)
        if "append" in self.trouble:
            future.set_exception(self.trouble["append"])
        else:
            future.set_result(AppendResult("o"))
        return future

    async def read(self, path: str, offset: str, max_bytes: int, timeout_s: float) -> Page:
        return Page((b"x" * 3000, b"x" * 1000), "a", "b", True, False, "a/b")

    async def delete(self, path: str, timeout_s: float) -> bool:
        self.deleted.append(path)
        self._fail("delete")
        return False

    def _fail(self, what: str) -> None:
        if what in self.trouble:
            raise self.trouble[what]


async def bench(shelf: Shelf, *phases: str) -> int:
    argv = [word for phase in phases or ("append",) for word in ("--phase", phase)]
    options = cli_bench.build().parse_args([*argv, *FEW])
    options.target = ["nowhere:1"]
    return await cli_bench._bench(client_of(shelf), options)


def test_a_stream_of_its_own_ends_by_itself() -> None:
    shelf = Shelf()
    assert asyncio.run(bench(shelf)) == 0
    assert asyncio.run(bench(shelf)) == 0
    assert [each.ttl_s for each in shelf.created] == [3600, 3600]
    assert len({each.path for each in shelf.created}) == 2, "no two runs have the same"
    assert shelf.deleted == [each.path for each in shelf.created]
    assert len(shelf.appends) == 80


@pytest.mark.parametrize("phases", [("produce", "read"), ("read",)])
def test_what_is_read_is_what_was_produced(phases: tuple[str, ...]) -> None:
    shelf = Shelf()
    assert asyncio.run(bench(shelf, *phases)) == 0
    assert len(shelf.created) == len(shelf.deleted) == 1
    assert sum(len(request.body) for request, _ in shelf.appends) == 4000, "written once"


def test_what_cannot_be_deleted_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    shelf = Shelf(delete=errors.UnavailableError("nobody\x1b leads"))
    assert asyncio.run(bench(shelf)) == 1
    out, err = capsys.readouterr()
    assert "append" in out, "what was measured is said all the same"
    (path,) = shelf.deleted
    assert err == (f"durable-streams: warning: {path} is left behind, for an hour after its last use: nobody  leads\n")


@pytest.mark.parametrize(
    ("trouble", "deletes"),
    [
        ({"create": errors.PermissionDeniedError("no")}, 0),
        ({"create": errors.OutcomeUnknownError("who knows")}, 1),
        ({"append": errors.OutcomeUnknownError("who knows")}, 1),
        ({"append": errors.StreamFullError("full"), "delete": errors.StreamNotFoundError("gone")}, 1),
    ],
)
def test_what_may_be_there_is_deleted(
    trouble: dict[str, errors.DurableStreamError], deletes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf = Shelf(**trouble)
    with pytest.raises(errors.DurableStreamError) as raised:
        asyncio.run(bench(shelf))
    assert raised.value is next(iter(trouble.values()))
    assert len(shelf.deleted) == deletes
    assert capsys.readouterr() == ("", "")


def test_nobody_there_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--target", f"{LOOPBACK}:1"]) == 1
    assert f"nobody listens at {LOOPBACK}:1. Next step: start a node with durable-streams serve" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--phase", "apend"], "invalid choice: 'apend'"),
        (["--seconds", "0"], "'0' is not a number from 1 on"),
        (["--concurrency", "10001"], "'10001' is more than 10000"),
        (["--size", "1k"], "'1k' is not a number from 1 on"),
        (["--size", "67108865"], "'67108865' is more than 67108864"),
        (["a", "b"], "unrecognized arguments: b"),
    ],
)
def test_bad_usage(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *argv]) == 2
    assert says in capsys.readouterr().err


def test_help_says_that_it_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--help"]) == 0
    out = capsys.readouterr().out
    assert "IT WRITES TO THE CLUSTER" in out
    assert "examples:\n  durable-streams bench\n" in out
    assert "exit codes: 0 done" in out
    assert all(f"\n  {phase} " in out for phase in PHASES)
    assert cli.main(["bnch"]) == 2
    assert "did you mean 'bench'?" in capsys.readouterr().err
