"""Over HTTP, an answer that is no success and has no code: a proxy's, another server's, or one to a HEAD."""

from typing import Any

import pytest

from durable_streams_client import errors as e
from durable_streams_client._http import Answer
from durable_streams_client._http_errors import Asked, error_of

CLOSED = {"stream-closed": "True", "stream-next-offset": "7"}
GAP = {"producer-expected-seq": "3", "producer-received-seq": "5"}


def told(
    status: int,
    method: str,
    *sent: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    path: str = "/v1/stream/s",
) -> e.DurableStreamError:
    return error_of(Answer(status, headers or {}, body), Asked(method, path, [(name.encode(), b"x") for name in sent]))


@pytest.mark.parametrize(
    ("error", "kind", "fields"),
    [
        (told(400, "GET"), e.BadRequestError, {}),
        (told(404, "HEAD"), e.StreamNotFoundError, {}),
        (told(404, "PUT"), e.StreamNotFoundError, {}),
        (told(404, "PUT", "stream-forked-from"), e.ForkSourceError, {"code": "source_not_found"}),
        (told(409, "PUT", headers=CLOSED), e.StreamExistsError, {}),
        (told(409, "POST", headers=CLOSED | GAP), e.StreamClosedError, {"offset": "7"}),
        (told(409, "POST", headers=GAP), e.SequenceGapError, {"expected_seq": 3, "received_seq": 5}),
        (told(409, "POST", "stream-seq"), e.SeqConflictError, {}),
        (told(409, "POST", "content-type"), e.ContentTypeMismatchError, {"content_type": ""}),
        (told(403, "POST", headers={"producer-epoch": "9"}), e.ProducerFencedError, {"epoch": 9}),
        (told(403, "POST"), e.PermissionDeniedError, {}),
        (told(410, "GET", headers={"stream-first-offset": "4"}), e.RetentionGoneError, {"offset": "4"}),
        (told(410, "HEAD"), e.StreamDeletedError, {}),
        (told(410, "POST"), e.StreamDeletedError, {}),
        (told(410, "DELETE"), e.StreamDeletedError, {}),
        (told(429, "POST", headers={"retry-after": "3"}), e.OverloadedError, {"retry_after_s": 3.0}),
        (told(405, "POST"), e.DurableStreamError, {}),
        (told(501, "POST"), e.DurableStreamError, {"maybe_applied": False}),
        (told(503, "GET"), e.UnavailableError, {}),
        (told(503, "POST"), e.OutcomeUnknownError, {}),
    ],
)
def test_the_status_its_headers_and_what_was_asked_say_what_it_is(
    error: e.DurableStreamError, kind: type[e.DurableStreamError], fields: dict[str, Any]
) -> None:
    assert type(error) is kind
    assert {name: getattr(error, name) for name in fields} == fields


def test_it_says_what_was_asked_and_the_first_line_of_a_text() -> None:
    text = {"content-type": "text/plain; charset=utf-8"}
    asked = "the server answered 404 to GET /v1/stream/a%20b?offset=-1"
    for headers, body, says in (
        (text, b"Stream not found\nat all", f"{asked}: Stream not found"),
        (text, b"x" * 900, f"{asked}: {'x' * 200}"),
        (text, b"\x1b[2J", asked),
        (text, b"\xff", f"{asked}: \ufffd"),
        ({"content-type": "text/html"}, b"<html>", asked),
        ({}, b"[" * 100_000, asked),
    ):
        assert str(told(404, "GET", headers=headers, body=body, path="/v1/stream/a%20b?offset=-1")) == says


def test_a_code_that_is_not_known_is_not_guessed_at() -> None:
    body = b'{"error": {"code": "newer", "message": "it is so"}}'
    assert type(told(409, "POST", body=body)) is e.DurableStreamError
    assert str(told(409, "POST", body=body)) == "it is so"
    assert type(told(413, "POST", body=body)) is e.TooLargeError
