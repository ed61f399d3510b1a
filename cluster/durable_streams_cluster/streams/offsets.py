"""Offsets: where a reader stands (PROTOCOL 8).

An offset is written ``%016d_%016d``: the generation of the era it was minted in, and a byte position in the stream.
Written that way, offsets of one stream sort as text in the order of the stream, and the offsets of a path that was
deleted and created again sort above the old ones. The form is settled for ever: clients store it.
"""

import re

import msgspec

MAX_PART = 10**16 - 1
FORM = "an offset is two groups of 16 digits joined by '_', as an earlier response gave it"
_FORM = re.compile(r"([0-9]{16})_([0-9]{16})")


class Offset(msgspec.Struct, frozen=True, array_like=True):
    """A position (bytes from the start of the stream) and the generation of the era that it belongs to."""

    generation: int
    position: int

    def __str__(self) -> str:
        return f"{self.generation:016d}_{self.position:016d}"


START = Offset(0, 0)
"""The beginning of every stream, whatever its eras: ``0000000000000000_0000000000000000``."""


def parse(text: str) -> Offset:
    """Read an offset that this system minted.

    Raises:
        ValueError: not of the form ``digits_digits`` with 16 digits each; the sentinels are not offsets.

    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(FORM)
    return Offset(int(match[1]), int(match[2]))
