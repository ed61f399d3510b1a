"""A cluster that lost its quorum for good goes on from one directory (unsafe recovery; DESIGN: Offsets, Identity).

What the other members had beyond that directory is lost, acknowledged or not. So the directory becomes another cluster,
of one node, with another id: whoever of the old one comes back is refused. And it is cut where its state was known to
be committed. What its log has behind is kept, and applied behind the cut; but the old cluster may have had other
entries in that place, so every offset from there on is of a new era.

Counter-example without the cut: n1 leads, stores an append that ends at 1_150, and is cut off from n2 and n3 before
they have it. They elect n2, take another append of the same length, and answer 1_150. Their disks are lost. If n1 now
took its own append for committed in the same era, 1_150 would be the end of other bytes than a client was told.
"""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from durable_streams_cluster.errors import CorruptData, FromNewerBuild
from durable_streams_cluster.ids import GroupId, Index, NodeId, Term
from durable_streams_cluster.raft import FEATURE_LEVEL, Entry, EntryId, EntryKind, HardState, Member, Membership
from durable_streams_cluster.raft.membership import REMEMBERED, decode
from durable_streams_cluster.raft.messages import entry_crc
from durable_streams_cluster.raft.quorum import is_majority
from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.codecs import AppliedState
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch
from durable_streams_cluster.storage.raft_log import RaftLogStore
from durable_streams_cluster.storage.stream_store import StreamStore
from durable_streams_cluster.streams.eras import after_loss

# ------------------------------------------------------------------------------------------------ what is there


class Held(msgspec.Struct, frozen=True):
    """What a sound store holds of a group."""

    term: Term
    """Of the hard state."""
    last: EntryId
    """The newest entry of the log."""
    applied: EntryId
    """The newest that is in the state: it is known to be committed."""
    membership: Membership
    """In force here."""


class Found(msgspec.Struct, frozen=True):
    """A data directory, as it was found."""

    directory: str
    node: NodeId = NodeId("")
    """Empty: that cannot be told."""
    incarnation: int = 0
    cluster: str = ""
    """Empty: of none, or that cannot be told."""
    held: Held | None = None
    """None: it is damaged, or was never used."""
    damage: str = ""
    """Why nothing of it can be used."""


def read_log(kv: KvView, group: GroupId, first: Membership) -> Held:
    """Read the whole log, so that damage anywhere in it is met, and tell what there is.

    Args:
        kv: The store.
        group: The one to tell of.
        first: Who belonged to it before its log said anything.

    Raises:
        CorruptData: something is damaged or missing.
        FromNewerBuild: the log has what this build does not know.

    """
    log, store = RaftLogStore(kv, group), StreamStore(kv, group)
    applied = EntryId(Term(store.applied.term), Index(store.applied.index))
    membership, last, expected = store.membership() or first, applied, log.first
    for entry in _entries(kv, group, Index(0)):
        if entry.index != expected or (entry.index > last.index + 1 and entry.index > applied.index):
            raise CorruptData(f"the log of group {group} has entry {entry.index} where entry {expected} belongs")
        if entry.feature_level > FEATURE_LEVEL:
            raise FromNewerBuild(
                f"log entry {entry.index} needs feature level {entry.feature_level}, this build knows {FEATURE_LEVEL}: "
                "use the build that wrote it"
            )
        expected = Index(expected + 1)
        if entry.index > applied.index:
            last = EntryId(entry.term, entry.index)
            if entry.kind is EntryKind.MEMBERSHIP:
                membership = _membership_in(entry)
    return Held(log.hard_state().term, last, applied, membership)


def _membership_in(entry: Entry) -> Membership:
    try:
        return decode(entry.data)
    except ValueError as error:
        raise CorruptData(f"the membership in log entry {entry.index} cannot be read: {error}") from error


def read_data(kv: KvView) -> None:
    """Read all streams; raises CorruptData for what is damaged."""
    for _ in kv.scan(Family.DATA, b"", b"\xff"):
        pass


