"""What a leader does: replicate, commit, count its quorum, hand over (thesis 3.5, 3.6, 3.10, 6.2, 10.2.1)."""

from itertools import takewhile

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.raft import quorum
from durable_streams_cluster.raft.messages import (
    SCANT_BYTES,
    AppendEntries,
    AppendReply,
    EntryId,
    Heartbeat,
    HeartbeatReply,
    Room,
    TimeoutNow,
    grows,
)
from durable_streams_cluster.raft.progress import Progress, State
from durable_streams_cluster.raft.ready import BecameLeader, SnapshotNeeded
from durable_streams_cluster.raft.state import RaftState, Role


def begin(state: RaftState) -> None:
    """Lead: nothing is known of the others' logs yet."""
    state.role = Role.LEADER
    state.elapsed = state.heartbeat_elapsed = 0
    state.transferee = None
    state.first_of_term = Index(state.log.last + 1)
    know_members(state)
    state.know_leader(state.node)
    state.events.append(BecameLeader(state.node, state.term))
    send_heartbeats(state)


def know_members(state: RaftState) -> None:
    """Send to who is a member, and to nobody else; what a former member acknowledges counts no more."""
    settings = state.settings
    known = state.progress
    state.progress = {
        peer: known.get(peer) or Progress(Index(state.log.last + 1), settings.window_messages, settings.window_bytes)
        for peer in state.peers
    }


def tick(state: RaftState) -> None:
    """Time passed."""
    state.elapsed += 1
    state.heartbeat_elapsed += 1
    state.transfer_elapsed += 1
    for progress in state.progress.values():
        progress.tick(retries=state.elapsed % state.settings.heartbeat_ticks == 0)
    if state.transfer_elapsed >= state.settings.election_ticks:
        state.transferee = None  # It took too long: this node goes on.
    if state.elapsed >= state.settings.election_ticks:
        state.elapsed = 0
        if not _count_quorum(state):
            state.become_follower(state.term, None, "a majority was not heard from for an election timeout")
            return
    if state.heartbeat_elapsed >= state.settings.heartbeat_ticks:
        send_heartbeats(state)


def _count_quorum(state: RaftState) -> bool:
    """Whether a majority was heard from since the last count (thesis 6.2)."""
    heard = [state.node, *(peer for peer, progress in state.progress.items() if progress.active)]
    for progress in state.progress.values():
        progress.active, progress.was_active = False, progress.active
    return quorum.is_majority(heard, state.voters)


def send_heartbeats(state: RaftState) -> None:
    """To all, with the newest round of reads."""
    state.heartbeat_elapsed = 0
    durable = state.log.durable if state.log.durable >= state.first_of_term else Index(0)
    for peer, progress in state.progress.items():
        # No more than it is known to have: it could not tell otherwise whether that is its own.
        commit = min(progress.match, state.log.committed)
        state.send(peer, Heartbeat(state.term, commit, state.reads.round, state.cluster_ms, durable))


def begin_reads(state: RaftState) -> None:
    """Begin a round for the reads that wait, once this leader knows what is committed (thesis 6.4, step 1)."""
    if state.log.committed >= state.first_of_term and state.reads.begin(state.log.committed):
        send_heartbeats(state)


def send_entries(state: RaftState) -> None:
    """Send each follower what it lacks, as far as its window lets; news of the commit index if nothing else."""
    for peer, progress in state.progress.items():
        while (not progress.paused or progress.nudge) and _send_some(state, peer, progress):
            pass


def lacks_room(state: RaftState) -> bool:
    """Whether this node leads a majority of voters, and without those whose disks are almost full it is none.

    What they are sent yet leaves no room for deletes; and once they take nothing, nothing commits.
    """
    for each in state.progress.values():  # Each append asks: hardly ever is there more to look at.
        if each.room >= Room.LOW:
            break
    else:
        return False
    heard = [peer for peer, each in state.progress.items() if each.active or each.was_active]
    roomy = [peer for peer in heard if state.progress[peer].room < Room.LOW]
    count = quorum.is_majority
    return count([state.node, *heard], state.voters) and not count([state.node, *roomy], state.voters)


