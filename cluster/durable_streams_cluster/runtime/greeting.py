"""Who speaks: what both ends of a stream between nodes say of themselves, and when it is believed.

What is not here is whether an incarnation is the right one, and whether it has forgotten something: ``Accept`` decides,
at both ends. Addresses are reused (a pod's, within seconds), names are configured twice, disks are wiped, copied and
put back: none may get a word in.
"""

import re
from collections.abc import Callable, Iterable
from enum import Enum

import msgspec

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import Begun, EntryId
from durable_streams_cluster.settings import parse_address

Metadata = tuple[tuple[str, str], ...]

CLUSTER, NODE, INCARNATION, TARGET, ADDRESS = "ds-cluster", "ds-node", "ds-incarnation", "ds-target", "ds-address"
LIFE, CLIENTS = "ds-life", "ds-clients"
# What strangers say gets into logs: names are short and printable.
_CLUSTER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")


class Identity(msgspec.Struct, frozen=True):
    """A replica: a name, and the number that an empty data directory is given for life (DESIGN.md §3, Identity)."""

    cluster_id: str
    node: NodeId
    incarnation: int
    address: str = ""
    """Where its peer listener is, as it says: ``HOST:PORT``. Empty: it does not say."""
    begun: Begun | None = None
    """With what its process began. None: it takes no part in anything that could be forgotten."""
    clients: str = ""
    """Where its listener for clients is, as it says: ``HOST:PORT``. Empty: it does not say."""


class Reason(Enum):
    """Why a stream was refused; a label of the metric, and the first word of the status."""

    MALFORMED = "malformed"
    CLUSTER = "cluster"
    TARGET = "target"
    ITSELF = "itself"
    INCARNATION = "incarnation"
    IMAGE = "old-image"
    """Whoever is told this has to act on it: its data directory must not be used any more."""
    REMOVED = "removed"
    """So has whoever is told this: it belongs to the cluster no more, and that is committed."""


class Refused(Exception):
    """The other end is not who it has to be. The text is for people, at both ends."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason.value}: {text}")
        self.reason = reason


Accept = Callable[[Identity], Refused | None]
"""Why a peer is not to be spoken with; None when it may. Asked for each stream, before anything is taken from it."""


def reason_in(details: str) -> tuple[Reason | None, str]:
    """Why a peer refused a stream, and in which words, from the ``details`` of its status; None: a reason not known."""
    word, _, text = details.partition(": ")
    return next((each for each in Reason if each.value == word), None), text


class FirstIncarnation:
    """An ``Accept`` for those who keep no record: whoever comes first under a name has it until the process ends."""

    def __init__(self) -> None:
        self._known: dict[NodeId, int] = {}

    def __call__(self, identity: Identity) -> Refused | None:
        """See ``Accept``."""
        known = self._known.setdefault(identity.node, identity.incarnation)
        if known != identity.incarnation:
            text = f"{identity.node} was incarnation {known}, and comes as {identity.incarnation}"
            return Refused(Reason.INCARNATION, text)
        return None


def introduce(identity: Identity, target: NodeId | None = None) -> Metadata:
    """Write metadata: who this is and, of a dialer, whom it means to reach."""
    said: Metadata = (CLUSTER, identity.cluster_id), (NODE, identity.node), (INCARNATION, str(identity.incarnation))
    if identity.address:
        said = (*said, (ADDRESS, identity.address))
    if identity.clients:
        said = (*said, (CLIENTS, identity.clients))
    if (begun := identity.begun) is not None:
        said = (*said, (LIFE, f"{begun.life} {begun.term} {begun.last.term} {begun.last.index}"))
    return said if target is None else (*said, (TARGET, target))


def judge_dialer(own: Identity, accept: Accept, said: Iterable[tuple[str, object]]) -> Identity:
    """Return who dials us; perhaps a member that this node has not heard of yet. Raises Refused."""
    fields = _fields(said)
    peer = _identity(fields)
    if not own.cluster_id:
        raise Refused(Reason.CLUSTER, "this is a node of no cluster yet")
    if peer.cluster_id != own.cluster_id:
        raise Refused(Reason.CLUSTER, f"this is a node of cluster {own.cluster_id}")
    if fields.get(TARGET) != own.node:
        raise Refused(Reason.TARGET, f"this is {own.node}")
    if peer.node == own.node:
        raise Refused(Reason.ITSELF, f"{own.node} is the name of this node")
    return _accepted(peer, accept)


def judge_listener(own: Identity, target: NodeId, accept: Accept, said: Iterable[tuple[str, object]]) -> Identity:
    """Return who answered us. Raises Refused."""
    peer = _identity(_fields(said))
    if peer.cluster_id != own.cluster_id:
        raise Refused(Reason.CLUSTER, f"a node of cluster {peer.cluster_id} answers")
    if peer.node != target:
        raise Refused(Reason.TARGET, f"{peer.node} answers")
    return _accepted(peer, accept)


def introduces_itself(said: Iterable[tuple[str, object]]) -> bool:
    """Whether there is a word of who speaks: an answer without one is no greeting, but the end of the stream."""
    return any(key == CLUSTER for key, _ in said)


def _fields(said: Iterable[tuple[str, object]]) -> dict[str, str]:
    return {key: value for key, value in said if isinstance(value, str)}


def _identity(fields: dict[str, str]) -> Identity:
    cluster_id, node, incarnation = (fields.get(key, "") for key in (CLUSTER, NODE, INCARNATION))
    if not (is_cluster(cluster_id) and is_node(node) and _NUMBER.fullmatch(incarnation)):
        raise Refused(Reason.MALFORMED, "the metadata names no replica")
    address, clients = (_address(fields.get(key, "")) for key in (ADDRESS, CLIENTS))
    return Identity(cluster_id, NodeId(node), int(incarnation), address, _begun(fields), clients)


def _address(text: str) -> str:
    try:
        return str(parse_address(text)) if text else ""
    except ValueError as error:
        raise Refused(Reason.MALFORMED, "the metadata names no address") from error


def _begun(fields: dict[str, str]) -> Begun | None:
    if LIFE not in fields:
        return None
    numbers = fields[LIFE].split(" ")
    if len(numbers) != 4 or not all(_NUMBER.fullmatch(each) for each in numbers):
        raise Refused(Reason.MALFORMED, "the metadata does not say with what the node began")
    life, term, last_term, last = map(int, numbers)
    return Begun(life, Term(term), EntryId(Term(last_term), Index(last)))


def is_cluster(name: str) -> bool:
    """Whether a cluster can have this name."""
    return _CLUSTER_ID.fullmatch(name) is not None


def is_node(name: str) -> bool:
    """Whether a node can have this name."""
    return _NODE.fullmatch(name) is not None


def _accepted(peer: Identity, accept: Accept) -> Identity:
    refusal = accept(peer)
    if refusal is not None:
        raise refusal
    return peer
