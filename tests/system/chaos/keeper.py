"""What an orchestrator does: it starts nodes again that ended by themselves; and what people do if that is no help."""

import asyncio
from typing import NamedTuple

from tests.system.chaos import members
from tests.system.chaos.cluster import Cluster, Node

LOOK_S = 0.1
TRIES = 2
"""So often the same words are heard before somebody does what they say."""


class End(NamedTuple):
    """A process that ended by itself."""

    node: str
    code: int
    words: str


class Keeper:
    """Of all nodes of a cluster, while it runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.ends: list[End] = []
        self.emptied: list[str] = []
        """Nodes whose words said to empty their directories, which was done."""
        self.wrong: list[str] = []

    async def run(self, stopped: asyncio.Event) -> None:
        """Until it is stopped."""
        while not stopped.is_set() and not self.wrong:
            for node in self._cluster.nodes:
                if node.wanted and node.process is not None and not node.running:
                    await self._again(node)
            await asyncio.sleep(LOOK_S)

    async def _again(self, node: Node) -> None:
        assert node.process is not None
        code = await asyncio.to_thread(node.process.wait)
        words = node.process.errors.strip().rpartition("\n")[2].partition("error: ")[2]
        self.ends.append(End(node.name, code, words))
        if code not in {1, 2} or "Next step: " not in words:
            self.wrong.append(f"{node.name} ended with {code}, and does not say what to do: {words!r}")
            return
        if [each.words for each in self.ends if each.node == node.name][-TRIES:] == [words] * TRIES:
            if "empty the directory" not in words:
                self.wrong.append(f"{node.name} does not start, and what it says does not help: {words!r}")
                return
            members.wipe(node)
            self.emptied.append(node.name)
        node.launch()

    def told(self, node: Node, since: int) -> str:
        """What became of a node since so many ends, in a word."""
        if node.name in self.emptied:
            self.emptied.remove(node.name)
            return "emptied as it said"
        ended = sum(each.node == node.name for each in self.ends[since:])
        damaged = sorted(node.data.glob("damaged-*"))
        what = "repaired" if damaged else "sound"
        return f"{what} after {ended} ends" if ended else what
