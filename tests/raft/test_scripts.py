"""A group of one, step by step. The disk is what was ``persisted``; a ``crash`` leaves that and what was applied."""

from pathlib import Path

import pytest

from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import Entry, EntryKind, HardState, Membership, RaftCore, Ready
from tests.datadriven import Command, run_script, scripts

NODE = NodeId("n1")


class Disk:
    """A ``LogReader`` that holds what reached the disk."""

    def __init__(self) -> None:
        self.entries: dict[Index, Entry] = {}
        self.hard_state = HardState()

    @property
    def first(self) -> Index:
        return min(self.entries, default=Index(1))

    @property
    def last(self) -> Index:
        return max(self.entries, default=Index(0))

    def entry(self, index: Index) -> Entry | None:
        return self.entries.get(index)

    def term(self, index: Index) -> Term | None:
        found = self.entries.get(index)
        return found.term if found is not None else None

    def take(self, ready: Ready) -> None:
        self.hard_state = ready.hard_state or self.hard_state
        self.entries |= {entry.index: entry for entry in ready.entries}


class Script:
    """Handles the commands: what the core is told, ``disk`` and ``state``."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.applied = Index(0)
        self.written: dict[int, Ready] = {}
        self.start()

    def start(self) -> None:
        self.core = RaftCore(GroupId(1), NODE, Membership((NODE,)), self.disk.hard_state, self.disk, self.applied)

    def handle(self, command: Command) -> str:
        output = str(getattr(self, f"do_{command.name}")(command) or "")
        self.core.log.check()
        return output

    def do_tick(self, _: Command) -> None:
        self.core.tick()

    def do_propose(self, command: Command) -> str:
        """``propose noop`` or ``propose DATA``."""
        data = command.word()
        kind = EntryKind.NOOP if data == "noop" else EntryKind.COMMANDS
        made = self.core.propose(kind, b"" if data == "noop" else data.encode(), 0, 0)
        return f"{made.term}/{made.index}"

    def do_ready(self, _: Command) -> str:
        ready = self.core.ready()
        if ready is None:
            return "nothing"
        lines = []
        if ready.hard_state is not None or ready.entries:
            self.written[ready.number] = ready
            lines.append(f"number {ready.number}")
        if ready.hard_state is not None:
            lines.append(f"store term={ready.hard_state.term} vote={ready.hard_state.vote}")
        lines += [f"store {entry.term}/{entry.index} {entry.data.decode()}".rstrip() for entry in ready.entries]
        lines += [f"apply {entry.term}/{entry.index} {entry.data.decode()}".rstrip() for entry in ready.committed]
        lines += [f"leads term={event.term}" for event in ready.events]
        return "\n".join(lines)

    def do_persisted(self, command: Command) -> None:
        number = int(command.word())
        for each in sorted(self.written):
            if each <= number:
                self.disk.take(self.written.pop(each))
        self.core.persisted(number)

    def do_apply(self, command: Command) -> None:
        self.applied = Index(int(command.word()))
        self.core.applied(self.applied)

    def do_crash(self, command: Command) -> None:
        """Writes under way are lost, or with ``after NUMBER`` reached the disk though nobody heard."""
        if command.flag("after"):
            number = int(command.word())
            for each in sorted(self.written):
                if each <= number:
                    self.disk.take(self.written[each])
        self.written.clear()
        self.start()

    def do_disk(self, _: Command) -> str:
        entries = " ".join(f"{entry.term}/{entry.index}" for entry in self.disk.entries.values())
        return f"term={self.disk.hard_state.term} vote={self.disk.hard_state.vote} log {entries or 'empty'}"

    def do_state(self, _: Command) -> str:
        log = self.core.log
        reads = "reads" if self.core.can_read else "no reads"
        marks = f"durable={log.durable} committed={log.committed} applied={log.applied}"
        return f"{self.core.role.value} term={self.core.term} last={log.last} {marks} {reads}"


@pytest.mark.parametrize("path", scripts(__file__), ids=lambda path: path.stem)
def test_script(path: Path, rewrite: bool) -> None:
    run_script(path, Script().handle, rewrite=rewrite)
