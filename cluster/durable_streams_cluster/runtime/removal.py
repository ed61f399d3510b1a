"""What a node does that was removed from its cluster (``admin remove``, or replaced under its name): it steps aside.

It is told of no leader any more, and can do nothing for anybody. So whoever asks it for something is sent elsewhere at
once, and its end waits for nobody. Its process goes on and its data is kept: to end the one and to empty the other is
for whoever runs it.

That is final: a removal that is committed is not taken back, and no directory comes back (``raft.membership``). It is
known from the node's own log, where the removal is applied, or from a peer, which says so only of one that it applied.
"""

import logging
from collections.abc import Callable

from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.replica.group import Group
from durable_streams_cluster.replica.members import MembershipApplied
from durable_streams_cluster.runtime.admission import Admission

log = logging.getLogger(__name__)

STEPS_ASIDE = "this node was removed from its cluster, and stores and shows nothing more: ask another one"
"""What clients are told; certainly nothing was stored."""
_EVER_MS = 1 << 63
"""Everybody has waited since before."""


class Removal:
    """Of one group's replica here."""

    def __init__(self, group: Group, admission: Admission, go_on: Callable[[], None]) -> None:
        """``admission`` answers those who wait; ``go_on`` lets the group take a turn."""
        self._group = group
        self._admission = admission
        self._go_on = go_on
        self._said_by = ""
        self._ending = False
        self.data_dir = "its data directory"
        """Where that is."""

    @property
    def known(self) -> bool:
        """Whether this node was removed, and knows it."""
        return bool(self._said_by)

    @property
    def text(self) -> str:
        """For whoever runs the node: what happened and what to do. Empty as long as nothing is known of it."""
        if not self.known:
            return ""
        return (
            f"removed from the cluster, as {self._said_by} says; its data is kept. Next step: stop this node; to let "
            f"it join again, empty {self.data_dir} and start it with --join"
        )

    def refuse(self) -> None:
        """Raise Unavailable if this node was removed."""
        if self.known:
            raise Unavailable(STEPS_ASIDE)

    def look(self) -> None:
        """See at the start whether the removal was applied before."""
        self._read(self._group.core.applied_membership.removed)

    def watch(self, event: object) -> None:
        """Something happened."""
        if isinstance(event, MembershipApplied):
            self._read(event.membership.removed)

    def told(self, by: str) -> None:
        """It is so, as ``by`` says: a peer, or this node's own log. Told again, nothing more is done."""
        if self.known:
            return
        self._said_by = by
        log.warning("this node was %s", self.text)
        self._let_go()

    def end(self) -> None:
        """The node is about to end: what nobody will ever tell it, it waits for no longer."""
        self._ending = True
        self._let_go()

    def _read(self, removed: tuple[int, ...]) -> None:
        if self._group.place.directory in removed:
            self.told("its own log")

    def _let_go(self) -> None:
        """Answer the reads that wait, and the writes that no leader was given.

        The others may be in a log: they are answered when their time is up, or at the end, as not known. Until then an
        answer may be on its way that the leader sent before.
        """
        if self.known:
            self._admission.give_up(*self._group.give_up(_EVER_MS, given=self._ending), STEPS_ASIDE)
            self._go_on()
