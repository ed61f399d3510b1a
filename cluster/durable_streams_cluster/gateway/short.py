"""The short way of small appends and of reads that are not live (``direct``), and what both ways have in common."""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from durable_streams_cluster.answer import Told, outcome
from durable_streams_cluster.api import Page, ReadRejected, Streams
from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.clock import Clock
from durable_streams_cluster.crowd import Crowd
from durable_streams_cluster.errors import ClusterError
from durable_streams_cluster.gateway import codec, pages, status
from durable_streams_cluster.gateway import headers as h
from durable_streams_cluster.gateway.codec import Live, ReadRequest
from durable_streams_cluster.gateway.direct import Direct
from durable_streams_cluster.gateway.status import Response
from durable_streams_cluster.limits import Limits
from durable_streams_cluster.observe.metrics import Metrics
from durable_streams_cluster.streams.commands import Append
from durable_streams_cluster.streams.outcomes import Appended, Outcome

DECODED_HERE = 256 * 1024
"""Bytes of a body that are decoded on the loop; a larger one is in a thread."""

log = logging.getLogger(__name__)


class _Reading(NamedTuple):
    """What the head of a GET means (``direct.Direct.memo``)."""

    path: str
    asked: ReadRequest


class ShortWay:
    """Of one gateway."""

    def __init__(
        self, streams: Streams, crowd: Crowd, limits: Limits, clock: Clock, metrics: Metrics, paths: Mapping[bytes, str]
    ) -> None:
        """``paths`` are those that were asked for before, as they stand in a request and as what they mean."""
        self._streams = streams
        self._crowd = crowd
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._paths = paths
        self._at_once = min(DECODED_HERE, limits.max_append_bytes)
        self._waiting: set[asyncio.Task[None]] = set()
        """Reads that wait."""

    def begin(self, request: Direct) -> bool:
        """See ``direct.Beginner``."""
        memo = request.memo
        if type(memo) is _Reading or (memo is None and request.scope["method"] == "GET"):
            return self._begin_read(request)
        return self._begin_append(request)

    # ------------------------------------------------------------------------------------------------------- appends

    def _begin_append(self, request: Direct) -> bool:
        body = bytes(request.body)
        if len(body) > self._at_once:
            return False
        try:
            command = self._decoded(request, body)
        except BadRequest:
            return False  # There it is told what is wrong with it.
        if command is None:
            return False
        told = partial(self._answer_append, request, command, len(body))
        try:
            answer = self._streams.append(command)
        except Exception as error:
            told(error)
        else:
            answer.then(told)
        return True

    def _decoded(self, request: Direct, body: bytes) -> Append | None:
        if request.memo is not None:
            return codec.decode_again(request.memo, body)
        scope = request.scope
        path = self._paths.get(scope["raw_path"])
        if scope["method"] != "POST" or path is None:
            return None
        command = codec.decode_append(path, h.index(scope["headers"]), body, self._limits)
        if command.body and command.producer is None:
            request.memo = replace(command, body=b"")
        return command

    def _answer_append(self, request: Direct, command: Append, size: int, told: Told) -> None:
        try:
            response = self.appended(outcome(told), command, size)
        except ClusterError as error:
            response = status.refused_append(error, command)
        except BadRequest as error:  # Streams that are elsewhere have rules of their own.
            response = status.bad_request(error)
        except Exception:
            log.exception("an append failed: %s", command.path)
            request.fail()
            return
        self._answer(request, "POST", response)

    def appended(self, outcome: Outcome, command: Append, size: int) -> Response:
        """The answer to an append of ``size`` bytes, which is counted."""
        if isinstance(outcome, Appended) and command.body and not outcome.duplicate:
            self._metrics.appends += 1
            self._metrics.append_bytes += size
        return status.of(outcome, append=command)

    # --------------------------------------------------------------------------------------------------------- reads

    def _begin_read(self, request: Direct) -> bool:
        reading: Any = request.memo or self._meant(request.scope)
        if reading is None:
            return False
        request.memo = reading
        path, asked = reading
        try:
            told = self._streams.read_now(path, asked.at, self._crowd.page_bytes())
            response = None if told is None else self.page(told, asked)
        except Exception as error:
            self._refuse_read(request, error)
            return True
        if response is not None:
            self._answer(request, "GET", response)
            return True
        waiting = asyncio.ensure_future(self._read_and_answer(request, reading))
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)
        return True

    def _meant(self, scope: Mapping[str, Any]) -> _Reading | None:
        """What a GET means, if it may go the short way."""
        path = self._paths.get(scope["raw_path"])
        if path is None:
            return None
        try:
            asked = codec.decode_read(scope["query_string"], h.index(scope["headers"]))
        except BadRequest:
            return None  # There it is told what is wrong with it.
        return _Reading(path, asked) if asked.live is Live.NO else None

    async def _read_and_answer(self, request: Direct, reading: _Reading) -> None:
        path, asked = reading
        try:
            response = self.page(await self._streams.read(path, asked.at, self._crowd.page_bytes()), asked)
            self._answer(request, "GET", response)
        except Exception as error:
            self._refuse_read(request, error)

    def _refuse_read(self, request: Direct, error: Exception) -> None:
        match error:
            case ClusterError():
                self._answer(request, "GET", status.refused(error))
            case BadRequest():  # Streams that are elsewhere have rules of their own.
                self._answer(request, "GET", status.bad_request(error))
            case _:
                log.error("a read failed", exc_info=error)
                request.fail()

    def page(self, told: Page | ReadRejected, asked: ReadRequest) -> Response:
        """The answer to a read. Raises Overloaded: there is no room for it now."""
        if not isinstance(told, Page):
            return status.of_read(told)
        return pages.response(self._crowd.admit(told), asked, self._clock.wall_ms())

    def _answer(self, request: Direct, method: str, response: Response) -> None:
        self._metrics.request(method, response.status)
        request.answer(response.status, status.framed(response), response.body)
