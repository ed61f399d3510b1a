"""Scripts over a cluster: who is told what, and all that follows, in the field's terms.

A script begins with ``cluster SIZE``, with settings if it wants. After each command the member concerned does all that
it owes, and what it said is printed; with ``cluster SIZE manual`` a script asks for each hand-over, sync and
application by itself. ``settle`` delivers everything and prints what is not a message. Election timeouts differ by
four ticks from one member to the next; ``n1`` has the shortest, 10.
"""

from pathlib import Path

import pytest

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.raft import (
    AddLearner,
    Change,
    EntryKind,
    Member,
    Objection,
    Promote,
    Ready,
    Remove,
    Settings,
)
from tests.datadriven import Command, run_script, scripts
from tests.raft.cluster import Cluster, Link, describe, describe_members, show

SETTINGS = Settings(heartbeat_ticks=3, election_ticks=10, stall_ticks=20)
SHORT = {
    "message": "message_bytes",
    "messages": "window_messages",
    "bytes": "window_bytes",
    "apply": "apply_bytes",
    "cache": "cache_bytes",
}
SIZES = {
    "message_bytes": 100,
    "window_messages": 64,
    "window_bytes": 1000,
    "apply_bytes": 1000,
    "cache_bytes": 10_000,
}


class Script:
    """Handles the commands, one method each."""

    cluster: Cluster
    manual: bool

    def handle(self, command: Command) -> str:
        if command.name != "cluster":
            self.cluster.trace.clear()
        output = getattr(self, f"do_{command.name.replace('-', '_')}")(command)
        if output is None:
            output = "\n".join(self.cluster.trace)
        return str(output)

    def do_cluster(self, command: Command) -> str:
        """``cluster 3``, ``cluster 1 manual``, ``cluster 3 message=20 messages=2 bytes=50 apply=10 cache=0``."""
        self.manual = command.flag("manual")
        sizes = {full: command.number(short, SIZES[full]) for short, full in SHORT.items()}
        times = {name: getattr(SETTINGS, name) for name in ("heartbeat_ticks", "election_ticks", "stall_ticks")}
        settings = Settings(**times, **sizes)
        size = int(command.word())
        self.cluster = Cluster(
            size, settings, lambda name, below: 4 * (int(name[1:]) - 1) % below, noop=not self.manual
        )
        return ""

    def _node(self, command: Command) -> NodeId:
        return NodeId("n1" if self.manual else command.word())

    def _done(self, name: NodeId) -> None:
        if not self.manual:
            self.cluster.turn(name)

    # ---------------------------------------------------------------------------------------------------- one member

    def do_tick(self, command: Command) -> None:
        name = self._node(command)
        for _ in range(int(command.word("1"))):
            self.cluster.tick(name)
            self._done(name)

    def do_propose(self, command: Command) -> str | None:
        """``propose n1 a b c``; ``propose n1 noop``; ``size=100`` makes each so long."""
        name = self._node(command)
        size = command.number("size", 0)
        made = []
        for data in command.words():
            kind = EntryKind.NOOP if data == "noop" else EntryKind.COMMANDS
            if not self.cluster.nodes[name].core.may_propose:
                return "refused"
            made.append(self.cluster.propose(name, b"" if data == "noop" else data.encode().ljust(size, b"."), kind))
        self._done(name)
        return "\n".join([*map(show, made), *self.cluster.trace])

    def do_read(self, command: Command) -> None:
        name = self._node(command)
        for token in command.words():
            self.cluster.read(name, token)
        self._done(name)

    def do_transfer(self, command: Command) -> None:
        name = self._node(command)
        self.cluster.transfer(name, NodeId(command.word()))
        self._done(name)

    def do_join(self, command: Command) -> None:
        """``join n4``: an empty node starts."""
        self.cluster.join(NodeId(command.word()))

    def _change(self, leader: NodeId, change: Change) -> str:
        made = self.cluster.change(leader, change)
        self._done(leader)
        return f"refused: {made.value}" if isinstance(made, Objection) else "\n".join([show(made), *self.cluster.trace])

    def do_add(self, command: Command) -> str:
        """``add n1 n4``: the leader n1 takes n4 as a learner."""
        return self._change(self._node(command), AddLearner(Member(NodeId(command.word()))))

    def do_promote(self, command: Command) -> str:
        return self._change(self._node(command), Promote(NodeId(command.word())))

    def do_remove(self, command: Command) -> str:
        return self._change(self._node(command), Remove(NodeId(command.word())))

    def do_members(self, command: Command) -> str:
        """What is in force at the members named."""
        names = [NodeId(word) for word in command.words()]
        return "\n".join(f"{name} has {describe_members(self.cluster.nodes[name].core.membership)}" for name in names)

    def do_unreachable(self, command: Command) -> None:
        name = self._node(command)
        self.cluster.unreachable(name, NodeId(command.word()))
        self._done(name)

    def do_compact(self, command: Command) -> None:
        """``compact n1 5``: the entries before the fifth leave the log."""
        self.cluster.compact(self._node(command), Index(int(command.word())))

    def do_crash(self, command: Command) -> None:
        """Writes under way are lost, or ``after NUMBER`` reached the disk though nobody heard."""
        after = command.flag("after")
        name = self._node(command)
        keep = self.cluster.nodes[name].disk.batches_to(int(command.word())) if after else 0
        self.cluster.crash(name, keep)
        if self.manual:
            self.cluster.restart(name)

    def do_restart(self, command: Command) -> None:
        self.cluster.restart(self._node(command))

    def do_stall(self, command: Command) -> None:
        """The disk of a member finishes nothing from now on."""
        self.cluster.nodes[self._node(command)].stalled = True

    def do_go_on(self, command: Command) -> None:
        name = self._node(command)
        self.cluster.nodes[name].stalled = False
        self._done(name)

    # ------------------------------------------------------------------------------------------------------ by hand

    def do_ready(self, command: Command) -> str:
        ready = self.cluster.ready(self._node(command))
        return "nothing" if ready is None else "\n".join([*_writes(ready), *self.cluster.trace])

    def do_persisted(self, command: Command) -> None:
        self.cluster.sync(self._node(command), int(command.word()))

    def do_apply(self, command: Command) -> None:
        self.cluster.apply(self._node(command), Index(int(command.word())))

    def do_disk(self, command: Command) -> str:
        disk = self.cluster.nodes[self._node(command)].disk.durable
        entries = " ".join(f"{entry.term}/{entry.index}" for entry in disk.entries.values())
        applied = f" applied={show(disk.machine.applied)}" if disk.machine.applied.index else ""
        return f"term={disk.hard_state.term} vote={disk.hard_state.vote} log {entries or 'empty'}{applied}"

    # ------------------------------------------------------------------------------------------------------ the network

    def _links(self, command: Command) -> list[Link]:
        """``n1>n2``; ``n1<>n2`` both ways; ``n1`` all of its links; ``n1>`` and ``>n1`` one way; nothing: all."""
        links = list(self.cluster.links)
        word = command.word("")
        left, arrow, right = word.partition(">")
        if left.endswith("<"):
            pair = {left[:-1], right}
            return [link for link in links if set(link) == pair]
        if not arrow:
            return [link for link in links if word in ("", *link)]
        return [link for link in links if left in ("", link[0]) and right in ("", link[1])]

    def do_deliver(self, command: Command) -> None:
        """``deliver n1>n2``: all that is under way there; ``count=1`` the first of it; ``place=2`` only the third."""
        alone = command.has("place")
        place, count = command.number("place", 0), command.number("count", 0)
        for link in self._links(command):
            for _ in range(1 if alone else count or len(self.cluster.links[link])):
                self.cluster.deliver(link, place)
        for name in self.cluster.up:
            self._done(name)

    def do_drop(self, command: Command) -> None:
        place, count = command.number("place", 0), command.number("count", 0)
        for link in self._links(command):
            for _ in range(count or len(self.cluster.links[link])):
                self.cluster.drop(link, place)

    def do_duplicate(self, command: Command) -> None:
        """Put the first message of a link (or ``place=N``) behind the others again."""
        place = command.number("place", 0)
        for link in self._links(command):
            self.cluster.duplicate(link, place)

    def do_cut(self, command: Command) -> None:
        self.cluster.cut |= dict.fromkeys(self._links(command), True)

    def do_mend(self, _: Command) -> None:
        self.cluster.cut.clear()

    def do_under_way(self, command: Command) -> str:
        links = self._links(command)
        return "\n".join(f"{a}>{b} {describe(each.message)}" for a, b in links for each in self.cluster.links[a, b])

    # ----------------------------------------------------------------------------------------------------- all together

    def do_settle(self, _: Command) -> str:
        self.cluster.settle()
        return self._news()

    def do_time(self, command: Command) -> str:
        """``time 10``: everybody's clock ticks, and everything is delivered after each."""
        for _ in range(int(command.word())):
            for name in self.cluster.up:
                self.cluster.tick(name)
            self.cluster.settle()
        return self._news()

    def do_elect(self, command: Command) -> str:
        """Only this member's clock runs until it leads; then everything is delivered."""
        name = self._node(command)
        for _ in range(3 * self.cluster.settings.election_ticks):
            self.cluster.tick(name)
            self.cluster.settle()
            if name in self.cluster.leaders:
                return self._news()
        raise command.error(f"{name} is not elected: {self._news()}")

    def _news(self) -> str:
        return "\n".join(line for line in self.cluster.trace if ">" not in line.split(" ", 1)[0])

    def do_state(self, command: Command) -> str:
        """Of the members named, or all."""
        names = [NodeId(word) for word in command.words()] or list(self.cluster.names)
        return "\n".join(self._state(name) for name in names)

    def _state(self, name: NodeId) -> str:
        core = self.cluster.nodes[name].running
        if core is None:
            return f"{name} down"
        log, status = core.log, core.status()
        marks = f"durable={log.durable} committed={log.committed} applied={log.applied}"
        terms = "".join(f"{log.term_at(Index(number))}" for number in range(log.first, log.last + 1))
        more = [f"log={log.first}:{terms}"] if terms else []
        more += [f"-> {status.transferee}"] if status.transferee else []
        more += [
            f"{peer}:{each.state.value},match={each.match},next={each.next}" for peer, each in status.followers.items()
        ]
        more += ["reads"] if core.is_up_to_date_at(log.applied) else []
        return f"{name} {core.role.value} t{core.term} {marks} {' '.join(more)}".rstrip()


def _writes(ready: Ready) -> list[str]:
    lines = [f"number {ready.number}"] if ready.must_sync else []
    if ready.hard_state is not None:
        lines.append(f"store term={ready.hard_state.term} vote={ready.hard_state.vote}")
    lines += [f"store {entry.term}/{entry.index} {entry.data.decode()}".rstrip() for entry in ready.entries]
    lines += [f"apply {entry.term}/{entry.index} {entry.data.decode()}".rstrip() for entry in ready.committed]
    return lines


@pytest.mark.parametrize("path", scripts(__file__), ids=lambda path: path.stem)
def test_script(path: Path, rewrite: bool) -> None:
    run_script(path, Script().handle, rewrite=rewrite)
