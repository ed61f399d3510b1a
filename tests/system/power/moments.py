"""When the power could have gone: moments of a journal, by kinds, so that rare ones are tried as often as others.

What is durable changes when a sync ends. The last moment before that, when as much as ever hangs on it, is worth more
than one of the thousand between. Some moments should hardly exist (``suspicious``); where they do, they are all tried.
"""

import random
from collections import defaultdict

from tests.system.power.journal import DONE, SYNCS, Change, Model
from tests.system.power.shim import Kind

ENDINGS = {".log": "WAL", "durable-turn": "durable-turn", ".sst": "table"}


def moments(model: Model) -> dict[str, list[int]]:
    """Kind of moment → bytes of the journal, for ``Model.at``."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    done = [each for each in model.records if each.state == DONE]
    for each in done:
        found["any call"].append(each.at)
        if each.kind in SYNCS:
            # Just before it ended, and just after.
            found[f"sync of a {_class(each)}"] += [each.offset, each.offset + 1]
    return found


def choose(model: Model, chance: random.Random) -> tuple[str, int]:
    """A kind, and a moment of it."""
    found = moments(model)
    kind = chance.choice(sorted(found))
    return kind, chance.choice(found[kind])


def _class(sync: Change) -> str:
    if sync.second:
        return "directory"
    name = sync.path.rpartition("/")[2]
    return next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), name.partition("-")[0])


def suspicious(model: Model) -> list[int]:
    """Moments at which two WALs in use hold bytes that are not synced, or one does while a turn is put on record."""
    files = [each for each in model.records if each.state == DONE and each.path.endswith((".log", "durable-turn"))]
    events = sorted((each.offset if each.kind is Kind.SYNC else each.at, each.at, each) for each in files)
    unsynced: defaultdict[str, set[int]] = defaultdict(set)
    found = []
    for when, _, each in events:
        wals = sum(map(bool, unsynced.values()))
        if each.path.endswith("durable-turn"):
            found += [when + 1] if each.kind is Kind.SYNC and wals else []
        elif each.kind is Kind.WRITE:
            unsynced[each.path].add(each.at)
            found += [when + 1] if wals > (len(unsynced[each.path]) > 1) else []
        elif each.kind is Kind.SYNC:
            unsynced[each.path] = {at for at in unsynced[each.path] if at > each.at}
        elif each.kind is Kind.UNLINK:
            unsynced.pop(each.path, None)
    return found
