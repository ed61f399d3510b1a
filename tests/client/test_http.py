"""What only HTTP can do to a client: proxies, other servers, and requests that overtake each other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from durable_streams_client import Client, _http
from durable_streams_client import errors as e
from durable_streams_client.http_transport import HttpTransport
from tests.client.fake import client_of
from tests.gateway.serving import until

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]
STORED = httpx.Response(204, headers={"stream-next-offset": "1"})


def client(handler: Handler) -> Client:
    over = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    return client_of(HttpTransport("http://x/v1/stream/", client=over))


def play(script: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await script()

    asyncio.run(main())


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_a_proxy_says_leaves_open_whether_it_was_done(status: int) -> None:
    """It may have given the request on, and lost the answer: a plain append is not sent again."""

    async def script() -> None:
        asked: list[str] = []

        async def proxy(request: httpx.Request) -> httpx.Response:
            asked.append(request.method)
            return httpx.Response(status, text="upstream connect error or disconnect/reset before headers")

        async with client(proxy) as found:
            stream = found.stream("s", content_type="text/plain")
            with pytest.raises(e.OutcomeUnknownError):
                await stream.append("x", timeout_s=1)
            assert asked == ["POST"]
            with pytest.raises(e.UnavailableError):
                await stream.read(timeout_s=0.2)
            with pytest.raises(e.OutcomeUnknownError):
                await stream.close(timeout_s=0.2)
            assert asked.count("POST") > 2, "a close may happen twice"

    play(script)


def test_a_refusal_after_a_lost_answer_says_nothing_of_the_first_sending() -> None:
    async def script() -> None:
        asked: list[str] = []

        async def server(request: httpx.Request) -> httpx.Response:
            asked.append(request.method)
            if len(asked) == 1:
                raise httpx.ReadError("the connection broke", request=request)
            return httpx.Response(409, json={"error": {"code": "stream_closed", "message": "this stream is closed"}})

        async with client(server) as found:
            producer = found.stream("s", content_type="text/plain").producer()
            record = await producer.append("x")
            with pytest.raises(e.StreamClosedError) as told:
                await record
            assert (asked, told.value.maybe_applied, told.value.resent) == (["POST"] * 2, True, True)
            with pytest.raises(e.StreamClosedError) as told:
                await found.stream("s", content_type="text/plain").append("x")
            assert (told.value.maybe_applied, told.value.resent) == (False, False)

    play(script)


def test_a_server_of_something_else_is_told() -> None:
    async def script() -> None:
        async def page(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, text="<html>")

        async with client(page) as found:
            stream = found.stream("s", content_type="text/plain")
            for call in (stream.append("x"), stream.create(), stream.head(), stream.read()):
                with pytest.raises(e.DurableStreamError, match="is this the URL of a server of streams"):
                    await call
            with pytest.raises(e.DurableStreamError, match="is this the URL of a node"):
                [each async for each in found.list()]
            producer = stream.producer()
            await producer.append("x")
            with pytest.raises(e.DurableStreamError, match="is this the URL of a server of streams"):
                await producer.flush()

    play(script)


@pytest.mark.parametrize(("status", "kind"), [(401, e.AuthenticationError), (403, e.PermissionDeniedError)])
def test_a_token_that_is_not_believed_or_allows_too_little(status: int, kind: type[e.DurableStreamError]) -> None:
    async def script() -> None:
        async def guard(request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, text="no")

        async with client(guard) as found:
            for call in (found.stream("s").read(), found.stream("s", content_type="a/b").append("x")):
                with pytest.raises(kind):
                    await call

    play(script)


def test_a_header_takes_what_it_takes() -> None:
    async def script() -> None:
        seen: list[bytes] = []

        async def server(request: httpx.Request) -> httpx.Response:
            seen.append(dict(request.headers.raw).get(b"stream-seq", b""))
            return STORED

        async with client(server) as found:
            stream = found.stream("s", content_type="text/plain")
            await stream.append("x", stream_seq="\u00e9".encode("latin-1"))
            assert seen == [b"\xe9"]
            for wrong in ("\n", b"\x00"):
                with pytest.raises(e.BadRequestError, match="stream-seq has"):
                    await stream.append("x", stream_seq=wrong)
            with pytest.raises(e.BadRequestError, match="expires_at_ms lies"):
                await stream.create(expires_at_ms=10**18)
            assert len(seen) == 1

    play(script)


def test_appends_to_one_stream_leave_one_after_the_other() -> None:
    async def script() -> None:
        under_way: list[str] = []
        order: list[bytes] = []

        async def server(request: httpx.Request) -> httpx.Response:
            under_way.append(str(request.url))
            order.append(request.content)
            await asyncio.sleep(0)
            assert len(set(under_way)) == len(under_way), "two at a time"
            under_way.remove(str(request.url))
            return STORED

        async with client(server) as found:
            one, other = found.stream("a", content_type="a/b"), found.stream("b", content_type="a/b")
            await asyncio.gather(*(each.append(b"%d" % number) for number in range(5) for each in (one, other)))
            assert order[::2] == order[1::2] == [b"0", b"1", b"2", b"3", b"4"]

    play(script)


def test_the_end_of_a_client_ends_what_is_under_way() -> None:
    async def script() -> None:
        asked: list[httpx.Request] = []

        async def never(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return await asyncio.get_running_loop().create_future()

        found = client(never)
        stream = found.stream("s", content_type="text/plain")
        producer = found.stream("p", content_type="text/plain").producer()
        ack: Any = await producer.append("x")
        waits = [asyncio.ensure_future(stream.append(each)) for each in "ab"]
        flushing = asyncio.ensure_future(producer.flush())
        await until(lambda: len(asked) == 2)
        await found.aclose()
        await asyncio.wait([*waits, flushing, ack])
        assert [type(each.exception()) for each in waits] == [e.OutcomeUnknownError, e.ClientClosedError]
        assert isinstance(flushing.exception(), e.OutcomeUnknownError)

    play(script)


def test_a_duplicate_of_a_producer_may_have_no_offset() -> None:
    """The reference server's has none: what was sent again is stored all the same."""

    async def script() -> None:
        answers = [
            httpx.Response(200, headers={"stream-next-offset": "1", "producer-epoch": "0", "producer-seq": "0"}),
            httpx.Response(502),
            httpx.Response(204, headers={"producer-epoch": "0", "producer-seq": "1"}),
        ]

        async def server(request: httpx.Request) -> httpx.Response:
            return answers.pop(0)

        async with client(server) as found:
            producer = found.stream("s", content_type="text/plain").producer()
            for record in "ab":
                await producer.append(record)
                await producer.flush()
            assert not answers
            answers.append(httpx.Response(204))
            with pytest.raises(e.DurableStreamError, match="has no stream-next-offset"):
                await found.stream("s", content_type="text/plain").append("x")

    play(script)


