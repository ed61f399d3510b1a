"""Whoever waits for an outcome gets it once, however they wait."""

import asyncio
import logging

import pytest

from durable_streams_cluster.answer import Answer, Told
from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.streams.outcomes import Deleted, NotFound

GONE = Deleted(soft=False)


def test_listeners_are_told_at_once_and_once() -> None:
    answer, heard = Answer(), list[Told]()
    answer.then(heard.append)
    answer.then(heard.append)
    assert not heard
    answer.tell(GONE)
    answer.tell(NotFound())
    assert heard == [GONE, GONE]
    answer.then(heard.append)
    assert heard == [GONE] * 3


def test_a_listener_that_fails_keeps_it_from_nobody(caplog: pytest.LogCaptureFixture) -> None:
    answer, heard = Answer(), list[Told]()

    def fails(told: Told) -> None:
        raise ValueError(told)

    answer.then(fails)
    answer.then(heard.append)
    with caplog.at_level(logging.ERROR):
        answer.tell(GONE)
    assert heard == [GONE]
    assert "an outcome was not taken" in caplog.text


def test_it_can_be_awaited_by_many_before_and_after() -> None:
    async def wait() -> None:
        answer, failed = Answer(), Answer()
        waiting = [asyncio.ensure_future(answer), asyncio.ensure_future(answer), asyncio.ensure_future(failed)]
        await asyncio.sleep(0)
        cancelled = waiting.pop(0)
        cancelled.cancel()
        answer.tell(GONE)
        failed.tell(Unavailable("no leader"))
        assert await waiting[0] == await answer == GONE
        for each in (waiting[1], failed):
            with pytest.raises(Unavailable, match="no leader"):
                await each
        assert cancelled.cancelled()

    asyncio.run(wait())
