"""Who speaks: what both ends of a stream between nodes say of themselves, and when it is believed.

The one rule that is not here is whether an incarnation is the right one: ``Accept`` decides, at both ends. Addresses
are reused (a pod's, within seconds), names are configured twice, disks are wiped or copied: none may get a word in.
"""

import re
from collections.abc import Callable, Collection, Iterable
from enum import Enum

import msgspec

from durable_streams_cluster.ids import NodeId

Metadata = tuple[tuple[str, str], ...]

CLUSTER, NODE, INCARNATION, TARGET = "ds-cluster", "ds-node", "ds-incarnation", "ds-target"
# What strangers say gets into logs: names are short and printable.
_CLUSTER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")


class Identity(msgspec.Struct, frozen=True):
    """A replica: a name, and the number that an empty data directory is given for life (DESIGN.md §3, Identity)."""

    cluster_id: str
    node: NodeId
    incarnation: int


Accept = Callable[[Identity], str | None]
"""Why a peer is not to be spoken with, in a few words; None when it may. Asked once for each stream."""


class Reason(Enum):
    """Why a stream was refused; a label of the metric, and the first word of the status."""

    MALFORMED = "malformed"
    CLUSTER = "cluster"
    TARGET = "target"
    ITSELF = "itself"
    UNKNOWN = "unknown"
    INCARNATION = "incarnation"


class Refused(Exception):
    """The other end is not who it has to be. The text is for people, at both ends."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason.value}: {text}")
        self.reason = reason


class FirstIncarnation:
    """An ``Accept`` for those who keep no record: whoever comes first under a name has it until the process ends."""

    def __init__(self) -> None:
        self._known: dict[NodeId, int] = {}

    def __call__(self, identity: Identity) -> str | None:
        """See ``Accept``."""
        known = self._known.setdefault(identity.node, identity.incarnation)
        if known != identity.incarnation:
            return f"{identity.node} was incarnation {known}, and comes as {identity.incarnation}"
        return None


def introduce(identity: Identity, target: NodeId | None = None) -> Metadata:
    """Write metadata: who this is and, of a dialer, whom it means to reach."""
    said = (CLUSTER, identity.cluster_id), (NODE, identity.node), (INCARNATION, str(identity.incarnation))
    return said if target is None else (*said, (TARGET, target))


def judge_dialer(
    own: Identity, known: Collection[NodeId], accept: Accept, said: Iterable[tuple[str, object]]
) -> Identity:
    """Return who dials us. Raises Refused."""
    fields = _fields(said)
    peer = _identity(fields)
    if peer.cluster_id != own.cluster_id:
        raise Refused(Reason.CLUSTER, f"this is a node of cluster {own.cluster_id}")
    if fields.get(TARGET) != own.node:
        raise Refused(Reason.TARGET, f"this is {own.node}")
    if peer.node == own.node:
        raise Refused(Reason.ITSELF, f"{own.node} is the name of this node")
    if peer.node not in known:
        raise Refused(Reason.UNKNOWN, f"no node of this cluster is named {peer.node}")
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
    if not (_CLUSTER_ID.fullmatch(cluster_id) and _NODE.fullmatch(node) and _NUMBER.fullmatch(incarnation)):
        raise Refused(Reason.MALFORMED, "the metadata names no replica")
    return Identity(cluster_id, NodeId(node), int(incarnation))


def _accepted(peer: Identity, accept: Accept) -> Identity:
    objection = accept(peer)
    if objection is not None:
        raise Refused(Reason.INCARNATION, objection)
    return peer
