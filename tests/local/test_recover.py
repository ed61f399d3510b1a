"""``durable-streams admin recover``: three nodes of which two are damaged, and what goes on from the third."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from durable_streams_client import cli as command
from durable_streams_cluster.storage.identity import IdentityFile
from tests.cluster import LocalCluster, running_cluster
from tests.server import LOOPBACK, READY_LIMIT, Server

TEXT = {"Content-Type": "text/plain"}
WORDS = [f"word {number}; " for number in range(40)]


def recover(*argv: str, code: int = 0) -> tuple[str, str]:
    """What it prints, on standard output and on standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        ended = command.main(["admin", "recover", *argv])
    assert ended == code, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


# --- Arguments.


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["admin", "recover", "--help"]) == 0
    said = capsys.readouterr().out
    for text in ("--unsafe", "--from DIR", "--yes CLUSTER", "examples:", "exit codes:", "Nothing", "lost for good"):
        assert text.lower() in said.lower(), text
    assert command.main(["admin", "--help"]) == 0
    assert "recover" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "required: DIR"),
        (["x", "--yes", "c-1"], "--yes confirms nothing without --unsafe"),
        (["x", "--target", "a:1"], "unrecognized arguments: --target a:1"),
        (["nowhere"], "error: nowhere is no data directory"),
    ],
)
def test_bad_usage(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["admin", "recover", *argv]) == 2
    assert says in capsys.readouterr().err


# --- Three nodes.