def _entries(kv: KvView, group: GroupId, after: Index) -> Iterator[Entry]:
    for key, value in kv.scan(Family.LOG, keys.entry(group, after + 1), keys.entry(group, keys.MAX_U64)):
        yield codecs.decode_entry(group, keys.entry_index(key), value)


# ------------------------------------------------------------------------------------------------ which one goes on


class Choice(msgspec.Struct, frozen=True):
    """What may be done with the directories that were found. Texts are for people."""

    source: Found | None
    """The one to go on from; None: none, and ``refusal`` says why."""
    refusal: str = ""
    lost: tuple[str, ...] = ()
    """What may be lost, and what is not."""


def choose(found: Sequence[Found], wanted: str | None = None) -> Choice:
    """Choose the directory that has most: the highest (term, index) of its last entry. ``wanted``: or this one."""
    sound = [each for each in found if each.held is not None]
    if refusal := _mixed(found) or _unusable(found, sound):
        return Choice(None, refusal)
    best = max(sound, key=_has)
    assert best.held is not None
    voters = best.held.membership.voters
    there = [each.node for each in sound if _is_voter(each, best.held.membership)]
    if is_majority(there, voters):
        return Choice(
            None,
            f"{_listed(there)} {_are(there)} sound, and a majority of the voters ({_listed(voters)}): nothing is lost. "
            "Next step: start these nodes; a damaged one gets everything from them by itself, and one that is gone "
            "is replaced by an empty one, started under its name with --join",
        )
    if best.held.last.index == 0:
        return Choice(None, "the sound directories hold nothing: there is nothing to go on from")
    source = best if wanted is None else next((each for each in found if each.directory == wanted), None)
    if source is None:
        return Choice(None, f"--from {wanted} is none of the directories given")
    if source.held is None:
        return Choice(None, f"{source.directory} is damaged, and nothing goes on from it: {source.damage}")
    return Choice(source, "", tuple(_may_be_lost(source, source.held, best, found, there)))


def _has(found: Found) -> tuple[int, int]:
    """How much is there: of two logs, the later term has all that was ever committed before it (thesis 3.6.1)."""
    assert found.held is not None
    return found.held.last.term, found.held.last.index


def _is_voter(found: Found, membership: Membership) -> bool:
    member = membership.member(found.node)
    return member is not None and member.voter and member.incarnation in (0, found.incarnation)


def _mixed(found: Sequence[Found]) -> str:
    """Why these directories are not to be compared, if so."""
    clusters = {each.cluster: each for each in found if each.cluster}
    if len(clusters) > 1:
        told = ", ".join(f"{each.directory} is of {name}" for name, each in sorted(clusters.items()))
        return f"the directories are of different clusters: {told}. Next step: give those of one cluster only"
    known: dict[int, Found] = {}
    for each in found:
        if each.incarnation and (other := known.setdefault(each.incarnation, each)) is not each:
            return f"{other.directory} and {each.directory} are copies of one directory. Next step: give one of them"
    return ""


def _unusable(found: Sequence[Found], sound: Sequence[Found]) -> str:
    for each in found:
        if not each.cluster and not each.damage:
            return f"{each.directory} is of no cluster. Next step: leave it out"
    if not sound:
        return (
            "no directory is sound: nothing can be recovered from them, and nothing was changed. Next step: keep them, "
            "and put back a copy of one from before the damage"
        )
    return ""


def _may_be_lost(
    source: Found, held: Held, best: Found, found: Sequence[Found], there: Sequence[NodeId]
) -> Iterator[str]:
    missing = [node for node in held.membership.voters if node not in there]
    yield (
        f"{_listed(missing)} may have stored and acknowledged more than entry {held.last.index} of term "
        f"{held.last.term}, the last in {source.directory}: if so, it is lost for good"
    )
    unseen = [node for node in missing if not any(each.node == node for each in found)]
    if unseen:
        yield f"no directory of {_listed(unseen)} was given: if one is left, give it too, for it may hold more"
    if best.held is not None and _has(best) > _has(source):
        yield (
            f"{best.directory} holds more (entry {best.held.last.index} of term {best.held.last.term}), and is not "
            "chosen: what only it has is lost"
        )
    if held.last.index > held.applied.index:
        yield (
            f"entries {held.applied.index + 1} to {held.last.index} are not known to have been acknowledged: they are "
            "kept, and what they append gets other offsets than the clients may have been told"
        )
    yield (
        "an offset that a client has of what is lost is answered 410; streams that were created, deleted or closed "
        "in it are as they were before"
    )


