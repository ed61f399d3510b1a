"""How values are written on the command line. Pure; each raises ArgumentTypeError with the rule that was broken."""

import argparse
import re
from collections.abc import Callable, Mapping
from datetime import datetime

DEFAULT_TARGET = "127.0.0.1:4438"
TARGET_ENV = "DURABLE_STREAMS_TARGET"
TOKEN_ENV = "DURABLE_STREAMS_TOKEN"  # noqa: S105  # a name

_UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def targets(given: str) -> list[str]:
    """``HOST:PORT,...`` of listeners for clients."""
    found = [each.strip() for each in given.split(",") if each.strip()]
    if not found:
        raise argparse.ArgumentTypeError("names no node: write HOST:PORT of its --grpc listener")
    return [address(each, "of a node's --grpc listener") for each in found]


def cluster(given: str) -> list[str]:
    """The same, or one URL."""
    if given.startswith(("http://", "https://")):
        return [given]
    return targets(given)


def address(given: str, what: str) -> str:
    """``HOST:PORT``; ``what`` says of what."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})", given)
    if found is None or not 0 < int(found[2]) <= 65535:
        raise argparse.ArgumentTypeError(f"{given!r} is not HOST:PORT {what}")
    return given


def seconds(given: str) -> float:
    """A time."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)", given)
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{given!r} is not a time: write 500ms, 30s, 2m, 12h or 7d")
    return value


def whole_seconds(given: str) -> int:
    """A time that is whole seconds."""
    value = seconds(given)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{given!r} is not a whole number of seconds")
    return int(value)


def unix_ms(given: str) -> int:
    """A date and time, as Unix milliseconds."""
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{given!r} is not a time with its zone: write 2030-01-01T00:00:00Z")
    found = round(moment.timestamp() * 1000)
    if not 0 <= found < 253_402_300_800_000:
        raise argparse.ArgumentTypeError(f"{given!r} is not a time from 1970 to 9999")
    return found


def count(given: str) -> int:
    """A number from 1 on."""
    if not re.fullmatch(r"[0-9]{1,9}", given) or int(given) == 0:
        raise argparse.ArgumentTypeError(f"{given!r} is not a number from 1 on")
    return int(given)


def up_to(most: int) -> Callable[[str], int]:
    """A number from 1 to ``most``."""

    def number(given: str) -> int:
        found = count(given)
        if found > most:
            raise argparse.ArgumentTypeError(f"{given!r} is more than {most}")
        return found

    return number


def unescaped(text: str) -> str:
    r"""What is typed: ``\n``, ``\r``, ``\t`` and ``\\`` stand for what they do elsewhere."""
    known = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
    return re.sub(r"\\([nrt\\])", lambda match: known[match[1]], text)