def _send_scant(state: RaftState, peer: NodeId, progress: Progress) -> bool:
    """Send a follower without room what does not grow; and a little more while nothing is let in that only grows.

    Then it is a majority that has no room, and deletes are what makes some. Otherwise the others commit, and what is
    left of its disk is kept.
    """
    log = state.log
    previous = Index(progress.next - 1)
    term = log.term_at(previous)
    found = log.entries(progress.next, SCANT_BYTES) or []
    if found and grows(found[0]) and (len(found[0].data) > SCANT_BYTES or not lacks_room(state)):
        found = []
    # One kind or the other: it may have no room even for the little.
    entries = list(takewhile(lambda each: grows(each) == grows(found[0]), found))
    if term is None or not entries:
        progress.wait()
        return False
    state.send(peer, AppendEntries(state.term, EntryId(term, previous), tuple(entries), log.committed))
    progress.sent(entries[-1].index, sum(len(each.data) for each in entries), log.committed)
    return False


def _send_some(state: RaftState, peer: NodeId, progress: Progress) -> bool:
    """Send one message; whether there may be more to send in this turn."""
    if progress.room is Room.NONE:
        return _send_scant(state, peer, progress)
    log = state.log
    previous = Index(progress.next - 1)
    term = log.term_at(previous)
    entries = [] if progress.paused else log.entries(progress.next, state.settings.message_bytes)
    if term is None or entries is None:
        progress.wait_for_snapshot()
        state.events.append(SnapshotNeeded(peer))
        return False
    told = progress.commit_sent >= min(log.committed, progress.next - 1)
    if not entries and told and progress.state is State.REPLICATE and not progress.nudge:
        return False
    size = sum(len(entry.data) for entry in entries)
    if progress.must_wait_alone(size):
        return False
    wants_answer = bool(entries) or progress.state is not State.REPLICATE or progress.nudge
    message = AppendEntries(state.term, EntryId(term, previous), tuple(entries), log.committed, wants_answer)
    state.send(peer, message)
    progress.sent(entries[-1].index if entries else previous, size, log.committed)
    # What must be read from disk takes a moment, and others wait for the turn to end: one message of it at a time.
    return bool(entries) and log.remembers(progress.next)


def on_append_reply(state: RaftState, sender: NodeId, message: AppendReply) -> None:
    """Move what is known of a follower, and with it what is committed."""
    progress = state.progress.get(sender)
    if progress is None:
        return  # Not a member: what it holds never counts.
    progress.active, progress.quiet_ticks = True, 0
    if message.rejected:
        progress.rejected(message.match, state.log.common(message.hint))
        return
    assert message.match <= state.log.last, f"{sender} acknowledged {message.match} of {state.log.last} entries"
    if progress.acked(message.match):
        if progress.state is State.SNAPSHOT and state.log.reaches(progress.match):
            progress.go_on()
        advance_commit(state)
    if state.transferee == sender:
        _hand_over_if_ready(state)


def on_heartbeat_reply(state: RaftState, sender: NodeId, message: HeartbeatReply) -> None:
    """The follower knows of no later term; what was lost on the way to it is sent again."""
    progress = state.progress.get(sender)
    if progress is None:
        return
    progress.heard(state.log.newest, message.room)
    state.reads.heard(sender, message.round)
    if state.transferee == sender:
        _hand_over_if_ready(state)  # Again: the word may have been lost.


def advance_commit(state: RaftState) -> None:
    """Commit what a majority holds durably.

    Only an entry of the own term commits by counting (thesis 3.6.2, figure 3.7): one of an older term may be on a
    majority and still be replaced by a leader that has a later one. Older entries commit with it. A leader counts
    itself only for what its own disk holds.
    """
    match = {peer: progress.match for peer, progress in state.progress.items()}
    index = quorum.committed_index(match | {state.node: state.log.durable}, state.voters)
    if index > state.log.committed and state.log.term_at(index) == state.term:
        state.log.commit_to(index)
        if state.node not in state.voters and index >= state.memberships.newest_index:
            # Not before: until then the former members may be the majority (thesis 4.2.2).
            resign(state, "this node was removed")


def transfer(state: RaftState, target: NodeId) -> None:
    """Hand over to ``target`` once it has the whole log; nothing is proposed meanwhile. Given up after a timeout."""
    assert state.role is Role.LEADER
    assert target in state.progress
    assert target in state.voters, "a learner does not stand"
    state.transferee = target
    state.transfer_elapsed = 0
    _hand_over_if_ready(state)


def _hand_over_if_ready(state: RaftState) -> None:
    target = state.transferee
    assert target is not None
    if state.progress[target].match == state.log.last:
        state.send(target, TimeoutNow(state.term))


def resign(state: RaftState, reason: str) -> None:
    """Stop leading at once; the follower that has most is told to stand."""
    best = max(state.other_voters, key=lambda peer: (state.progress[peer].active, state.progress[peer].match))
    state.send(best, TimeoutNow(state.term))
    state.become_follower(state.term, None, reason)
