"""Elections: asking whether one would be elected, standing, and giving one's own vote (thesis 3.4, 9.6)."""

from durable_streams_cluster.ids import NodeId, Term
from durable_streams_cluster.raft import leader, quorum
from durable_streams_cluster.raft.messages import HardState, RequestVote, VoteReply
from durable_streams_cluster.raft.quorum import VoteResult
from durable_streams_cluster.raft.state import RaftState, Role


def ask_around(state: RaftState) -> None:
    """Ask whether an election would be won, before anybody's term changes (thesis 9.6).

    A node that was cut off would come back with a later term otherwise, and depose a leader that does well.
    """
    state.role = Role.PRE_CANDIDATE
    state.votes = {state.node: True}
    _wait(state)
    if state.alone:
        stand(state)
        return
    for peer in state.other_voters:
        state.send(peer, RequestVote(Term(state.term + 1), state.log.newest, pre=True))


def stand(state: RaftState, *, transfer: bool = False) -> None:
    """Stand for election in the next term; ``transfer``: because the leader said so."""
    state.hard_state = HardState(Term(state.term + 1), state.node)
    state.role = Role.CANDIDATE
    # Not even one's own: it counts once it is durable. A node that crashed between voting and writing could vote for
    # another in the same term, and there would be two leaders.
    state.votes = {}
    _wait(state)
    for peer in state.other_voters:
        state.send_durable(peer, RequestVote(state.term, state.log.newest, transfer=transfer))


def _wait(state: RaftState) -> None:
    state.elapsed = 0
    state.timeout = state.new_timeout()
    state.know_leader(None)


def vote_is_durable(state: RaftState) -> None:
    """The vote for oneself is durable."""
    state.votes[state.node] = True
    _count(state)


def on_vote_reply(state: RaftState, sender: NodeId, message: VoteReply) -> None:
    """Count an answer, each voter's once, and none to a question of another term."""
    if message.pre:
        if state.role is Role.PRE_CANDIDATE and message.asked == state.term + 1:
            state.votes[sender] = message.granted
            _count(state)
    elif state.role is Role.CANDIDATE and message.asked == state.term:
        state.votes[sender] = message.granted
        _count(state)


def _count(state: RaftState) -> None:
    match quorum.tally(state.votes, state.voters):
        case VoteResult.PENDING:
            pass
        case VoteResult.LOST:
            state.become_follower(state.term, None, "lost an election")
        case VoteResult.WON if state.role is Role.PRE_CANDIDATE:
            stand(state)
        case VoteResult.WON:
            leader.begin(state)


def on_request_vote(state: RaftState, sender: NodeId, message: RequestVote) -> None:
    """Vote, or say whether one would. The term is not below ours; a later one was taken, unless this only asks."""
    newest = state.log.newest
    up_to_date = (message.last.term, message.last.index) >= (newest.term, newest.index)
    if message.pre:
        granted = message.term > state.term and up_to_date and (message.transfer or not state.hears_leader)
        state.send(sender, VoteReply(state.term, message.term, granted, pre=True))
        return
    granted = up_to_date and (
        state.hard_state.vote == sender or (state.hard_state.vote is None and state.leader is None)
    )
    if granted:
        state.hard_state = HardState(state.term, sender)
        state.elapsed = 0
    state.send_durable(sender, VoteReply(state.term, message.term, granted))
