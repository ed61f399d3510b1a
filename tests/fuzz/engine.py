"""What a target is, its corpus, and inputs without a coverage-guided fuzzer: seeded mutations of the corpus."""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """One surface.

    ``check`` takes an input and asserts what must hold of it: whatever it raises is a finding. ``seeds`` are inputs
    that get far; ``tokens`` are pieces that random bytes would not hit. ``weight``: how many inputs of a campaign are
    its own, beside the others' weights. ``quick``: how many inputs the unit tests try.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    tokens: tuple[bytes, ...] = ()
    max_len: int = 1024
    weight: int = 10
    quick: int = 3000

    def corpus(self) -> list[bytes]:
        """The seeds, and what earlier campaigns found to reach further."""
        path = CORPUS / f"{self.name}.txt"
        lines = path.read_text("ascii").splitlines() if path.exists() else []
        return [*self.seeds, *map(unescaped, lines)]


def escaped(data: bytes) -> str:
    """Bytes as one line of ASCII, as they stand in a bytes literal."""
    return repr(data)[2:-1]


def unescaped(line: str) -> bytes:
    return line.encode("ascii").decode("unicode_escape").encode("latin-1")


def mutations(target: Target, seed: int) -> Iterator[bytes]:
    """The corpus itself, then inputs made from it, without end; the same seed makes the same ones."""
    corpus = target.corpus()
    yield b""
    yield from corpus
    rng = random.Random(f"{target.name} {seed}")
    while True:
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.choice((1, 1, 2, 2, 3, 5, 8))):
            data = _mutated(data, rng, corpus, target.tokens)
        yield bytes(data[: target.max_len])


def _mutated(data: bytearray, rng: random.Random, corpus: list[bytes], tokens: tuple[bytes, ...]) -> bytearray:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 32)))
    match rng.randrange(10):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1 if at < len(data):
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        case 2:
            data[at:at] = bytes(rng.choices(range(256), k=rng.choice((1, 2, 4))))
        case 3:
            del data[at:end]
        case 4:
            data[at:at] = data[at:end] * rng.choice((1, 2, 40))
        case 5:
            other = rng.choice(corpus)
            cut = rng.randrange(len(other) + 1)
            data[at:] = other[cut:]
        case 6:
            del data[at:]
        case 7:
            data[at:end] = rng.choice(tokens or (b"0",))
        case _:
            data[at:at] = rng.choice(tokens or (b"\xff",))
    return data


def regression_test(target: Target, data: bytes, error: str) -> str:
    """A test to paste, for an input that broke a target."""
    name = hashlib.sha256(data).hexdigest()[:8]
    shown = "".join(f"    # {line}\n" for line in error.strip().splitlines()[-3:])
    return f"def test_{target.name}_{name}() -> None:\n{shown}    TARGETS[{target.name!r}].check({data!r})\n"
