"""Routes, back-off and errors."""

import inspect

import pytest

from durable_streams_client import _wire, errors
from durable_streams_client._encoding import encode
from durable_streams_client._retry import MOST_S, Backoff
from durable_streams_client._routing import AVOIDED_S, Routes
from durable_streams_client.errors import DurableStreamError
from durable_streams_proto.v1 import streams_pb2 as pb


def test_one_node_is_asked_until_it_fails_and_comes_last_then() -> None:
    routes = Routes(["a", "b", "c"], first=4)
    assert routes.choose(0) == "b"
    routes.failed("b", 0)
    assert routes.choose(0.1) == "c"
    routes.failed("c", 0.1)
    routes.failed("a", 0.2)
    assert routes.choose(0.3) == "b", "all failed: the one that did so longest ago"
    routes.failed("b", 0.3)
    routes.worked("a")
    assert routes.choose(0.4) == "a"
    assert routes.choose(AVOIDED_S * 9) in ("a", "b", "c")


def test_a_node_that_failed_is_not_gone_back_to_when_its_time_is_over() -> None:
    routes = Routes(["a", "b"])
    routes.failed("a", 0)
    assert routes.choose(AVOIDED_S * 2) == "b"


def test_waits_grow_and_begin_anew() -> None:
    backoff = Backoff(lambda: 1.0)
    waits = [backoff.wait_s() for _ in range(10)]
    assert waits == sorted(waits)
    assert waits[-1] == MOST_S
    assert backoff.wait_s(7) == 7
    backoff.reset()
    assert backoff.wait_s() == waits[0]
    assert Backoff(lambda: 0.0).wait_s() == waits[0] / 2


KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DurableStreamError)]


@pytest.mark.parametrize("code", [code for code in pb.Error.Code.values() if code != pb.Error.CODE_UNSPECIFIED])
def test_each_code_is_an_error_of_its_own(code: "pb.Error.Code.ValueType") -> None:
    error = _wire.error(pb.Error(code=code, message="words", field="f", offset="o"))
    assert type(error) is not DurableStreamError
    assert str(error) == "words"
    assert error.code == pb.Error.Code.Name(code).lower()


def test_an_error_of_a_newer_server_says_what_may_be_done() -> None:
    later = _wire.error(pb.Error(code=999, message="m", retryable=True))  # type: ignore[arg-type]
    assert later.retryable
    perhaps = _wire.error(pb.Error(code=999, message="m", maybe_applied=True))  # type: ignore[arg-type]
    assert perhaps.maybe_applied
    neither = _wire.error(pb.Error(code=999, message="m"))  # type: ignore[arg-type]
    assert (neither.retryable, neither.maybe_applied) == (False, False)


def test_the_tree_that_is_drawn_is_the_one_there_is() -> None:
    drawn = errors.__doc__ or ""
    for kind in KINDS:
        if kind.__name__.startswith("_") or kind is DurableStreamError:
            continue
        (line,) = [line for line in drawn.splitlines() if f" {kind.__name__}" in line]
        assert (" retryable " in line) == kind.retryable
        assert (" maybe_applied " in line) == kind.maybe_applied
        assert not (kind.retryable and kind.maybe_applied)


def test_what_is_appended() -> None:
    assert encode(b"[1,2]", "application/json") == b"[1,2]"
    assert encode([1, 2], "application/json") == b"[[1,2]]"
    assert encode("\u00e9", "Application/JSON; x=1") == '["\u00e9"]'.encode()
    assert encode("\u00e9", "text/plain") == "\u00e9".encode()
    with pytest.raises(TypeError, match="a stream of text/plain holds bytes or str, not dict"):
        encode({}, "text/plain")
