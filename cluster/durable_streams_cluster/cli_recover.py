"""``admin recover``: what is left of a cluster that lost its quorum is looked at, and one directory goes on."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

from durable_streams_cluster.errors import ConfigError, DataDirLocked, StorageError
from durable_streams_cluster.observe import logs
from durable_streams_cluster.replica.quorum_loss import Choice, Found, choose
from durable_streams_cluster.runtime.offline import Recovered, look, recover

EXIT_OK, EXIT_REFUSED, EXIT_USAGE = 0, 1, 2

_DESCRIPTION = """\
When a majority of a cluster's nodes is lost for good, with their disks: make a new cluster of one node out of the
directory that has most. Whatever only the lost nodes had is lost, also what they had acknowledged.

Without --unsafe nothing of the data is changed: the directories, which have to be writable, are read through, and what
would happen is said. Give every directory that is left, damaged ones too; their nodes must not run. While a majority
of the directories is sound this is refused: start those nodes instead. So it is while one cannot be read, for that is
no damage.
"""
_EPILOG = """\
With --unsafe the chosen directory becomes that of a new cluster, with a new id, and its node the only member. Offsets
that clients have of what is lost are answered 410 from then on, and none is ever given out again for other bytes.
Start it as before; the others join it with empty directories. Their old directories are of another cluster for good.
It may be ended at any moment: the directory is then what it was, or recovered.

examples:
  durable-streams admin recover /mnt/n1 /mnt/n2 /mnt/n3
  durable-streams admin recover --unsafe /mnt/n1 /mnt/n2 /mnt/n3
  durable-streams admin recover --unsafe --yes c-0123456789abcdef /var/lib/durable-streams