def damage(data: Path) -> None:
    """Flip a bit in the middle of every write-ahead log and table: what open refuses."""
    for each in [*(data / "db").glob("*.log"), *(data / "db").glob("*.sst"), *(data / "db").glob("MANIFEST-*")]:
        content = bytearray(each.read_bytes())
        if content:
            content[len(content) // 2] ^= 4
            each.write_bytes(content)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """A process that may never be ready; none is left."""
    process = server.launch()
    try:
        yield server
    finally:
        if process.running:
            process.kill()


def not_ready(server: Server) -> str:
    """What /readyz says against it, once it answers."""
    assert server.process is not None
    for _ in range(int(READY_LIMIT * 10)):
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{server.ops_url}/readyz")
            assert answer.status_code == 503, answer.text
            if "it starts" not in answer.text:
                return answer.text
        with contextlib.suppress(AssertionError):
            server.process.wait_line("ready ", 0.1)
            raise AssertionError("it serves")
    raise AssertionError(server.process.errors[-2000:])


def members(folder: Path, base: LocalCluster) -> dict[str, Server]:
    """The three nodes of a cluster that has ended, each as a process of its own, told the same as before."""
    servers = {}
    for number, name in enumerate(base.names):
        each = servers[name] = Server(folder / name, ["--node", name])
        shutil.move(base.folder / "data" / name, folder / name / "data")
        first = base.base_port + 10 * number
        each.ports = {"http": first, "grpc": first + 1, "peer": first + 2, "ops": first + 3}
    told = ",".join(f"{name}={LOOPBACK}:{each.ports['peer']}" for name, each in servers.items())
    for each in servers.values():
        each.arguments += ["--initial-cluster", told]
    return servers


def test_two_of_three_are_damaged_and_the_third_goes_on(tmp_path: Path) -> None:
    stream = "/v1/stream/kept"
    with running_cluster(folder=tmp_path) as cluster:
        httpx.put(cluster.url + stream, headers=TEXT).raise_for_status()
        for number, word in enumerate(WORDS):
            answer = httpx.post(cluster.urls[number % 3] + stream, headers=TEXT, content=word)
            assert answer.status_code == 204
        acknowledged = answer.headers["stream-next-offset"]
        assert [httpx.get(url + stream).text for url in cluster.urls] == ["".join(WORDS)] * 3
        _, said = recover(str(tmp_path / "data" / "n1"), code=2)
        assert "is in use by another process" in said
        assert "Next step: end that node" in said
    before = IdentityFile(tmp_path / "data" / "n1").read()
    assert before is not None
    generation, position = acknowledged.split("_")
    beyond = f"{generation}_{int(position) + 7:016d}"

    servers = members(tmp_path, cluster)
    places = [str(each.folder / "data") for each in servers.values()]
    _, said = recover(*places, code=1)
    assert "n1, n2 and n3 are sound, and a majority of the voters" in said
    for name in ("n2", "n3"):
        damage(servers[name].folder / "data")

    nobody_invents_anything(servers)
    is_looked_at_and_recovered(places, before.cluster)

    first = servers["n1"]
    assert "--initial-cluster" in first.arguments, "which does no harm"
    with serving(first):
        assert first.process is not None
        first.process.wait_ready()
        url = first.url + stream
        assert httpx.get(url).text == "".join(WORDS)
        assert httpx.get(url, params={"offset": acknowledged}).status_code == 200
        assert httpx.get(url, params={"offset": beyond}).status_code == 410
        answer = httpx.post(url, headers=TEXT, content="another")
        assert answer.status_code == 204
        assert answer.headers["stream-next-offset"] > beyond
        assert httpx.get(url, params={"offset": beyond}).status_code == 410
        assert httpx.get(url, params={"offset": acknowledged}).text == "another"
        two_join_with_empty_directories(servers, stream, beyond)


def nobody_invents_anything(servers: dict[str, Server]) -> None:
    """The sound one waits for a majority; the damaged ones ask to be taken in anew, and leave all as it is."""
    with contextlib.ExitStack() as stack:
        for each in servers.values():
            stack.enter_context(serving(each))
        for name in ("n2", "n3"):
            said = not_ready(servers[name])
            assert "[-]cluster: asks to be taken in anew (" in said
            assert "for its store cannot be used: " in said
            assert "see durable-streams admin recover" in said
            process = servers[name].process
            assert process is not None
            assert "this node needs repair: " in process.errors
            assert f"asks {LOOPBACK}:{servers['n1'].ports['peer']}" in process.errors
        said = not_ready(servers["n1"])
        assert "led by nobody (a majority of n1, n2, n3 is needed). Next step: " in said
        assert "see durable-streams admin recover" in said
    for name in ("n2", "n3"):
        data = servers[name].folder / "data"
        assert (data / "needs-repair").exists()
        assert (data / "db").is_dir()
        assert not list(data.glob("damaged-*"))


def is_looked_at_and_recovered(places: list[str], cluster: str) -> None:
    found = json.loads(recover(*places, "-o", "json")[0])
    assert [bool(each["damage"]) for each in found["directories"]] == [False, True, True]
    assert [each["node"] for each in found["directories"]] == ["n1", "n2", "n3"]
    assert (found["chosen"], found["recovered"]) == (places[0], None)
    out, said = recover(*places)
    assert "chosen" in out
    assert f"WARNING: this would end cluster {cluster}" in said
    assert "n2 and n3 may have stored and acknowledged more" in said
    assert "nothing was changed" in said
    _, said = recover("--unsafe", *places, code=2)
    assert f"nobody is there to confirm it. Next step: if it is to be, add --yes {cluster}" in said
    _, said = recover("--unsafe", "--yes", "c-other", *places, code=1)
    assert "Nothing was changed" in said
    _, said = recover("--unsafe", "--from", places[1], "--yes", cluster, *places, code=1)
    assert "is damaged, and nothing goes on from it" in said
    out, said = recover("--unsafe", "--yes", cluster, *places)
    assert "WARNING: this ends cluster" in said
    assert "and n1 its only member" in out
    _, said = recover(places[0], code=1)
    assert "n1 is sound, and a majority of the voters (n1)" in said


def two_join_with_empty_directories(servers: dict[str, Server], stream: str, beyond: str) -> None:
    first = servers["n1"]
    join = ["--join", f"{LOOPBACK}:{first.ports['peer']}"]
    for name in ("n2", "n3"):
        (servers[name].folder / "data").rename(servers[name].folder / "old")
    # n3 is told the same as ever: it finds that the cluster has begun, and joins.
    servers["n2"].arguments = ["--node", "n2", *join]
    with contextlib.ExitStack() as stack:
        for name in ("n2", "n3"):
            stack.enter_context(serving(servers[name]))
        for name in ("n2", "n3"):
            process = servers[name].process
            assert process is not None
            process.wait_ready()
            url = servers[name].url + stream
            assert httpx.get(url).text == "".join(WORDS) + "another"
            assert httpx.get(url, params={"offset": beyond}).status_code == 410
            assert httpx.post(url, headers=TEXT, content="").status_code == 400
        an_old_directory_is_of_another_cluster(servers)
    for name in ("n2", "n3"):
        assert (servers[name].folder / "old" / "needs-repair").exists(), "what was damaged is still there"


def an_old_directory_is_of_another_cluster(servers: dict[str, Server]) -> None:
    old = Server(servers["n2"].folder / "again", servers["n2"].arguments)
    shutil.copytree(servers["n2"].folder / "old", old.folder / "data")
    with serving(old):
        said = not_ready(old)
        while "this is cluster" not in said:
            said = not_ready(old)
        assert "for its store cannot be used: " in said
    assert (old.folder / "data" / "needs-repair").exists()
    assert not list((old.folder / "data").glob("damaged-*"))
