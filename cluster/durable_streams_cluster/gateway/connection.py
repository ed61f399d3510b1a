"""One HTTP connection: uvicorn's protocol, with bounds.

uvicorn's HTTP protocol is fast and correct, and bounds little: it holds half a request for ever and takes headers of
any size. ``Connection`` adds the bounds of ``Limits``, cheaply: sizes are counted once per read, never per header, and
one sweep a second over all connections takes the place of a timer per request. So what the sweep enforces is up to a
second late, and a head that begins in the read that ended a body (256 KiB at most) has that part of it for free.

``tests/gateway/test_serve_contract.py`` fails when what is overridden here changes upstream.
"""

import asyncio
import urllib.parse
from typing import Any, cast

import httptools
import uvicorn
from uvicorn._types import HTTPScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from durable_streams_cluster.gateway.direct import Beginner
from durable_streams_cluster.gateway.exchange import Exchange
from durable_streams_cluster.gateway.heads import Again, Recall, is_host, split_target, without_upgrade
from durable_streams_cluster.gateway.refusals import REFUSALS
from durable_streams_cluster.gateway.shared import SharedState
from durable_streams_cluster.gateway.taker import Taker
from durable_streams_cluster.limits import MIB

LINGER_MS = 2000
LINGER_BYTES = MIB
"""A refused client is still sending. Closing at once would reset the connection, and the reset eats our answer; so we
stop sending and read on for a moment, for ``limits.max_lingering`` clients at most."""
MAX_HEADERS = 100
MAX_PIPELINED = 32
MAX_PIPELINED_HEADERS = 160
"""Requests of one connection that wait for their turn, and their headers; one read of 256 KiB could hold 14,000."""


class _RefusedError(Exception):
    """Raised inside a parser callback, to stop the parser at once."""

    def __init__(self, status: int) -> None:
        self.status = status


