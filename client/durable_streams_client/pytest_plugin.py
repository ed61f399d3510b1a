"""Fixtures for tests of programs that use streams; pytest finds them where this distribution is installed.

Nothing is started, and nothing but this module is imported for it, before a test asks for a fixture.
"""

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest

from durable_streams_client.testing import RunningNode, running_node


@pytest.fixture(scope="session")
def durable_streams_node() -> Iterator[RunningNode]:
    """A node in memory, the same for all tests of the run: ``target``, ``url``, ``ops_url``."""
    with running_node() as node:
        yield node


@pytest.fixture
def durable_streams_prefix(request: pytest.FixtureRequest) -> str:
    """The beginning of a path that no other test has, without a slash at its end; it tells which test it is."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name)[:64]
    return f"{name}-{uuid4().hex}"
