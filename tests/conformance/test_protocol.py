"""The official suite: all of it, against one node, against each node of three, and spread over three by the request.

And through a stand-alone gateway, and two in turn. Three runs go on at a time: most of one is waiting. Those that share
a cluster follow each other, for the suite names its streams by the millisecond.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster import running_cluster
from tests.conformance import runner
from tests.gateway_process import GatewayServer
from tests.server import running, running_server
from tests.spread import spread

NODES = ("n1", "n2", "n3")
ALONE, SPREAD = "one node", "three nodes, each request to another"
EACH = tuple(f"three nodes, all to {name}" for name in NODES)
GATEWAY, GATEWAYS = "a stand-alone gateway", "two stand-alone gateways, in turn"
RUNS = (ALONE, SPREAD, *EACH, GATEWAY, GATEWAYS)
Report = Callable[[str, runner.Outcome], None]
under_way = runner.Runs()


def run(url: str) -> runner.Outcome:
    return runner.run(url, runs=under_way)


def alone_and_spread(report: Report) -> None:
    with running_server("--long-poll-timeout", "500ms") as server:
        report(ALONE, run(server.url))
    with running_cluster(long_poll_timeout="500ms") as cluster, spread(cluster.urls) as proxy:
        outcome = run(proxy.url)
        assert min(proxy.requests.values()) > runner.EXPECTED, proxy.requests
        report(SPREAD, outcome)


def each_of_three(report: Report) -> None:
    with running_cluster(long_poll_timeout="500ms") as cluster:
        for name, url in zip(EACH, cluster.urls, strict=True):
            report(name, run(url))


def through_gateways(report: Report) -> None:
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(running_cluster(long_poll_timeout="500ms"))
        urls = []
        for number in range(2):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="durable-streams-")))
            # Each begins with another node.
            targets = [*cluster.targets[number:], *cluster.targets[:number]]
            gateway = GatewayServer(folder, targets, ["--long-poll-timeout", "500ms"])
            urls.append(stack.enter_context(running(gateway)).url)
        report(GATEWAY, run(urls[0]))
        proxy = stack.enter_context(spread(urls))
        outcome = run(proxy.url)
        assert min(proxy.requests.values()) > runner.EXPECTED, proxy.requests
        report(GATEWAYS, outcome)


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[runner.Outcome]]]:
    found: dict[str, Future[runner.Outcome]] = {name: Future() for name in RUNS}

    def lane(work: Callable[[Report], None], names: Sequence[str]) -> None:
        try:
            work(lambda name, outcome: found[name].set_result(outcome))
        except BaseException as error:
            for name in names:
                if not found[name].done():
                    found[name].set_exception(error)

    with ThreadPoolExecutor() as lanes:
        lanes.submit(lane, alone_and_spread, (ALONE, SPREAD))
        lanes.submit(lane, each_of_three, EACH)
        lanes.submit(lane, through_gateways, (GATEWAY, GATEWAYS))
        try:
            yield found
        finally:
            under_way.end()  # Those that nobody waits for any more, after an interrupt.


@pytest.mark.parametrize("name", RUNS)
def test_official_suite(
    name: str, outcomes: dict[str, Future[runner.Outcome]], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = outcomes[name].result()
    with capsys.disabled():
        print(f"\n{outcome} ({name}, {outcome.seconds:.0f} s)")
    slowest = [f"{ms} ms: {test}" for ms, test in outcome.slowest]
    assert outcome.green, "\n\n".join([*outcome.problems, *slowest])