class Connection(HttpToolsProtocol):
    """One connection.

    ``in_head``: the parser is between two requests or inside a head. ``unparsed``: bytes read since then that completed
    neither head nor message nor gave a byte of body. ``since_ms``: when the present phase began (open, first byte of a
    head, response complete, refusal), for the sweep. ``answering``: the exchange whose turn it is; uvicorn's ``cycle``
    is the one being received, which with pipelined requests is a later one. ``fresh``: an exchange that the application
    has not seen; it begins when the read is parsed, and with it perhaps the body. ``good_host``: the last Host that was
    found to be one; most connections only ever send that. ``recall``: the head of the last request; the parser is not
    asked when it comes again.
    """

    server_state: SharedState
    cycle: Exchange

    def __init__(self, config: uvicorn.Config, server_state: SharedState) -> None:
        super().__init__(config, server_state, {})
        limits = server_state.limits
        self.max_head = limits.max_header_bytes
        self.max_target = limits.max_target_bytes
        self.in_head = True
        self.unparsed = 0
        self.url = b""
        self.host: bytes | None = None
        self.good_host = b""
        self.since_ms = server_state.now_ms
        self.answering: Exchange | None = None
        self.fresh: Exchange | None = None
        self.beginner: Beginner | None = self.app if hasattr(self.app, "begin") else None
        self.recall = Recall()
        self.refused = False
        self.upgrade = False
        self.queued_headers = 0
        self.taker = Taker(limits)

    # --- The transport calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it before a byte is read."""
        state = self.server_state
        self.since_ms = state.now_ms
        if len(state.connections) >= state.limits.max_connections:
            self.transport = transport
            self.flow = FlowControl(transport)
            self.refuse(503)
        else:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # The kernel has a buffer; ours is what it did not take.

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the applications that answer, and whoever waits for the last connection to go."""
        super().connection_lost(exc)  # Tells the one of ``cycle``.
        self.pipeline.clear()
        if self.answering is not None and not self.answering.response_complete:
            self.answering.disconnected = True
            self.answering.notify()
        state = self.server_state
        state.hold(self, 0)
        state.lingering.discard(self)
        if state.draining and not state.connections:
            state.last_gone.set()

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if self.in_head and not self.unparsed:
            self.since_ms = self.server_state.now_ms
        if not self.busy and (again := self.recall.again(data)) is not None:
            self._take_again(*again)
            return
        self.recall.begin_read()
        self.unparsed += len(data)
        if self.unparsed > self.max_head and (self.in_head or self.refused):
            self._feed_long(data)
            return
        if self.refused:
            return
        self._feed(data)
        if self.unparsed > self.max_head and not self.in_head:
            self._check_stuck_body()

    def pause_writing(self) -> None:
        """Note since when the client takes nothing."""
        unsent = self.transport.get_write_buffer_size()
        self.taker.begin(unsent, self.server_state.now_ms)
        self.server_state.hold(self, unsent)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client took what was sent."""
        self.server_state.hold(self, 0)
        super().resume_writing()

    # --- The parser calls.

    def on_message_begin(self) -> None:
        """Begin a head; the scope is made when it is complete."""
        self.recall.between = False
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.host = None

    def on_url(self, url: bytes) -> None:
        """Bound the request target while it arrives."""
        self.url += url
        if len(self.url) > self.max_target:
            raise _RefusedError(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header as uvicorn does, without the white space around its value (RFC 9110 5.5)."""
        name = name.lower()
        value = value.strip(b" \t")  # Cheaper than to look whether it is needed.
        if name == b"host":
            # Two are joined with what no host contains.
            self.host = value if self.host is None else b"%s, %s" % (self.host, value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        if len(self.headers) == MAX_HEADERS:
            raise _RefusedError(431)  # Here, not when the head is complete: 6,000 of four bytes cost a megabyte.
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the application, as uvicorn does, or put the request in the queue."""
        headers, parser = self.headers, self.parser
        if len(self.pipeline) >= MAX_PIPELINED or self.queued_headers > MAX_PIPELINED_HEADERS:
            raise _RefusedError(431)
        if parser.should_upgrade():
            self._note_upgrade()
            return
        version = parser.get_http_version()
        if self.host != self.good_host:
            self._check_host(version)
        raw_path, query = split_target(self.url)
        path = raw_path.decode("ascii")
        scope: HTTPScope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": cast("Any", self.scheme),
            "root_path": "",
            "headers": headers,
            "method": parser.get_method().decode("ascii"),
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "state": {},
        }
        self.cycle = exchange = self._exchange(scope, may_stay=version != "1.0" and parser.should_keep_alive())
        self.in_head = False
        self.unparsed = 0
        self.headers = []  # The scope has the other list: trailers must not pose as headers.
        if self.answering is None or self.answering.response_complete:
            self.answering = self.fresh = exchange
        else:
            self.flow.pause_reading()
            self.queued_headers += len(headers)
            self.pipeline.appendleft((exchange, self.app))

    def on_body(self, body: bytes) -> None:
        """Hand the body on; of an answered request it is dropped, and keeps counting as unparsed."""
        exchange = self.cycle
        if exchange.response_complete:
            return
        self.unparsed = 0
        exchange.body += body
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        exchange.notify()

    def on_message_complete(self) -> None:
        """Be ready for the next head."""
        if self.upgrade:
            return
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.notify()
        self.in_head = self.recall.between = True
        self.unparsed = 0
        self.url = b""

    def on_response_complete(self) -> None:
        """Do what uvicorn does, with a note for the sweep in place of a timer."""
        state = self.server_state
        state.total_requests += 1
        self.since_ms = state.now_ms
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self.answering = cast("Exchange", self.pipeline.pop()[0])
            self.queued_headers -= len(cast("list[Any]", self.answering.scope["headers"]))
            self._start_asgi_task(self.answering, self.app)

    # --- The server calls.

    def last_call(self) -> None:
        """A request being answered is the last one, and its answer says so; later ones see that for themselves."""
        if self.busy:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close if idle; a request being received or answered is the last one."""
        if self.busy:
            self.cycle.keep_alive = False
        elif not self.unparsed:
            self.since_ms = self.server_state.now_ms
            self._close()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered; one whose body broke gets no answer but the refusal."""
        answering = self.answering
        return answering is not None and not (answering.response_complete or answering.disconnected)

    def check(self, now_ms: int) -> None:
        """Enforce the timeouts; called by the sweep."""
        limits = self.server_state.limits
        waited_s = (now_ms - self.since_ms) / 1000
        if self.flow.write_paused:
            self._check_reader(now_ms)
        elif self.transport.is_closing() or (self.refused and not self.busy):
            if waited_s * 1000 >= LINGER_MS:
                self.cut("")
        elif self.busy:
            return  # The application bounds bodies and answers.
        elif not self.in_head:
            if waited_s >= limits.header_timeout_s:
                self.cut("408")  # It was answered, and its body does not end.
        elif self.unparsed:
            if waited_s >= limits.header_timeout_s:
                self.refuse(408)
        elif waited_s >= (limits.header_timeout_s if self.cycle is None else limits.idle_timeout_s):
            self.server_state.refused["idle"] += 1
            self.since_ms = now_ms
            self._close()

    def refuse(self, status: int) -> None:
        """Answer ``status`` if that is possible without breaking another answer, and end the connection."""
        state = self.server_state
        if self.refused:
            return
        self.refused = True
        self.since_ms = state.now_ms
        state.refused[str(status)] += 1
        if self.busy and self.in_head:
            self.cycle.keep_alive = False  # What was asked properly is still answered; nothing follows.
            return
        if self.busy:
            # The body being received is broken: the application must not take it for whole.
            self.cycle.disconnected = True
            self.cycle.notify()
            if self.cycle.response_started or self.pipeline:
                self._close()
                return
        self._answer_and_linger(status)

    def cut(self, reason: str) -> None:
        """Drop the connection and what it has not taken."""
        if reason:
            self.server_state.refused[reason] += 1
        self.transport.abort()

    # --- Parts.

    def _exchange(self, scope: HTTPScope | Again, *, may_stay: bool) -> Exchange:
        return Exchange(
            scope,
            self.transport,
            self.flow,
            self.on_response_complete,
            self.server_state,
            keep_alive=may_stay and not self.server_state.draining,
            expect_100_continue=self.expect_100_continue,
        )

    def _take_again(self, again: Again, body: bytes) -> None:
        """Take a request whose head is that of the last one."""
        self.cycle = self.answering = exchange = self._exchange(again, may_stay=True)
        exchange.memo = again.head.memo
        exchange.body += body
        exchange.more_body = False
        self._begin(exchange)

    def _begin(self, exchange: Exchange) -> None:
        if exchange.disconnected:
            return  # What follows its head was refused.
        # Whoever takes no answers waits for the next one the long way, and is not read from.
        short = self.beginner if not exchange.more_body and not self.flow.write_paused else None
        if short is None or not short.begin(exchange):
            self._start_asgi_task(exchange, self.app)
        else:
            self.recall.note(exchange.memo)

    def _close(self) -> None:
        """Close, when what was answered has left."""
        self.server_state.cork.flush()
        self.transport.close()

    def _is_head(self) -> bool:
        """Whether a refusal now answers a HEAD, which has no content (RFC 9110 9.3.2)."""
        if self.in_head:
            return self.url != b"" and self.parser.get_method() == b"HEAD"  # with a target, the method was read
        return not self.cycle.response_complete and self.cycle.scope["method"] == "HEAD"

    def _check_host(self, version: str) -> None:
        """Refuse a Host that is missing (HTTP/1.0 may leave it out), repeated or none (RFC 9112 3.2)."""
        if self.host is not None and is_host(self.host):
            self.good_host = self.host
        elif self.host is not None or version >= "1.1":
            raise _RefusedError(400)

    def _feed(self, data: bytes | memoryview) -> None:
        self.recall.forget()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._feed_without_upgrade(bytes(data[cast("int", stop.args[0]) :]))
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.refuse(cause.status if isinstance(cause, _RefusedError) else 400)
        if self.fresh is not None:
            exchange, self.fresh = self.fresh, None
            if exchange.keep_alive and not exchange.more_body and type(data) is bytes:
                self.recall.learn(data, cast("dict[str, Any]", exchange.scope), len(exchange.body))
            self._begin(exchange)

    def _feed_long(self, data: bytes) -> None:
        """Feed a read that is larger than what is left for the head in pieces, so that the bound is exact."""
        if self.refused:
            if self.unparsed > LINGER_BYTES:
                self.cut("")
            return
        self.unparsed -= len(data)
        rest = memoryview(data)
        while rest and not self.refused and not self.transport.is_closing():
            room = self.max_head - self.unparsed if self.in_head else len(rest)
            if room <= 0:
                self.refuse(431)
                return
            self.unparsed += len(rest[:room])
            self._feed(rest[:room])
            rest = rest[room:]

    def _check_stuck_body(self) -> None:
        """Bound what moves nothing: endless trailers and chunk extensions, the rest of a body answered already."""
        if self.busy:
            self.refuse(431)
        elif self.unparsed > 2 * self.server_state.limits.max_append_bytes:
            self.cut("413")

    def _note_upgrade(self) -> None:
        """Remember that the parser stops here, because the client offers another protocol."""
        if self.parser.get_method() == b"CONNECT":
            raise _RefusedError(501)
        self.upgrade = True

    def _feed_without_upgrade(self, rest: bytes) -> None:
        """Read the request again without its offer to change protocol, which a server may ignore (RFC 9110 7.8).

        The parser gives the body up for the other protocol's: without this, the POST of a client that offers h2c
        (Java's does) arrives empty, and its body is parsed as the next request.
        """
        line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self.upgrade = False
        self.unparsed = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(without_upgrade(line, self.headers))
        if rest and not self.refused:
            self.data_received(rest)

    def _check_reader(self, now_ms: int) -> None:
        state = self.server_state
        unsent = self.transport.get_write_buffer_size()
        state.hold(self, unsent)
        if self.taker.is_slow(unsent, now_ms, pressed=state.pressed):
            self.cut("slow_reader")

    def _answer_and_linger(self, status: int) -> None:
        self.server_state.cork.flush()
        refusal = REFUSALS[status]
        if self._is_head():
            refusal = refusal[: refusal.index(b"\r\n\r\n") + 4]
        self.transport.write(b"".join((STATUS_LINE[status], self.server_state.date_line, refusal)))
        lingering = self.server_state.lingering
        if len(lingering) < self.server_state.max_lingering:
            lingering.add(self)
            self.connections.discard(self)
            self.transport.write_eof()
        else:
            self.transport.close()
