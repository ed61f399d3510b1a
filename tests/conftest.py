"""Options and fixtures that all tests share."""

import hypothesis
import pytest

hypothesis.settings.register_profile("shared-machine", deadline=None, derandomize=True)
hypothesis.settings.load_profile("shared-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("durable streams")
    group.addoption("--rewrite", action="store_true", help="accept what the scripts in testdata/ print now")
    group.addoption("--seed", type=int, help="run simulations with this one seed: replay a failure")
    group.addoption("--seeds", type=int, default=20, help="run simulations with this many seeds (default %(default)s)")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether scripts accept the new output."""
    return bool(request.config.getoption("--rewrite"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``seed`` runs once for each; the seed is in the test's name."""
    if "seed" in metafunc.fixturenames:
        one, count = metafunc.config.getoption("--seed"), metafunc.config.getoption("--seeds")
        seeds = range(count) if one is None else [one]
        metafunc.parametrize("seed", seeds, ids=[f"seed={number}" for number in seeds])
