"""The command: exit codes, the ready line, signals, and what it says when the cluster is not installed."""

import asyncio
import gc
import io
import logging
import os
import resource
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable_streams_client import cli as command
from durable_streams_cluster import cli, process
from durable_streams_cluster.config import Addresses, Config
from durable_streams_cluster.errors import ConfigError, CorruptData, DataDirLocked
from durable_streams_cluster.settings import Address
from tests.server import clean_environment

Ready = Callable[[Addresses], None]


@pytest.fixture(autouse=True)
def _process_logging() -> Iterator[None]:
    """Serving sets up logging for the whole process; put it back."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    yield
    root.handlers[:], root.level, logging.raiseExceptions = before


class FakeNode:
    """A node that is ready at once; then ends as the test says."""

    def __init__(self, end: BaseException | None = None, signals: tuple[int, ...] = ()) -> None:
        self.end, self.signals = end, signals
        self.config: Config | None = None
        self.drained = False

    async def run_node(self, config: Config, stopping: asyncio.Event, on_ready: Ready) -> None:
        self.config = config
        on_ready(Addresses(Address("127.0.0.1", 1111), ops=Address("::1", 2222)))
        for number in self.signals:
            os.kill(os.getpid(), number)
        if self.end is not None:
            raise self.end
        if self.signals:
            await stopping.wait()
        self.drained = True


def run(*argv: str, node: FakeNode | None = None, environ: dict[str, str] | None = None) -> int:
    return cli.run(argv, environ=environ or {}, node=node or FakeNode())


# --- serve


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_cleanly(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    node = FakeNode(signals=(number,))
    assert run("serve", "--node", "n7", "--data-dir", "/tmp/my data", node=node) == 0
    assert node.drained
    out, err = capsys.readouterr()
    assert out == "ready http=127.0.0.1:1111 ops=[::1]:2222 node=n7 data=/tmp/my data\n"
    assert f"{signal.Signals(number).name}: draining" in err


def test_the_ready_line_names_every_open_listener() -> None:
    addresses = Addresses(*(Address("127.0.0.1", port) for port in (4437, 4438, 4439, 4440)))
    config = Config.load({}, {}, None)
    assert cli.ready_line(config, addresses) == (
        "ready http=127.0.0.1:4437 grpc=127.0.0.1:4438 peer=127.0.0.1:4439 ops=127.0.0.1:4440 node=n1 data=./data"
    )
    memory = Config.load({"in-memory": "true"}, {}, None)
    assert cli.ready_line(memory, addresses).endswith(" node=n1 data=:memory:")


@pytest.mark.parametrize(
    ("end", "code", "says"),
    [
        (DataDirLocked("./data is held by process 7"), 2, "error: ./data is held by process 7"),
        (ConfigError("http: cannot listen"), 2, "error: http: cannot listen"),
        (CorruptData("entry 5:\nbad checksum"), 1, "error: CorruptData: entry 5: bad checksum"),
        (RuntimeError("\x1b[2J"), 1, "error: RuntimeError: \\x1b[2J"),
        (AssertionError(), 1, "error: AssertionError"),
    ],
)
def test_a_node_that_fails(end: Exception, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", node=FakeNode(end)) == code
    assert capsys.readouterr().err == f"durable-streams: {says}\n"


def test_a_failure_has_its_traceback_at_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"DURABLE_STREAMS_LOG_LEVEL": "debug", "DURABLE_STREAMS_LOG_FORMAT": "json"}
    assert run("serve", node=FakeNode(CorruptData("bad")), environ=environ) == 1
    rows = capsys.readouterr().err.splitlines()
    assert any("Traceback" in row for row in rows)
    assert '"message": "CorruptData: bad"' in rows[-1]


def test_warnings_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", environ={"DURABLE_STREAMS_HTPP": "x"}) == 0
    assert "WARNING process: ignored unknown environment variables: DURABLE_STREAMS_HTPP" in capsys.readouterr().err


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('node = "f"\nsse-lifetime = "1s"\nhttp = "127.0.0.1:1"\n')
    node = FakeNode()
    environ = {"DURABLE_STREAMS_CONFIG": str(file), "DURABLE_STREAMS_NODE": "e", "DURABLE_STREAMS_HTTP": "127.0.0.1:2"}
    assert run("serve", "--http=127.0.0.1:3", node=node, environ=environ) == 0
    assert node.config is not None
    assert (node.config.node, node.config.listen.http.port, node.config.limits.sse_lifetime_s) == ("e", 3, 1)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["serve", "--htpp", "x"], "flag --htpp: unknown setting 'htpp'; did you mean 'http'?"),
        (["serve", "--data", "x"], "flag --data: unknown setting 'data'"),
        (["serve", "--log.level=debug"], "flag --log.level: "),
        (["serve", "extra"], "unexpected argument 'extra'"),
        (["serve", "--http"], "--http: expected one argument"),
        (["serve", "--http", "nowhere"], "http (flag --http): 'nowhere' is not HOST:PORT"),
        (["serve", "--config", "/does/not/exist"], "flag --config: cannot read /does/not/exist: "),
        (["config", "check", "--join", "a"], "join (flag --join): 'a' is not HOST:PORT"),
        (["config"], "required: action"),
        (["config", "chekc"], "invalid choice: 'chekc'"),
    ],
)
def test_bad_usage(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""


def test_config_check_prints_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"DURABLE_STREAMS_NODE": "n3", "DURABLE_STREAMS_ZZZ": "1"}
    assert run("config", "check", "--in-memory", environ=environ) == 0
    out, err = capsys.readouterr()
    document = tomllib.loads(out)
    assert (document["node"], document["in-memory"], document["log"]["level"]) == ("n3", True, "info")
    assert "# environment DURABLE_STREAMS_NODE" in out
    assert "warning: ignored unknown environment variables: DURABLE_STREAMS_ZZZ" in err


@pytest.mark.parametrize("argv", [["serve", "--help"], ["config", "check", "--help"]])
def test_help_shows_settings_defaults_and_examples(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv) == 0
    out = capsys.readouterr().out
    for text in ("--long-poll-timeout TIME", "(default 30s)", "examples:", "exit codes:", "DURABLE_STREAMS_DATA_DIR"):
        assert text in out


def test_nobody_reads_the_ready_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    kept = os.dup(1)
    try:
        assert run("serve", node=FakeNode(signals=(signal.SIGTERM,))) == 0
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert "cannot write the ready line" in capfd.readouterr().err


STUCK = """
import asyncio, sys
from durable_streams_cluster import cli
from durable_streams_cluster.config import Addresses
from durable_streams_cluster.settings import Address
class Node:
    async def run_node(self, config, stopping, on_ready):
        on_ready(Addresses(Address("127.0.0.1", 1)))
        await asyncio.Event().wait()
