"""How the answers to operators look: tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence

from durable_streams_proto.v1.admin_pb2 import MemberStatus, StatusReply
from durable_streams_proto.v1.peer_pb2 import ChangeReply, Member, ReportReply

_ROLES: Mapping[int, str] = {
    ReportReply.FOLLOWER: "follower",
    ReportReply.CANDIDATE: "candidate",
    ReportReply.LEADER: "leader",
}
_GIB = 2**30
_NOT_CURRENT = "no leader was heard from: this is what the node that was asked knows, and may be out of date"


# ------------------------------------------------------------------------------------------------------ for people


def status_text(reply: StatusReply) -> str:
    """Return a header, a row for each member, and a line for each that is not as it should be."""
    answer = sum(row.reachable for row in reply.members)
    leads = f"led by {reply.leader} in term {reply.term}" if reply.leader else f"nobody leads, in term {reply.term}"
    lines = [f"cluster {reply.cluster}, {leads}; {answer} of {len(reply.members)} members answer", ""]
    head = "NODE MEMBER ROLE STATE ADDRESS TERM FIRST LAST COMMITTED APPLIED LAG DISK VERSION"
    lines += table([head.split(" "), *map(_row, reply.members)])
    notes = [] if reply.current else [_NOT_CURRENT]
    for row in reply.members:
        if not row.reachable:
            notes.append(f"{row.member.node} does not answer: {row.error}")
        notes += [f"{row.member.node} is not ready: {reason}" for reason in row.report.not_ready]
    return "\n".join([*lines, *([""] if notes else []), *map(printable, notes)]) + "\n"


def members_text(reply: StatusReply) -> str:
    """Return a row for each member."""
    members = [row.member for row in reply.members]
    rows = [(each.node, _kind(each), each.address, str(each.incarnation)) for each in members]
    notes = [] if reply.current else ["", _NOT_CURRENT]
    return "\n".join([*table([("NODE", "MEMBER", "ADDRESS", "DIRECTORY"), *rows]), *notes]) + "\n"


def printable(said: str) -> str:
    """Return what a node said, without what would move the cursor of a terminal."""
    return "".join(each if each.isprintable() else " " for each in said)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines, with columns of one width."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(row: MemberStatus) -> Sequence[str]:
    member, report = row.member, row.report
    lag = str(row.lag) if row.HasField("lag") else "-"
    if not row.reachable:
        return member.node, _kind(member), "-", _state(row), member.address, "-", "-", "-", "-", "-", lag, "-", "-"
    disk = f"{report.disk_free / _GIB:.1f} of {report.disk_size / _GIB:.1f} GiB free" if report.disk_size else "none"
    indexes = (report.term, report.first_index, report.last_index, report.committed_index, report.applied_index)
    about = (member.node, _kind(member), _ROLES.get(report.role, "-"), _state(row), member.address)
    return *about, *map(str, indexes), lag, disk, report.version


def _kind(member: Member) -> str:
    if member.voter:
        return "voter"
    return "learner, to be a voter" if member.rises else "learner"


def _state(row: MemberStatus) -> str:
    if not row.reachable:
        return "unreachable"
    if row.report.draining:
        return "draining"
    return "not ready" if row.report.not_ready else "ready"


# ---------------------------------------------------------------------------------------------------- for programs


def status_json(reply: StatusReply) -> str:
    """Return all that is known; null where a member did not answer."""
    members = [_member(row.member) | _figures(row) for row in reply.members]
    return _json(_about(reply) | {"members": members})


def members_json(reply: StatusReply) -> str:
    """Return who belongs."""
    return _json({"cluster": reply.cluster, "current": reply.current} | _listed(row.member for row in reply.members))


def change_json(reply: ChangeReply) -> str:
    """Return who belongs now."""
    return _json({"cluster": reply.cluster, "text": reply.text} | _listed(reply.members))


def leader_json(reply: StatusReply) -> str:
    """Return who leads."""
    return _json(_about(reply))


def _about(reply: StatusReply) -> dict[str, object]:
    leader = reply.leader or None
    return {"cluster": reply.cluster, "leader": leader, "term": reply.term, "current": reply.current}


def _listed(members: Iterable[Member]) -> dict[str, object]:
    return {"members": [_member(member) for member in members]}


def _member(member: Member) -> dict[str, object]:
    return {
        "node": member.node,
        # As text: it has more digits than JavaScript and jq keep of a number.
        "incarnation": str(member.incarnation),
        "address": member.address,
        "voter": member.voter,
        "rises": member.rises,
    }


def _figures(row: MemberStatus) -> dict[str, object]:
    report = row.report
    said: dict[str, object] = {
        "role": _ROLES.get(report.role),
        "ready": not report.not_ready,
        "not_ready": list(report.not_ready),
        "draining": report.draining,
        "term": report.term,
        "first_index": report.first_index,
        "last_index": report.last_index,
        "committed_index": report.committed_index,
        "applied_index": report.applied_index,
        "disk_free_bytes": report.disk_free,
        "disk_size_bytes": report.disk_size,
        "version": report.version,
    }
    if not row.reachable:
        said = dict.fromkeys(said)
    return {
        "reachable": row.reachable,
        "error": row.error or None,
        **said,
        "match_index": row.match_index if row.HasField("match_index") else None,
        "lag": row.lag if row.HasField("lag") else None,
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