def _listed(nodes: Sequence[str]) -> str:
    return ", ".join(nodes[:-1]) + (" and " if len(nodes) > 1 else "") + nodes[-1] if nodes else "nobody"


def _are(nodes: Sequence[str]) -> str:
    return "is" if len(nodes) == 1 else "are"


# ------------------------------------------------------------------------------------------------ going on


def go_on(kv: KvView, group: GroupId, held: Held, member: Member, drawn: int) -> WriteBatch:
    """What makes a store that of a cluster of one, in a single batch.

    The state as of the last applied entry is what a snapshot would have brought: nobody is ever sent an older entry,
    for those are gone, and with the state everybody gets the floor for generations.

    Args:
        kv: The store.
        group: The only one.
        held: What the store holds.
        member: This node under its new incarnation: the whole membership.
        drawn: See ``eras.after_loss``.

    Raises:
        CorruptData: an entry is damaged.
        ValueError: see ``eras.after_loss``.

    """
    batch = WriteBatch()
    applied = StreamStore(kv, group).applied
    for entry in _entries(kv, group, held.applied.index):
        if entry.kind is EntryKind.COMMANDS:
            continue
        if entry.index == applied.index + 1:
            # It changes nothing in the state. So the first entry of all is behind the cut, whatever was applied.
            applied = replace(applied, index=entry.index, term=entry.term, cluster_ms=entry.cluster_ms)
        elif entry.kind is EntryKind.MEMBERSHIP:
            batch.put(Family.LOG, keys.entry(group, entry.index), codecs.encode_entry(_emptied(group, entry)))
    batch.delete_range(Family.LOG, keys.entry(group, 0), keys.entry(group, applied.index + 1))
    gate = _gate(group, applied, next(_entries(kv, group, Index(applied.index)), None))
    batch.put(Family.LOG, keys.entry(group, gate.index), codecs.encode_entry(gate))
    applied = AppliedState(applied.index, applied.term, applied.cluster_ms, after_loss(applied.group, drawn))
    former = held.membership
    gone = (*former.removed, *(each.incarnation for each in former.members if each.incarnation))
    membership = Membership((member,), gone[-REMEMBERED:])
    batch.put(Family.DATA, keys.group_state(group), codecs.encode_applied(applied))
    batch.put(Family.DATA, keys.membership(group), codecs.encode_membership(membership))
    hard_state = HardState(Term(max(held.term, held.last.term) + 1))
    batch.put(Family.LOG, keys.hard_state(group), codecs.encode_hard_state(hard_state))
    return batch


def _emptied(group: GroupId, entry: Entry) -> Entry:
    """An entry that does nothing, in the place of one with a membership of the old cluster."""
    return _sealed(group, replace(entry, kind=EntryKind.NOOP, feature_level=FEATURE_LEVEL, data=b""))


def _gate(group: GroupId, applied: AppliedState, behind: Entry | None) -> Entry:
    """The first entry behind the cut (``behind``: the one there is), which a build without the floor does not apply.

    It would read the state, and store it without the floor again.
    """
    if behind is None:
        at = Term(applied.term), Index(applied.index + 1)
        behind = Entry(*at, EntryKind.NOOP, FEATURE_LEVEL, applied.cluster_ms, 0, b"")
    return _sealed(group, replace(behind, feature_level=FEATURE_LEVEL))


def _sealed(group: GroupId, entry: Entry) -> Entry:
    return replace(entry, crc=entry_crc(group, entry))
