"""The façade for programs without an event loop."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest

from durable_streams_client import ProducerLimits
from durable_streams_client import errors as e
from durable_streams_client.sync import Client
from tests.server import LOOPBACK, Server, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--in-memory") as one:
        yield one


def test_the_same_without_an_event_loop(server: Server) -> None:
    path = uuid4().hex
    with Client(f"{LOOPBACK}:{server.ports['grpc']}") as client:
        stream = client.stream(path, content_type="application/json")
        assert not stream.create().existed
        stream.append({"n": 0})
        with stream.producer(limits=ProducerLimits(batch_records=10)) as producer:
            acks = [producer.append({"n": number}) for number in range(1, 100)]
        assert acks[-1].result(timeout=30).next_offset == stream.head().offset
        assert [each["n"] for each in stream.read().json()] == list(range(100))
        fork = stream.fork(f"{path}/fork")
        assert (fork.content_type, fork.path) == ("application/json", f"{path}/fork")
        assert [each.path for each in client.list(path)] == [path, f"{path}/fork"]
        follower = stream.follow()
        assert stream.producer().close_stream().closed
        assert [each["n"] for each in follower.iter_json()] == list(range(100))
        assert (follower.closed, follower.up_to_date, follower.lag_bytes) == (True, True, 0)
        with fork.follow(max_bytes=1) as pages:
            assert next(iter(pages)).json() == [{"n": 0}]
        with pytest.raises(e.StreamClosedError):
            stream.append({})
        fork.delete()
        with pytest.raises(e.StreamNotFoundError):
            fork.read()
    with pytest.raises(e.ClientClosedError):
        stream.head()
    client.close()


def test_threads_share_a_client(server: Server) -> None:
    path = uuid4().hex
    with Client(f"{LOOPBACK}:{server.ports['grpc']}") as client:
        stream = client.stream(path, content_type="text/plain")
        stream.create()

        def write() -> None:
            for _ in range(20):
                stream.append("x")

        threads = [threading.Thread(target=write) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(stream.read().data) == 160


def test_a_program_that_does_not_close_it_ends(server: Server) -> None:
    program = (
        "from durable_streams_client.sync import Client\n"
        f"s = Client('{LOOPBACK}:{server.ports['grpc']}').stream('{uuid4().hex}', content_type='a/b')\n"
        "s.create(); s.append(b'x'); print(s.read().data)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("b'x'\n", "")


def test_closing_it_ends_what_other_threads_wait_for() -> None:
    client = Client(f"{LOOPBACK}:1")
    told: list[BaseException] = []

    def ask() -> None:
        try:
            client.stream("s").head()
        except e.DurableStreamError as error:
            told.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while client._loop._loop is None or not asyncio.all_tasks(client._loop._loop):
        pass
    client.close()
    asking.join(20)
    assert [type(error) for error in told] == [e.ClientClosedError]


def test_a_callback_that_would_wait_for_itself_is_told(server: Server) -> None:
    with Client(f"{LOOPBACK}:{server.ports['grpc']}") as client:
        stream = client.stream(uuid4().hex, content_type="text/plain")
        stream.create()
        told: list[BaseException] = []

        def called(_: object) -> None:
            try:
                stream.append("y")
            except RuntimeError as error:
                told.append(error)

        with stream.producer() as producer:
            producer.append("x").add_done_callback(called)
        assert "must not wait" in str(told[0])


def test_another_process_is_told_to_make_its_own(server: Server) -> None:
    # Over HTTP: gRPC itself may end a process that is forked while its threads run.
    program = (
        "import os\n"
        "from durable_streams_client.sync import Client\n"
        "from durable_streams_client.errors import ClientClosedError\n"
        f"c = Client('http://{LOOPBACK}:{server.ports['http']}')\n"
        "c.stream('fork', content_type='a/b').create()\n"
        "if not os.fork():\n"
        "    try:\n"
        "        c.stream('fork').head()\n"
        "    except ClientClosedError as error:\n"
        "        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "made in another process; make one in each process" in done.stdout
