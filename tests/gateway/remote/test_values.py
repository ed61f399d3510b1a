"""What a node says, through protobuf and the client SDK, is what it said: no outcome loses anything on its way."""

from collections.abc import Mapping
from typing import Any, get_args

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from durable_streams_client import _wire, types
from durable_streams_client.errors import DurableStreamError
from durable_streams_client.grpc_failures import failure_of
from durable_streams_cluster import errors
from durable_streams_cluster.api import BadOffset, Described, OffsetGone, Page, ReadRejected
from durable_streams_cluster.asked import INVALID_JSON, TOO_LARGE, BadRequest, record
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.gateway import status
from durable_streams_cluster.gateway.remote import values
from durable_streams_cluster.gateway.status import Response
from durable_streams_cluster.limits import MAX_SAFE_INTEGER, MAX_TTL_S, Limits
from durable_streams_cluster.runtime import grpc_status, streams_wire
from durable_streams_cluster.runtime.grpc_streams import ERROR
from durable_streams_cluster.streams import outcomes as o
from durable_streams_cluster.streams.commands import Append, Create, Fork, Producer
from durable_streams_cluster.streams.meta import is_json
from durable_streams_cluster.streams.offsets import MAX_PART, START, Offset
from durable_streams_proto.v1 import streams_pb2 as pb
from tests.runs import together

NUMBERS = st.integers(0, MAX_SAFE_INTEGER)
OFFSETS = st.builds(Offset, st.integers(0, MAX_PART), st.integers(0, MAX_PART)) | st.just(START)
TYPES = st.sampled_from(["text/plain", "application/json", "text/plain; charset=utf-8", "Application/JSON;a=b", "x/y"])
TTLS = st.none() | st.integers(0, MAX_TTL_S)
ENDS = st.none() | st.integers(0, 253_402_300_799_999)
WORDS = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1).map(str.strip).filter(bool)
FIELDS = st.sampled_from(["Content-Type", "Stream-TTL", "Stream-Fork-Offset", "fork"])
SEQS = st.binary(min_size=1, max_size=256)

REJECTED: Mapping[type, st.SearchStrategy[Any]] = {
    o.NotFound: st.builds(o.NotFound),
    o.SoftDeleted: st.builds(o.SoftDeleted),
    o.ConfigMismatch: st.builds(o.ConfigMismatch, FIELDS),
    o.StreamClosed: st.builds(o.StreamClosed, OFFSETS),
    o.TypeMismatch: st.builds(o.TypeMismatch, TYPES),
    o.SeqRegression: st.builds(o.SeqRegression, SEQS),
    o.OffsetMismatch: st.builds(o.OffsetMismatch, OFFSETS),
    o.StreamFull: st.builds(o.StreamFull, NUMBERS),
    o.TooManyProducers: st.builds(o.TooManyProducers, NUMBERS),
    o.ProducerFenced: st.builds(o.ProducerFenced, NUMBERS),
    # An epoch is new beside one that was seen: 0 never is (``streams.producers``).
    o.ProducerBadStart: st.builds(o.ProducerBadStart, st.integers(1, MAX_SAFE_INTEGER), NUMBERS),
    o.ProducerGap: st.builds(o.ProducerGap, NUMBERS, NUMBERS),
    o.ForkSourceMissing: st.builds(o.ForkSourceMissing),
    o.ForkSourceDeleted: st.builds(o.ForkSourceDeleted),
    o.ForkRefused: st.builds(o.ForkRefused, FIELDS, WORDS),
}
DONE: Mapping[type, st.SearchStrategy[Any]] = {
    o.Created: st.builds(o.Created, st.booleans(), TYPES, OFFSETS, st.booleans(), TTLS, ENDS),
    o.Appended: st.builds(o.Appended, OFFSETS, st.booleans(), st.none() | NUMBERS, st.none() | NUMBERS, st.booleans()),
    o.Deleted: st.builds(o.Deleted, st.booleans()),
}
UNREAD: Mapping[type, st.SearchStrategy[Any]] = {
    o.NotFound: REJECTED[o.NotFound],
    o.SoftDeleted: REJECTED[o.SoftDeleted],
    BadOffset: st.builds(BadOffset),
    OffsetGone: st.builds(OffsetGone, OFFSETS),
}
SECONDS = st.integers(1, 3600)
REFUSED: Mapping[type, st.SearchStrategy[ClusterError]] = {
    errors.Overloaded: st.builds(errors.Overloaded, WORDS, SECONDS),
    errors.StorageFull: st.builds(errors.StorageFull, WORDS, SECONDS),
} | {
    kind: st.builds(kind, WORDS)
    for kind in [
        errors.Unavailable,
        errors.ShuttingDown,
        errors.OutcomeUnknown,
        errors.StorageError,
        errors.DataDirLocked,
        errors.CorruptData,
        errors.FromNewerBuild,
        errors.DiskHangs,
        errors.ConfigError,
    ]
}
CODES = ["bad_request", INVALID_JSON, TOO_LARGE, "path_too_long"]
"""Of requests that break a rule; what is ``not_found`` is told as a stream that is not there, and ``body_timeout`` is
of HTTP alone."""
BROKEN = st.builds(BadRequest, FIELDS, WORDS, st.sampled_from(CODES))


