"""Every kind of fault by name. A kind is called with a folder of its own and a seed; it injects one fault, checks what
the node answers and keeps, and returns the answer in a few words, or raises ``ContradictionError``.

To add one, write the function and name it here.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from tests.system.faults import files, full, running
from tests.system.power.shim import Kind

Inject = Callable[[Path, str], str]

KINDS: Final[Mapping[str, Inject]] = {
    "unsynced bytes: torn tail": partial(files.unsynced, damage=files.torn),
    "unsynced bytes: zero pages": partial(files.unsynced, damage=files.zeros),
    "unsynced bytes: garbage pages": partial(files.unsynced, damage=files.garbage),
    "unsynced bytes: reordered pages": partial(files.unsynced, damage=files.reordered),
    "older of two live WALs cut": files.older_wal,
    "flipped bit: WAL": partial(files.flipped, pattern="db/*.log"),
    "flipped bit: SST": partial(files.flipped, pattern="db/*.sst"),
    "flipped bit: MANIFEST": partial(files.flipped, pattern="db/MANIFEST-*"),
    "flipped bit: CURRENT": partial(files.flipped, pattern="db/CURRENT"),
    "flipped bit: OPTIONS": partial(files.flipped, pattern="db/OPTIONS-*"),
    "flipped bit: IDENTITY": partial(files.flipped, pattern="db/IDENTITY"),
    "flipped bit: rocksdict-config.json": partial(files.flipped, pattern="db/rocksdict-config.json"),
    "flipped bit: format": partial(files.flipped, pattern="format"),
    "flipped bit: durable-turn": partial(files.flipped, pattern="durable-turn"),
    **{f"sync fails: {file}": partial(running.failing, file=file, kind=Kind.SYNC) for file in running.CALLS},
    **{f"write fails: {file}": partial(running.failing, file=file, kind=Kind.WRITE) for file in running.CALLS},
    "any call fails during a start": running.failing_start,
    "write stall": running.stall,
    "disk full by its own streams": full.by_itself,
    "disk full by others": full.by_others,
    "second process on the directory": running.second_process,
}