def test_a_follower_gives_the_cursor_back_that_it_was_given() -> None:
    """A cache between the two tells its requests apart by it, and would else answer with what it has for ever."""

    async def script() -> None:
        asked: list[dict[str, str]] = []
        up_to_date = {"content-type": "text/plain", "stream-up-to-date": "true"}
        answers = [
            httpx.Response(200, headers={"content-type": "text/plain", "stream-next-offset": "1"}, text="a"),
            httpx.Response(200, headers=up_to_date | {"stream-next-offset": "2"}, text="b"),
            httpx.Response(204, headers=up_to_date | {"stream-next-offset": "2", "stream-cursor": "7 & 8"}),
            httpx.Response(204, headers=up_to_date | {"stream-next-offset": "2", "stream-cursor": "9"}),
            httpx.Response(200, headers=up_to_date | {"stream-next-offset": "3", "stream-closed": "true"}, text="c"),
        ]

        async def server(request: httpx.Request) -> httpx.Response:
            asked.append(dict(request.url.params))
            return answers.pop(0)

        async with client(server) as found:
            assert [page.text() async for page in found.stream("s").follow()] == ["a", "b", "c"]
        live = {"offset": "2", "live": "long-poll"}
        cursors = [{}, {"cursor": "7 & 8"}, {"cursor": "9"}]
        assert asked == [{"offset": "-1"}, {"offset": "1"}, *(live | cursor for cursor in cursors)]

    play(script)