def test_there_is_a_case_for_every_kind() -> None:
    assert set(REJECTED) == set(get_args(o.Rejected))
    assert {*REJECTED, *DONE, o.Renewed} == set(get_args(o.Outcome))
    assert set(UNREAD) == set(get_args(ReadRejected))
    assert set(REFUSED) == {kind for kind in vars(errors).values() if _is_error(kind)}
    with pytest.raises(AssertionError):
        streams_wire.reply_of(o.Renewed())


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, ClusterError) and kind is not ClusterError


# --- The way of a write: one reply of many on a call; and of a read: a status with a trailer.


def written(reply: streams_wire.Reply) -> _wire.Written:
    match reply:
        case pb.AppendReply():
            made = pb.WriteReply(number=1, append=reply)
        case pb.CreateReply():
            made = pb.WriteReply(number=1, create=reply)
        case pb.DeleteReply():
            made = pb.WriteReply(number=1, delete=reply)
        case pb.Error():
            made = pb.WriteReply(number=1, error=reply)
    return _wire.written(pb.WriteReply.FromString(made.SerializeToString()))


def told(reply: streams_wire.Reply) -> o.Outcome | BadRequest | ClusterError:
    found = written(reply)
    if isinstance(found, DurableStreamError):
        return values.told_of(found)
    return values.outcome_of(found)


def raised(error: pb.Error) -> DurableStreamError:
    """What the SDK raises for a call that answers no page."""
    status_ = getattr(grpc.StatusCode, grpc_status.STATUS[error.code])
    return failure_of(
        "n:1", AioRpcError(status_, Metadata(), Metadata((ERROR, error.SerializeToString())), error.message)
    )


def response(told: object, location: bytes, append: Append | None) -> Response:
    """As ``gateway.app`` answers."""
    if isinstance(told, BadRequest):
        return status.bad_request(told)
    if isinstance(told, ClusterError):
        plain = append is not None and append.producer is None and bool(append.body)
        return status.refused(told, append.producer if append is not None else None, plain_append=plain)
    return status.of(told, location, append)  # type: ignore[arg-type]


APPENDS = st.builds(
    Append,
    st.just("s"),
    st.just("text/plain"),
    st.sampled_from([b"", b"body"]),
    st.booleans(),
    st.none() | SEQS,
    st.none() | st.builds(Producer, st.just("me"), NUMBERS, NUMBERS),
    st.none() | OFFSETS,
)
CONTEXT = {"location": st.sampled_from([b"", b"http://h/v1/stream/s"]), "append": st.none() | APPENDS}


@given(outcome=st.one_of([*DONE.values(), *REJECTED.values()]), **CONTEXT)
def test_an_outcome_is_what_it_was(outcome: o.Outcome, location: bytes, append: Append | None) -> None:
    found = told(streams_wire.reply_of(outcome))
    if isinstance(outcome, o.ForkRefused):  # To the SDK, a request that breaks a rule.
        assert isinstance(found, BadRequest)
        assert (found.field, found.rule) == (outcome.field, outcome.rule)
    else:
        assert found == outcome
        assert type(found) is type(outcome)
    assert response(found, location, append) == status.of(outcome, location, append)


