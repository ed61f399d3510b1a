"""What operators ask of a node: how the cluster is, and that it changes."""

from msgspec.structs import replace

from durable_streams_cluster.errors import Unavailable
from durable_streams_cluster.replica.bootstrap import Said
from durable_streams_cluster.runtime.belonging import Belonging
from durable_streams_cluster.runtime.introductions import members_from_wire, wish_from_wire
from durable_streams_cluster.runtime.reports import Reports
from durable_streams_proto.v1.admin_pb2 import StatusReply
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest


class Operating:
    """Answers from before the node is of a cluster until it ends (``grpc_admin.Operations``)."""

    def __init__(
        self, belonging: Belonging | None, alone: str = "this node keeps nothing on disk (--in-memory), and stays alone"
    ) -> None:
        """``belonging``: None of a node that stays alone, and says so in these words."""
        self._belonging = belonging
        self._alone = alone
        self._reports: Reports | None = None

    def attach(self, reports: Reports) -> None:
        """The node is of a cluster."""
        self._reports = reports

    async def status(self, *, members_only: bool) -> StatusReply:
        """See ``grpc_admin.Operations``."""
        if self._reports is None:
            raise Unavailable(self._waits_for)
        return await self._reports.gather(members_only=members_only)

    async def change(self, request: ChangeRequest) -> ChangeReply:
        """See ``grpc_admin.Operations``."""
        belonging = self._belonging
        if belonging is None:
            return _refused(self._alone)
        if self._reports is None:
            return ChangeReply(result=ChangeReply.NO_LEADER, text=self._waits_for)
        if request.WhichOneof("wish") == "join" and not request.join.incarnation:
            return await self._take_in(belonging, request)
        return await belonging.change(wish_from_wire(request), request.cluster, handed_on=False)

    @property
    def _waits_for(self) -> str:
        waits_for = self._belonging.waits_for if self._belonging is not None else ""
        return f"this node is of no cluster yet: {waits_for or 'it starts'}"

    async def _take_in(self, belonging: Belonging, request: ChangeRequest) -> ChangeReply:
        """Let a node join that cannot ask for it: find out which data directory it has, and tell it what came of it."""
        node, address, own = request.join.node, request.join.address, belonging.said
        try:
            said = await belonging.contacts.introduce(address, own)
        except ConnectionError as error:
            return _refused(f"{node} cannot be reached: {error}. Next step: start it there, empty, with --join")
        if (objection := _objection(node, said, own.cluster)) is not None:
            return _refused(f"at {address} {objection}")
        request.join.incarnation = said.incarnation
        reply = await belonging.change(wish_from_wire(request), request.cluster, handed_on=False)
        if reply.result == ChangeReply.DONE:
            told = replace(own, members=members_from_wire(reply.members))
            try:
                await belonging.contacts.introduce(address, told)
            except ConnectionError as error:
                reply.text = f"{node} is a member and does not know it yet: {error}. Next step: ask for the same again"
        return reply


def _objection(node: str, said: Said, cluster: str) -> str | None:
    """Why the node that answered is not one that waits to be taken into ``cluster``."""
    if said.node != node:
        return f"is {said.node}, and not {node}. Next step: see which name and which address belong together"
    if said.cluster not in ("", cluster):
        return f"{node} is of cluster {said.cluster}. Next step: start it with --join on an empty --data-dir"
    if said.initial:
        return f"{node} waits to begin a cluster with others. Next step: start it with --join, not --initial-cluster"
    return None


def _refused(text: str) -> ChangeReply:
    return ChangeReply(result=ChangeReply.REFUSED, text=text)