@pytest.mark.parametrize("body", ["[12,34", "12,34]", "<html>", "["])
def test_messages_that_were_cut_off_are_told(body: str) -> None:
    """Even if what is left of them is JSON: the last of ``[12,34`` is not 3."""

    async def script() -> None:
        async def server(request: httpx.Request) -> httpx.Response:
            headers = {"content-type": "application/json", "stream-next-offset": "1", "stream-up-to-date": "true"}
            return httpx.Response(200, headers=headers, text=body)

        async with client(server) as found:
            with pytest.raises(e.DurableStreamError, match="no JSON array of messages: was it cut off"):
                await found.stream("s").read()

    play(script)


def test_an_array_of_messages_may_have_space_around_them() -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8", "stream-next-offset": "1"}
    for body, messages in ((b"", []), (b" [ ] \n", []), (b" [ 1,\n[2] ] ", [1, [2]])):
        page = _http.page("-1", _http.Answer(200, headers, body))
        assert (page.json(), bool(page.bodies)) == (messages, bool(messages))


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://x", "http://x/v1/stream"),
        ("https://x:1/", "https://x:1/v1/stream"),
        ("http://x/v1/stream/", "http://x/v1/stream"),
        ("http://[::1]:1/events/v2/", "http://[::1]:1/events/v2"),
    ],
)
def test_streams_are_below_the_url_or_where_nodes_have_them(url: str, base: str) -> None:
    async def script() -> None:
        asked: list[httpx.Request] = []

        async def server(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return httpx.Response(201, headers={"content-type": "text/plain", "stream-next-offset": "1"})

        over = httpx.AsyncClient(transport=httpx.MockTransport(server))
        async with client_of(HttpTransport(url, client=over)) as found:
            await found.stream("a/1").fork("b")
        assert str(asked[0].url) == f"{base}/b"
        assert asked[0].headers["stream-forked-from"] == f"{httpx.URL(base).path}/a/1"

    play(script)


def test_headers_of_the_user_go_with_each_request_and_may_change() -> None:
    async def script() -> None:
        seen: list[tuple[str, str]] = []
        answers = [503, 200, 200]

        async def server(request: httpx.Request) -> httpx.Response:
            seen.append((request.headers["authorization"], request.headers["x-key"]))
            return httpx.Response(answers.pop(0), headers={"content-type": "a/b", "stream-next-offset": "1"})

        fresh = (f"Bearer {number}" for number in range(9))
        over = httpx.AsyncClient(transport=httpx.MockTransport(server))
        transport = HttpTransport(
            "http://x", "token", lambda: {"Authorization": next(fresh), "X-Key": "k"}, client=over
        )
        async with client_of(transport) as found:
            await found.stream("s").head()
            await found.stream("s").read()
        assert seen == [(f"Bearer {number}", "k") for number in range(3)], "also of what is sent again"

    play(script)


def test_headers_that_are_none_are_told() -> None:
    for name, value in (("a b", "x"), ("", "x"), ("x", "\n"), ("x", " y"), ("x", "\u20ac")):
        with pytest.raises(ValueError, match="is no header, or has a value that none has"):
            Client("http://x", headers={name: value})
    for name in ("Content-Type", "producer-id", "Stream-Seq"):
        with pytest.raises(ValueError, match="is a header that the client sets itself"):
            Client("http://x", headers={name: "x"})
    with pytest.raises(ValueError, match="headers are of HTTP"):
        Client("x:1", headers={"x-key": "k"})

    async def script() -> None:
        async def server(request: httpx.Request) -> httpx.Response:
            return STORED

        def forgotten() -> dict[str, str]:
            raise KeyError("TOKEN")

        over = httpx.AsyncClient(transport=httpx.MockTransport(server))
        async with client_of(HttpTransport("http://x", None, forgotten, client=over)) as found:
            with pytest.raises(KeyError, match="TOKEN"):
                await found.stream("s", content_type="text/plain").append("x")

    play(script)