@given(error=st.one_of([*REFUSED.values()]), **CONTEXT)
def test_a_refusal_is_what_it_was(error: ClusterError, location: bytes, append: Append | None) -> None:
    sent = grpc_status.refused(error)
    found = told(sent)
    assert isinstance(found, ClusterError)
    assert (found.maybe_applied, str(found)) == (error.maybe_applied, str(error))
    assert response(found, location, append) == response(error, location, append)
    with pytest.raises(ClusterError) as unread:
        values.unread_of(raised(sent))
    assert status.refused(unread.value) == status.refused(error)
    with pytest.raises(ClusterError) as undescribed:
        values.undescribed_of(raised(sent))
    assert status.refused(undescribed.value) == status.refused(error)


@given(error=BROKEN, append=st.none() | APPENDS)
def test_a_rule_that_is_broken_is_named(error: BadRequest, append: Append | None) -> None:
    sent = grpc_status.broken(error)
    found = told(sent)
    assert isinstance(found, BadRequest)
    assert (found.field, found.rule, found.code) == (error.field, error.rule, error.code)
    assert response(found, b"", append) == status.bad_request(error)
    for read in (values.unread_of, values.undescribed_of):
        with pytest.raises(BadRequest) as unread:
            read(raised(sent))
        assert status.bad_request(unread.value) == status.bad_request(error)


@given(rejected=st.one_of([*UNREAD.values()]))
def test_why_a_read_has_no_page_is_what_it_was(rejected: ReadRejected) -> None:
    found = values.unread_of(raised(grpc_status.unread(rejected)))
    assert found == rejected
    assert type(found) is type(rejected)
    assert status.of_read(found) == status.of_read(rejected)
    if isinstance(rejected, o.NotFound | o.SoftDeleted):
        undescribed = values.undescribed_of(raised(grpc_status.unread(rejected)))
        assert type(undescribed) is type(rejected)


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_a_status_that_no_node_of_ours_gave_is_a_refusal(code: grpc.StatusCode) -> None:
    """A proxy's, or of gRPC itself; also such a status is answered, and none says that something was stored."""
    failure = failure_of("n:1", AioRpcError(code, Metadata(), Metadata(), "what it says"))
    for told_ in (values.told_of(failure), values.refused_of(failure)):
        assert isinstance(told_, ClusterError)
        assert "what it says" in str(told_)
        assert not told_.maybe_applied
    with pytest.raises(ClusterError):
        values.unread_of(failure)


@pytest.mark.parametrize("maybe_applied", [False, True])
@pytest.mark.parametrize("retryable", [False, True])
def test_a_code_of_a_newer_node_is_taken_by_what_may_be_done_about_it(retryable: bool, maybe_applied: bool) -> None:
    error = pb.Error(message="news", retryable=retryable, maybe_applied=maybe_applied and not retryable)
    error.code = 99  # type: ignore[assignment]
    found = told(error)
    assert isinstance(found, ClusterError)
    assert found.maybe_applied is error.maybe_applied
    assert type(told(pb.Error(code=pb.Error.OVERLOADED))) is errors.Overloaded
    assert isinstance(told_of_nothing(), errors.OutcomeUnknown)


def told_of_nothing() -> object:
    return values.told_of(_wire.written(pb.WriteReply(number=1)))  # type: ignore[arg-type]


# --- Pages, and what is known besides.

PAGES = st.builds(
    Page,
    stream=WORDS,
    content_type=st.shared(TYPES, key="type"),
    is_json=st.shared(TYPES, key="type").map(is_json),
    start=OFFSETS,
    next=OFFSETS,
    records=st.lists(st.binary(min_size=1), max_size=3).map(lambda bodies: [together(*bodies)] if bodies else []),
    up_to_date=st.booleans(),
    closed=st.booleans(),
    ttl_s=TTLS,
    expires_at_ms=ENDS,
    encoded=st.builds(dict),
    behind=NUMBERS,
    after_cr=st.booleans(),
)


