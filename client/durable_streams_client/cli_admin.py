"""``durable-streams admin``: what operators type, and what they are shown."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence

from durable_streams_client import _admin_text as text
from durable_streams_client import _arguments as arguments
from durable_streams_client.admin import Admin, AdminError
from durable_streams_proto.v1.peer_pb2 import ChangeReply, ChangeRequest, Member

EXIT_OK, EXIT_REFUSED, EXIT_USAGE = 0, 1, 2

_EPILOG = """\
Any node of the cluster answers, at its --grpc address; changes are handed on to the one that leads.

examples:
  durable-streams admin status
  durable-streams admin status --target a:4438,b:4438,c:4438 -o json
  durable-streams admin add n4=d:4439      # n4 waits there: durable-streams serve --node n4 --join ... on d
  durable-streams admin remove n2
  durable-streams admin transfer n3        # before n1, which leads, is taken down

exit codes: 0 done, 1 refused, or nobody could be reached, or it is not known whether it was done, 2 bad usage
"""
_STATUS = """\
Show who leads and, of each member: whether it is ready; its term; the first and last entry of its log, what it knows to
be committed and what it shows; LAG, how many entries that the leader has committed are not known to be stored there;
and its disk. The node that is asked asks the others, for two seconds at most. Exit code 0 also when members are down.
"""
_MEMBERS = "Show who belongs to the cluster: voters, and learners, which are sent everything and count for no majority."
_ADD = """\
Take in a node that waits at HOST:PEERPORT, its peer listener: one that was started on an empty data directory with
--join. Such a node asks by itself; this is for one that cannot reach the addresses it was given. It learns what the
cluster holds and, five seconds after it has caught up, becomes a voter. A member of the same name that is not heard
from is replaced by it.
"""
_PROMOTE = (
    "Let a learner that has caught up be a voter. All but those that were added with --learner rise by themselves."
)
_REMOVE = """\
Let a member belong to the cluster no more, for good: its data directory cannot come back, an empty one can. Then end
its process. If it leads, another node does afterwards. Removing a voter must leave a majority that is heard from.
"""
_TRANSFER = "Let NODE lead, or the voter that has most. Requests go on: they wait for a moment."


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run ``admin ...`` and return the exit code. ``argv`` is what comes after ``admin``."""
    # gRPC's C core writes lines of its own among ours; to be said before its first channel.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        options = _parse(argv, environ)
    except SystemExit as exit_:  # argparse has printed help (0) or its complaint (2)
        return EXIT_USAGE if exit_.code else EXIT_OK
    try:
        said = asyncio.run(_answer(options))
    except AdminError as error:
        sys.stderr.write(f"durable-streams: error: {text.printable(str(error))}\n")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        sys.stderr.write("durable-streams: interrupted: a change that was asked for may yet happen\n")
        return EXIT_REFUSED
    sys.stdout.write(said)
    return EXIT_OK


async def _answer(options: argparse.Namespace) -> str:
    """Do what was asked for, and return what to print. Raises AdminError."""
    admin, as_json = Admin(options.target, options.timeout), options.output == "json"
    match options.action:
        case "status":
            reply = await admin.status()
            return text.status_json(reply) if as_json else text.status_text(reply)
        case "members":
            reply = await admin.status(members_only=True)
            return text.members_json(reply) if as_json else text.members_text(reply)
        case "transfer":
            return await _transfer(admin, options.node, as_json=as_json)
        case "add":
            node, address = options.member
            joins = Member(node=node, address=address, rises=not options.learner)
            changed = await admin.change(ChangeRequest(join=joins))
        case "promote":
            node = options.node
            changed = await admin.change(ChangeRequest(promote=node))
        case "remove":
            node = options.node
            changed = await admin.change(ChangeRequest(remove=node))
        case other:
            raise AssertionError(other)
    return text.change_json(changed) if as_json else f"{text.printable(changed.text) or _become(node, changed)}\n"


async def _transfer(admin: Admin, to: str | None, *, as_json: bool) -> str:
    await admin.change(ChangeRequest(transfer=to or ""))
    now = await admin.leader()
    if to not in (None, now.leader):
        raise AdminError(f"{now.leader} leads in term {now.term}, and not {to}. Next step: ask again")
    return text.leader_json(now) if as_json else f"{now.leader} leads in term {now.term}\n"


def _become(node: str, reply: ChangeReply) -> str:
    """What a member is after the change."""
    member = next((each for each in reply.members if each.node == node), None)
    if member is None:
        return f"{node} belongs to the cluster no more. Its process can be ended, and its data directory deleted"
    if member.voter:
        return f"{node} is a voter"
    if member.rises:
        return f"{node} is a learner, and a voter as soon as it has caught up: see durable-streams admin status"
    return f"{node} is a learner until it is promoted: durable-streams admin promote {node}"


# --- Arguments.


def _member(given: str) -> tuple[str, str]:
    node, equals, address = given.partition("=")
    if not (node and equals):
        raise argparse.ArgumentTypeError(f"{given!r} is not NODE=HOST:PEERPORT, like n4=10.0.0.4:4439")
    return node, arguments.address(address, "of the node's peer listener")


def build() -> argparse.ArgumentParser:
    """The parser of all actions."""
    parser = argparse.ArgumentParser(
        prog="durable-streams admin",
        description="See how a cluster is, and change who belongs to it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, short: str, long: str) -> argparse.ArgumentParser:
        each = actions.add_parser(
            name,
            help=short,
            description=long,
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_common(each)
        return each

    action("status", "how the cluster and its members are", _STATUS)
    action("members", "who belongs to the cluster", _MEMBERS)
    add = action("add", "take in a node that waits to join", _ADD)
    add.add_argument("member", metavar="NODE=HOST:PEERPORT", type=_member, help="its name, and its peer listener")
    add.add_argument("--learner", action="store_true", help="it does not become a voter by itself")
    action("promote", "let a learner count", _PROMOTE).add_argument("node", metavar="NODE", help="a learner")
    action("remove", "let a member go, for good", _REMOVE).add_argument("node", metavar="NODE", help="a member")
    action("transfer", "let another node lead", _TRANSFER).add_argument(
        "node", metavar="NODE", nargs="?", help="a voter (default: the one that has most)"
    )
    # Listed here, and answered by the cluster (``cli``): it opens data directories, and asks no node.
    actions.add_parser("recover", help="offline: when a majority is lost for good", add_help=False)
    return parser


def _parse(argv: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    parser = build()
    options = parser.parse_args(argv)
    if options.target is None:
        try:
            options.target = arguments.targets(environ.get(arguments.TARGET_ENV) or arguments.DEFAULT_TARGET)
        except argparse.ArgumentTypeError as error:
            parser.error(f"environment {arguments.TARGET_ENV}: {error}")
    return options


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        metavar="HOST:GRPC,...",
        type=arguments.targets,
        help=f"nodes to ask, one after the other (default DURABLE_STREAMS_TARGET, else {arguments.DEFAULT_TARGET})",
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="(default table)")
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=arguments.seconds,
        default=20.0,
        help="how long to wait, as for a leader (default 20s)",
    )
