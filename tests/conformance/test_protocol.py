"""The official suite: all of it, against one node, against each node of three, and spread over three by the request.

Two runs go on at a time: most of one is waiting. Those that share a cluster follow each other, for the suite names its
streams by the millisecond.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.cluster import running_cluster
from tests.conformance import runner
from tests.server import running_server
from tests.spread import spread

NODES = ("n1", "n2", "n3")
ALONE, SPREAD = "one node", "three nodes, each request to another"
RUNS = (ALONE, SPREAD, *(f"three nodes, all to {name}" for name in NODES))
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
        for name, url in zip(RUNS[2:], cluster.urls, strict=True):
            report(name, run(url))


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[runner.Outcome]]]:
    found: dict[str, Future[runner.Outcome]] = {name: Future() for name in RUNS}

    def lane(work: Callable[[Report], None]) -> None:
        try:
            work(lambda name, outcome: found[name].set_result(outcome))
        except BaseException as error:
            for name in RUNS if work is each_of_three else RUNS[:2]:
                if not found[name].done():
                    found[name].set_exception(error)

    with ThreadPoolExecutor() as lanes:
        for work in (alone_and_spread, each_of_three):
            lanes.submit(lane, work)
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