@given(PAGES)
def test_a_page_is_what_it_was(page: Page) -> None:
    page.encoded["sse"] = b"of another process"
    sent = pb.Page.FromString(streams_wire.page_of(page).SerializeToString())
    found = values.page_of(_wire.page(sent))
    assert found.bodies == page.bodies
    assert not found.records or found.records[-1].end == found.next.position
    assert replace(found, records=[]) == replace(page, records=[], encoded={})


@given(st.lists(st.builds(Described, WORDS, TYPES, OFFSETS, OFFSETS, st.booleans(), TTLS, ENDS), max_size=3))
def test_what_is_known_of_a_stream_is_what_it_was(found: list[Described]) -> None:
    listed = pb.ListReply.FromString(streams_wire.list_of(found, 3).SerializeToString())
    assert [values.described_of(each.path, each) for each in _wire.listed(listed)] == found
    for each in found:
        head = pb.HeadReply.FromString(streams_wire.head_of(each).SerializeToString())
        assert values.described_of(each.path, _wire.head(head)) == each


# --- Commands: what HTTP clients ask is asked of the node.

JSON = st.recursive(
    st.sampled_from([b"1", b"-0.0e7", b'"a,b]"', b"null", b'"\\ud800"', b"{}", b'{"a" : [1,{"b":2}] }', b"[]"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda each: b" [ " + b" , ".join(each) + b" ]\n"),
)


def body_of(content_type: str | None) -> st.SearchStrategy[bytes]:
    """A body as it is stored."""
    if content_type is not None and is_json(content_type):
        return JSON.map(lambda sent: record(sent, content_type)).filter(bool)
    return st.binary(min_size=1)


@st.composite
def commands(draw: st.DrawFn) -> Append | Create:
    content_type = draw(TYPES)
    body = draw(st.just(b"") | body_of(content_type))
    if draw(st.booleans()):
        producer = st.builds(Producer, st.text(st.characters(codec="latin-1"), min_size=1), NUMBERS, NUMBERS)
        condition = draw(st.none() | producer | OFFSETS)
        return Append(
            draw(st.sampled_from(["s", "a/b", "å ☃"])),
            content_type if body else None,
            body,
            draw(st.booleans()) or not body,
            draw(st.none() | SEQS),
            condition if isinstance(condition, Producer) else None,
            condition if isinstance(condition, Offset) else None,
        )
    ttl_s = draw(TTLS)
    fork = draw(st.none() | st.builds(Fork, st.just("source"), st.none() | OFFSETS, NUMBERS))
    return Create(
        "s",
        content_type,
        ttl_s,
        draw(ENDS) if ttl_s is None else None,
        draw(st.booleans()),
        body,
        fork,
    )


@given(commands(), TYPES)
def test_what_is_asked_arrives(command: Append | Create, source_type: str) -> None:
    if isinstance(command, Append):
        asked = pb.AppendRequest.FromString(_wire.append(values.append_of(command)).SerializeToString())
        assert streams_wire.append_of(asked, Limits()) == command
        return
    sent = _wire.create(values.create_of(command))
    made = pb.CreateRequest.FromString(sent.SerializeToString())
    assert streams_wire.create_of(made, streams_wire.fork_of(made, Limits()), source_type, Limits()) == command


@given(TYPES, JSON)
def test_the_body_of_a_fork_whose_source_was_not_found_is_as_it_was_sent(source_type: str, body: bytes) -> None:
    """The node looks again, and takes it for what its source is by then."""
    command = Create("s", None, None, None, False, body, Fork("source", None, 0))
    made = _wire.create(values.create_of(command))
    arrived = streams_wire.create_of(made, streams_wire.fork_of(made, Limits()), source_type, Limits())
    assert arrived == Create("s", source_type, None, None, False, record(body, source_type), command.fork)


def test_json_messages_are_an_array_again() -> None:
    sent = values.append_of(Append("s", "application/json", b'1,[2],"3"', False, None, None))
    assert sent == types.AppendRequest("s", b'[1,[2],"3"]', "application/json")
    assert values.append_of(Append("s", None, b"", True, None, None)).body == b""
    assert values.append_of(Append("s", "application/jsonx", b"1,2", False, None, None)).body == b"1,2"
