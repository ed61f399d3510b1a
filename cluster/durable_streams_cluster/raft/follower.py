"""What a member does with the messages of a leader (thesis 3.5)."""

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.raft import candidate
from durable_streams_cluster.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Room,
    SnapshotMeta,
    grows,
)
from durable_streams_cluster.raft.ready import Truncated
from durable_streams_cluster.raft.state import RaftState, Role


def hear(state: RaftState, leader: NodeId) -> None:
    """``leader`` leads in this term."""
    assert state.role is not Role.LEADER, f"two leaders in term {state.term}: {state.node} and {leader}"
    if state.role is not Role.FOLLOWER:
        state.become_follower(state.term, leader, "")
    state.know_leader(leader)
    state.hear_leader()


def on_append(state: RaftState, sender: NodeId, message: AppendEntries) -> None:
    """Take entries, if there is room and the one before them is here; answer once they are durable."""
    hear(state, sender)
    if state.room is Room.NONE and any(map(grows, message.entries)):
        # What does not grow is taken: were a new leader's first entry refused by a majority, nobody could read, or
        # change who belongs, until disks have room again. And the rest is not "rejected": the leader would look
        # for an entry that is here, and send what is behind it again and again.
        state.send(sender, HeartbeatReply(state.term, 0, Room.NONE))
        return
    log = state.log
    if message.previous.index < log.committed:
        # Long ago: all that is committed is the leader's, too.
        if message.wants_answer:
            state.send_durable(sender, AppendReply(state.term, log.committed))
        return
    if not log.has(message.previous):
        assert message.previous.index > log.committed, f"{sender} has another entry {message.previous.index}"
        hint = log.conflict_hint(message.previous)
        state.send_durable(sender, AppendReply(state.term, message.previous.index, rejected=True, hint=hint))
        return
    cut = log.merge(message.entries)
    if cut is not None:
        state.events.append(Truncated(cut))
        state.forget_memberships(cut)
    state.note_memberships(message.entries)
    # Not up to the end of the log: what is behind the message may be another leader's, and was not verified.
    verified = Index(message.previous.index + len(message.entries))
    log.commit_to(min(message.commit, verified))
    if message.wants_answer:
        state.send_durable(sender, AppendReply(state.term, verified))


def on_heartbeat(state: RaftState, sender: NodeId, message: Heartbeat) -> None:
    """Note that the leader is there, and how far it knows this log to be committed."""
    hear(state, sender)
    assert message.commit <= state.log.last, (
        f"this node acknowledged log entry {message.commit} and has {state.log.last}: its disk was replaced"
    )
    state.log.commit_to(message.commit)
    state.cluster_ms = max(state.cluster_ms, message.cluster_ms)
    state.send(sender, HeartbeatReply(state.term, message.round, state.room))


def on_snapshot(state: RaftState, sender: NodeId, message: InstallSnapshot) -> SnapshotMeta | None:
    """Take a snapshot, unless what it brings is here; None when it is not taken."""
    hear(state, sender)
    log, last = state.log, message.meta.last
    taken = None
    if last.index > log.committed:
        if log.has(last):
            log.commit_to(last.index)
        else:
            log.restore(last)
            state.restore_membership(message.meta.membership)
            taken = message.meta
    state.send_durable(sender, AppendReply(state.term, log.committed))
    return taken


def on_timeout_now(state: RaftState, sender: NodeId) -> None:
    """Stand at once: the leader asks for it (thesis 3.10). Who is not the leader, or not any more, is ignored."""
    if state.role is Role.FOLLOWER and state.leader == sender and state.may_stand:
        candidate.stand(state, transfer=True)