exit codes: 0 done, 1 refused, 2 bad usage, or a directory that is none or that a node uses
"""


def run(argv: Sequence[str]) -> int:
    """Run ``recover ...`` and return the exit code.

    Raises:
        ConfigError: a directory is none, or a node uses it; nothing was changed.
        SystemExit: argparse printed help (0) or its complaint (2).

    """
    options = _parse(argv)
    try:
        found = [look(each) for each in dict.fromkeys(map(Path, options.directories))]
        choice = choose(found, str(Path(options.source)) if options.source is not None else None)
        as_json = options.output == "json"
        if not as_json:
            _print(_table(found, choice))
        made = _recover(options, choice)
    except DataDirLocked as error:
        raise ConfigError(f"{error}. Next step: end that node, and let no other of the cluster run either") from error
    except (StorageError, ValueError) as error:
        return _say(f"error: {error}", EXIT_REFUSED)
    _print(_as_json(found, choice, made) if as_json else _become(made) if made is not None else "")
    if made is not None and made.late:
        _say(f"WARNING: recovered; the next start writes the file 'identity', which failed here: {made.late}", EXIT_OK)
    refused = choice.source is None or (options.unsafe and made is None)
    return EXIT_REFUSED if refused else EXIT_OK


def _recover(options: argparse.Namespace, choice: Choice) -> Recovered | None:
    """Recover, if that was asked for and confirmed."""
    if choice.source is None:
        _say(f"refused: {choice.refusal}", EXIT_REFUSED)
        return None
    cluster = choice.source.cluster
    does = "ends" if options.unsafe else "would end"
    _say(f"WARNING: this {does} cluster {cluster}; a new one begins with what {choice.source.directory} holds", EXIT_OK)
    for text in choice.lost:
        _say(f"WARNING: {text}", EXIT_OK)
    if not options.unsafe:
        _say("nothing was changed; to do it, the same command with --unsafe", EXIT_OK)
        return None
    if options.yes is None and not sys.stdin.isatty():
        raise ConfigError(f"nobody is there to confirm it. Next step: if it is to be, add --yes {cluster}")
    if options.yes is None:
        sys.stderr.write(f"To go on, type the id of the cluster that ends ({cluster}): ")
        sys.stderr.flush()
    confirmed = sys.stdin.readline().strip() if options.yes is None else options.yes
    if confirmed != cluster:
        _say(f"refused: {confirmed!r} is not the id of the cluster, {cluster}. Nothing was changed", EXIT_REFUSED)
        return None
    return recover(choice.source, SystemRandom().randrange)


def build() -> argparse.ArgumentParser:
    """The parser of ``admin recover``."""
    parser = argparse.ArgumentParser(prog="durable-streams admin", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True)
    each = actions.add_parser(
        "recover",
        help="go on from one directory",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    each.add_argument("directories", metavar="DIR", nargs="+", help="the data directory of a member that does not run")
    each.add_argument("--unsafe", action="store_true", help="do it; without this, it is only said what would be done")
    each.add_argument("--from", metavar="DIR", dest="source", help="go on from this one, not from the one with most")
    each.add_argument("--yes", metavar="CLUSTER", help="the id of the cluster that ends: do not ask for it")
    each.add_argument("-o", "--output", choices=("table", "json"), default="table", help="(default table)")
    each.set_defaults(refuse=each.error)
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    options = build().parse_args(argv)
    if options.yes is not None and not options.unsafe:
        options.refuse("--yes confirms nothing without --unsafe")
    return options


# --- What is printed.


def _table(found: Sequence[Found], choice: Choice) -> str:
    rows = [["DIRECTORY", "NODE", "INCARNATION", "CLUSTER", "VOTERS", "TERM", "LAST TERM", "LAST", "APPLIED", "STATE"]]
    rows += [_row(each, choice) for each in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"{each.directory} is damaged: {each.damage}" for each in found if each.damage]
    return "\n".join(map(logs.escape, [*lines, *([""] if notes else []), *notes])) + "\n"


def _become(made: Recovered) -> str:
    node, cluster = made.identity.node, made.identity.cluster
    return (
        f"{logs.escape(made.found.directory)} is of cluster {cluster} now, and {node} its only member.\n"
        f"Start {node} as before; then the others on empty directories, with --join and the address of its peer "
        "listener.\nThe old directories are of no use to them any more: no node is to be started on one.\n"
    )


def _row(found: Found, choice: Choice) -> list[str]:
    about = [found.directory, found.node or "-", str(found.incarnation or "-"), found.cluster or "-"]
    state = "damaged" if found.damage else "chosen" if found is choice.source else "sound"
    if (held := found.held) is None:
        return [*about, "-", "-", "-", "-", "-", state]
    numbers = (held.term, held.last.term, held.last.index, held.applied.index)
    return [*about, ",".join(held.membership.voters), *map(str, numbers), state]


def _as_json(found: Sequence[Found], choice: Choice, made: Recovered | None) -> str:
    document = {
        "directories": [_facts(each) for each in found],
        "chosen": choice.source.directory if choice.source is not None else None,
        "refusal": choice.refusal or None,
        "may_be_lost": list(choice.lost),
        "recovered": None
        if made is None
        else {
            "directory": made.found.directory,
            "node": made.identity.node,
            "incarnation": str(made.identity.incarnation),
            "cluster": made.identity.cluster,
        },
    }
    return json.dumps(document, indent=2) + "\n"


def _facts(found: Found) -> dict[str, object]:
    held = found.held
    facts: dict[str, object] = {
        "directory": found.directory,
        "node": found.node or None,
        # As text, as in ``admin status``: it has more digits than JavaScript and jq keep of a number.
        "incarnation": str(found.incarnation) if found.incarnation else None,
        "cluster": found.cluster or None,
        "damage": found.damage or None,
    }
    if held is None:
        return facts | dict.fromkeys(("voters", "term", "last_term", "last_index", "applied_index"))
    return facts | {
        "voters": list(held.membership.voters),
        "term": held.term,
        "last_term": held.last.term,
        "last_index": held.last.index,
        "applied_index": held.applied.index,
    }


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"durable-streams: {logs.escape(text)}\n")
    return code
