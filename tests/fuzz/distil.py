"""From the many inputs of a campaign the few small ones that reach every step reached."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import durable_streams_cluster
from tests.fuzz.engine import CORPUS, Target, escaped

PACKAGE = str(Path(durable_streams_cluster.__file__).parent)
MOST = 80
"""Inputs kept of one target."""
MOST_BYTES = 300
"""Of one input: the corpus is read by people."""

Step = tuple[str, int, int]


def steps(target: Target, data: bytes) -> set[Step]:
    """The steps from line to line that the package takes; none of an input that fails."""
    taken: set[Step] = set()
    last: dict[FrameType, int] = {}

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            taken.add((frame.f_code.co_filename, last.get(frame, 0), frame.f_lineno))
            last[frame] = frame.f_lineno
        elif event == "return":
            last.pop(frame, None)
        return local

    def trace(frame: FrameType, _event: str, _arg: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(PACKAGE) else None

    kept = sys.gettrace()
    sys.settrace(trace)
    try:
        target.check(data)
    except Exception:  # a finding is told elsewhere
        return set()
    finally:
        sys.settrace(kept)
    return taken


def keep(target: Target, found: Path) -> int:
    """Write the target's corpus anew out of the inputs in ``found``; returns how many it has beside the seeds."""
    target.check(b"")  # what is made once is made before anything is counted
    reached: set[Step] = set()
    for seed in target.seeds:
        reached |= steps(target, seed)
    inputs = sorted(
        {path.read_bytes() for path in found.iterdir()} | set(target.corpus()), key=lambda data: (len(data), data)
    )
    kept: list[bytes] = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        if len(data) > MOST_BYTES or len(kept) >= MOST or data in target.seeds:
            continue
        more = steps(target, data) - reached
        if more:
            reached |= more
            kept.append(data)
    CORPUS.mkdir(exist_ok=True)
    path = CORPUS / f"{target.name}.txt"
    if kept:
        path.write_text("".join(f"{escaped(data)}\n" for data in kept), "ascii")
    else:
        path.unlink(missing_ok=True)
    return len(kept)
