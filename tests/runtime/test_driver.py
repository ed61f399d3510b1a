"""In which order a leader tells what became of writes: those who wait here, and its followers."""

import asyncio

import pytest

from durable_streams_cluster.answer import Told
from durable_streams_cluster.raft import AppendEntries
from durable_streams_cluster.runtime.driver import FEW_COMPLETIONS
from tests.replica.node import create
from tests.runtime.followers import Followers, leading
from tests.runtime.world import simulate


def news(followers: Followers, path: str) -> int:
    """How many followers were told that the entry with this path is committed, in a message that has no entry."""
    sent = [message for _, message in followers.heard if isinstance(message, AppendEntries)]
    index = next(each.index for message in sent for each in message.entries if path.encode() in each.data)
    return sum(1 for message in sent if message.commit >= index and not message.entries)


@pytest.mark.parametrize(("writes", "heard_before"), [(1, 0), (FEW_COMPLETIONS, 0), (FEW_COMPLETIONS + 1, 2)])
def test_few_are_answered_before_news_is_sent_and_many_after(writes: int, heard_before: int) -> None:
    async def main() -> None:
        driver, followers = await leading()
        heard: list[int] = []

        def told(_: Told) -> None:
            heard.append(news(followers, "stream-0"))

        for number in range(writes):
            driver.propose(create(f"stream-{number}"), 100).then(told)
        await asyncio.sleep(0.001)
        assert len(heard) == writes
        assert set(heard) == {heard_before}
        assert news(followers, "stream-0") == 2

    simulate(main)
