"""What the official clients are tried on."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.cluster import running_cluster
from tests.server import running_server
from tests.spread import spread


@pytest.fixture(scope="module", params=["one node", "three nodes, each request to another"])
def base_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        if request.param == "one node":
            yield stack.enter_context(running_server("--long-poll-timeout", "500ms")).url
        else:
            cluster = stack.enter_context(running_cluster(long_poll_timeout="500ms"))
            yield stack.enter_context(spread(cluster.urls)).url
