"""The shim of shim.c from Python: build it, run a process under it, and set its rules while that runs.

::

    shim = Shim(root=folder / "disk", aside=folder / "shim", journal=False)
    environment = server_environment | shim.environment()      # for the process to be watched
    rule = shim.rule(Rule({Kind.SYNC}, "data/db/*.log", error=errno.EIO, skip=5))   # the sixth sync of a WAL fails
    shim.counts(rule)                                           # how many it saw, how many it hit
    shim.clear()                                                # all rules off

``root`` is made when it is not there; patterns match names below it. Faults need no journal; a power cut does.
"""

import dataclasses
import enum
import hashlib
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from tests.server import ROOT

SOURCE: Final = Path(__file__).with_name("shim.c")
RULES: Final = 32
KILL: Final = -1
"""In place of an error: the process is killed instead of making the call."""

_RULE: Final = struct.Struct("=IIiIQQQQQ200s")


class Kind(enum.IntEnum):
    """What a call does; ``enum kind`` of shim.c."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    LINK = 9
    SYNC_ALL = 10
    START = 11
    UNKNOWN = 12


ANY: Final = frozenset(Kind) - {Kind.SYNC_ALL, Kind.START, Kind.UNKNOWN}
"""What rules can be about."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What happens to matching calls: ``skip`` of them pass, then ``times`` of them (0: all) are hit."""

    kinds: AbstractSet[Kind]
    pattern: str
    """``fnmatch`` of the name below the root, as it was when the file was opened or is now; ``*`` matches ``/`` too."""
    error: int = 0
    """What errno the call fails with, without being made. 0: it is made. ``KILL``: see there."""
    skip: int = 0
    times: int = 0
    delay_ms: float = 0.0
    after: int | None = None
    """The number of a rule that must have hit something first; until then nothing is counted."""


def build(source: Path = SOURCE) -> Path:
    """Compile a shim, unless that was done before; the library."""
    name = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    library = ROOT / ".cache" / "power" / f"shim-{name}.so"
    if not library.exists():
        compiler = shutil.which("cc")
        assert compiler is not None, "no C compiler (cc): make test-system installs one"
        library.parent.mkdir(parents=True, exist_ok=True)
        draft = library.with_suffix(f".{os.getpid()}")
        flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]
        subprocess.run([compiler, *flags, "-o", draft, source, "-ldl", "-lpthread"], check=True)
        draft.replace(library)
    return library


class Shim:
    """One watched folder, and what the shim keeps aside from it."""

    def __init__(self, root: Path, aside: Path, *, journal: bool) -> None:
        """Make both folders; nothing is watched until a process runs with ``environment``.

        Args:
            root: the folder to watch.
            aside: where the rules, the journal and the graveyard are, on the same file system and not below ``root``.
            journal: whether to keep a journal.

        """
        self.library = build()
        self.root = root
        self.graveyard = aside / "graveyard"
        self.journal = aside / "journal" if journal else None
        root.mkdir(parents=True, exist_ok=True)
        self.graveyard.mkdir(parents=True, exist_ok=True)
        self._control = aside / "control"
        self._control.write_bytes(bytes(RULES * _RULE.size))
        with self._control.open("r+b") as file:
            self._rules = mmap.mmap(file.fileno(), 0)

    def environment(self) -> dict[str, str]:
        """What to add to the environment of the process to be watched."""
        added = {"LD_PRELOAD": str(self.library), "SHIM_ROOT": str(self.root), "SHIM_CONTROL": str(self._control)}
        if self.journal is not None:
            added |= {"SHIM_JOURNAL": str(self.journal), "SHIM_GRAVEYARD": str(self.graveyard)}
        return added

    def rule(self, rule: Rule) -> int:
        """Set a rule, from now on; its number."""
        number = next(each for each in range(RULES) if not self._rules[each * _RULE.size])
        kinds = sum(1 << kind for kind in rule.kinds)
        after = 0 if rule.after is None else rule.after + 1
        pattern = rule.pattern.encode()
        assert len(pattern) < 200, "the pattern is too long"
        numbers = rule.skip, rule.times, int(rule.delay_ms * 1000), 0, 0
        packed = _RULE.pack(0, kinds, rule.error, after, *numbers, pattern)
        start = number * _RULE.size
        self._rules[start : start + _RULE.size] = packed
        self._rules[start] = 1  # last: from here the process obeys it
        return number

    def counts(self, rule: int) -> tuple[int, int]:
        """How many calls a rule has matched, and how many of them it hit."""
        unpacked = _RULE.unpack_from(self._rules, rule * _RULE.size)
        return unpacked[7], unpacked[8]

    def clear(self) -> None:
        """Take all rules away."""
        for number in range(RULES):
            self._rules[number * _RULE.size] = 0