sys.exit(cli.run(["serve"], node=Node()))
"""


def test_a_second_signal_ends_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("ready ")
        process.send_signal(signal.SIGTERM)
        assert "draining" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 1
        assert "ending at once" in process.stderr.read()


# --- Open files.


class System:
    """What the operating system allows, in place of this process's own limits."""

    def __init__(self, soft: int, hard: int, *, fixed: bool = False) -> None:
        self.limits, self.fixed = (soft, hard), fixed

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        if self.fixed:
            raise PermissionError(1, "Operation not permitted")
        self.limits = limits


def serve_within(monkeypatch: pytest.MonkeyPatch, system: System, *argv: str) -> tuple[int, int | None]:
    """The exit code, and how many connections the node was told."""
    monkeypatch.setattr(resource, "getrlimit", system.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", system.setrlimit)
    node = FakeNode()
    code = run("serve", *argv, node=node)
    return code, node.config and node.config.limits.max_connections


@pytest.mark.parametrize(
    ("system", "after"),
    [
        (System(1024, 524_288), (12_104, 524_288)),
        (System(1024, resource.RLIM_INFINITY), (12_104, resource.RLIM_INFINITY)),
        (System(65_536, 65_536), (65_536, 65_536)),
        (System(resource.RLIM_INFINITY, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
    ],
)
def test_the_limit_of_open_files_is_raised_to_what_is_needed(
    system: System, after: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve_within(monkeypatch, system) == (0, 10_000)
    assert system.limits == after
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("system", "argv", "connections", "says"),
    [
        (
            System(1024, 4096),
            (),
            2660,
            "WARNING process: the system allows this process 4096 open files, and 848 are for the process itself: that "
            "leaves room for 2660 connections, not 10000; one more is refused with 503. For all of them, raise the "
            "limit to 12104 (ulimit -n in a shell, LimitNOFILE= in a systemd unit) and start again\n",
        ),
        (System(1024, 524_288, fixed=True), (), 142, "allows this process 1024 open files"),
        (System(1024, 1024), ("--in-memory",), 551, "and 336 are for the process itself"),
    ],
)
def test_fewer_open_files_are_fewer_connections(
    system: System,
    argv: tuple[str, ...],
    connections: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert serve_within(monkeypatch, system, *argv) == (0, connections)
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_too_few_open_files_for_any_use_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve_within(monkeypatch, System(256, 900)) == (2, None)
    assert capsys.readouterr().err == (
        "durable-streams: error: the system allows this process 900 open files, and 848 are for the process itself: "
        "that leaves room for 20 connections, not 10000, and at least 64 must fit; raise the limit to 12104 (ulimit -n "
        "in a shell, LimitNOFILE= in a systemd unit) and start again\n"
    )


# --- The command that users type.


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    assert "durable-streams serve --data-dir ./data" in capsys.readouterr().out
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("durable-streams ")
    assert command.main([]) == 2
    assert "usage: durable-streams COMMAND" in capsys.readouterr().err


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["srve"]) == 2
    assert "unknown command 'srve'; did you mean 'serve'?" in capsys.readouterr().err


def test_commands_of_the_cluster_are_handed_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["config", "check", "--node", "n9"]) == 0
    assert 'node = "n9"' in capsys.readouterr().out


BASE_INSTALL = """
import sys
for name in ("rocksdict", "msgspec", "uvicorn", "httptools", "uvloop", "prometheus_client", "rich"):
    sys.modules[name] = None
from durable_streams_client.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["serve", "--in-memory"], 2, "pip install 'durable-streams-cluster[cluster]'"),
        (["cluster", "up"], 2, "pip install 'durable-streams-cluster[cluster]'"),
        (["config", "check"], 0, 'data-dir = "./data"'),
        (["--help"], 0, "usage: durable-streams"),
        (["bench", "--help"], 0, "usage: durable-streams bench"),
        (["completion", "zsh"], 0, "#compdef durable-streams"),
    ],
)
def test_the_base_install(argv: list[str], code: int, says: str) -> None:
    """It has the whole package and none of what the ``[cluster]`` extra brings."""
    done = subprocess.run(
        [sys.executable, "-c", BASE_INSTALL, *argv],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert says in done.stdout + done.stderr


def test_without_the_cluster_at_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "durable_streams_cluster":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in ("durable_streams_cluster.cli", "durable_streams_cluster"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    assert command.main(["serve"]) == 2
    assert "pip install 'durable-streams-cluster[cluster]'" in capsys.readouterr().err


def test_a_missing_module_of_ours_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "durable_streams_cluster.node", None)
    with pytest.raises(ModuleNotFoundError):
        command.main(["serve"])


@pytest.mark.parametrize("module", ["durable_streams_client.cli", "durable_streams_cluster"])
def test_runs_as_a_module(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("durable-streams ")


def test_the_collector_leaves_alone_what_the_start_made() -> None:
    before = gc.get_threshold()
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    try:
        process._spare_collector()
        assert gc.get_freeze_count() > 1000
        assert gc.isenabled()
        assert gc.get_threshold() > (700, 10, 10), "seldom, but not never"
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
