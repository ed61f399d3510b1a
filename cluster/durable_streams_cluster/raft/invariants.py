"""What must hold of a core from one step to the next, checked by tests and the simulator after each."""

from durable_streams_cluster.raft.progress import State
from durable_streams_cluster.raft.state import Role
from durable_streams_cluster.raft.status import Status


def check(before: Status, after: Status) -> None:
    """Assert what holds of one node that did not crash in between.

    1. The term never falls, and a vote given in a term is never taken back (thesis 3.3).
    2. What is committed and what is applied never falls, and applied <= committed <= last.
    3. A leader's log only grows in its term (thesis 3.5, leader append-only).
    4. A leader leads in its own name, and only a leader has followers.
    5. A follower is known to hold no more than the leader's log has.
    """
    old, new = before.hard_state, after.hard_state
    assert new.term >= old.term
    assert new.term > old.term or old.vote in (None, new.vote)
    assert after.committed >= before.committed
    assert after.applied >= before.applied
    assert after.applied <= after.committed <= after.last.index
    assert after.durable <= after.last.index
    leads = after.role is Role.LEADER
    if leads and before.role is Role.LEADER and new.term == old.term:
        assert after.last.index >= before.last.index
    assert not leads or after.last.term <= new.term
    assert not leads or (after.leader is not None and after.leader not in after.followers)
    assert bool(after.followers) <= leads
    assert after.transferee is None or after.transferee in after.followers
    for each in after.followers.values():
        assert each.match < each.next
        assert each.match <= after.last.index
        assert each.state is not State.REPLICATE or each.next <= after.last.index + 1
