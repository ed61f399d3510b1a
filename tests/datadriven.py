"""Runs the scripts in ``testdata/*.txt``: commands and what each must print, in a file that reads like a dialogue.

::

    # A comment. Blank lines between blocks are free.
    append s producer=a epoch=0 seqs=(0, 1) type="text/plain; charset=utf-8" close
    lines of input, if the command wants any
    ----
    what the command must print

The command's line is a name, then words (``s``, ``close``) and arguments: ``key=text``, ``key="as in \\"JSON\\""`` or
``key=(a, b)``. Input and output are as they stand, comments and all. Output ends at the first blank line; output that
has blank lines itself stands between two pairs of ``----``. ``pytest --rewrite`` puts what was printed in the place of
what was expected; the diff is then the review.

A handler must look at every word and argument of its command: one that nobody asked for is an error, so that a typing
mistake in a script cannot pass for a test.
"""

import difflib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

FENCE = "----"
_TOKEN = re.compile(
    r"""\s* (?: (?P<key> [A-Za-z_][\w.-]* ) =
                (?: (?P<quoted> "(?: [^"\\] | \\. )*" ) | \( (?P<group> [^()]* ) \) | (?P<plain> (?:[^\s"(]\S*)? ) )
              | (?P<phrase> "(?: [^"\\] | \\. )*" ) | (?! [\w.-]+ = ["(] ) (?P<word> [^\s"]\S* ) ) (?= \s | $ )""",
    re.VERBOSE,
)


class ScriptError(AssertionError):
    """A script is malformed, or its output is not the expected one; the message begins with file and line."""


class Command:
    """One command of a script: its name, its words and arguments, and the lines below it."""

    def __init__(self, line: str, where: str = "script:1", input_text: str = "") -> None:
        self.line, self.where, self.input = line, where, input_text
        self.name, _, rest = line.partition(" ")
        self._words: list[str] = []
        self._args: dict[str, str | tuple[str, ...]] = {}
        if re.search(r"[\s=\"()]", self.name):
            raise self.error("a line begins with the name of a command")
        while rest := rest.strip():
            token = _TOKEN.match(rest)
            if token is None:
                raise self.error(f"cannot read {rest!r}")
            self._take(token)
            rest = rest[token.end() :]

    def _take(self, token: re.Match[str]) -> None:
        key, quoted, group, plain, phrase, word = token.groups()
        if key is None:
            self._words.append(word if phrase is None else self._unquoted(phrase))
        elif key in self._args:
            raise self.error(f"{key} is given twice")
        elif group is not None:
            self._args[key] = tuple(item.strip() for item in group.split(",")) if group.strip() else ()
        else:
            self._args[key] = plain if quoted is None else self._unquoted(quoted)

    def _unquoted(self, text: str) -> str:
        try:
            return str(json.loads(text, strict=False))
        except ValueError as error:
            raise self.error(f"{text} is not a string as in JSON: {error}") from None

    def error(self, message: str) -> ScriptError:
        """For handlers too: an error that names this line."""
        return ScriptError(f"{self.where}: {self.line}\n{message}")

    def word(self, default: str | None = None) -> str:
        """The next word, in the order of the line."""
        if self._words:
            return self._words.pop(0)
        if default is None:
            raise self.error("one more word is needed")
        return default

    def words(self) -> tuple[str, ...]:
        """All the words that are left."""
        taken, self._words = tuple(self._words), []
        return taken

    def flag(self, name: str) -> bool:
        """Whether this word is among those that are left. Ask for flags before words."""
        if name not in self._words:
            return False
        self._words.remove(name)
        return True

    def has(self, key: str) -> bool:
        """Whether an argument is given; leaves it there."""
        return key in self._args

    def text(self, key: str, default: str | None = None) -> str:
        """The argument ``key=text``."""
        value = self._args.pop(key, default)
        if not isinstance(value, str):
            raise self.error(f"needs {key}=TEXT")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        """The argument ``key=123``."""
        text = self.text(key, None if default is None else str(default))
        if not re.fullmatch(r"-?\d+", text):
            raise self.error(f"{key}={text} is not a number")
        return int(text)

    def many(self, key: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """The argument ``key=(a, b)``; ``key=a`` is a list of one."""
        value = self._args.pop(key, tuple(default))
        return (value,) if isinstance(value, str) else value

    def check_used(self) -> None:
        """Raise when the handler left a word or an argument alone."""
        unused = [*self._words, *(f"{key}=" for key in self._args)]
        if unused:
            raise self.error(f"nobody asked for: {', '.join(unused)}")


Handler = Callable[[Command], str]


def run_script(path: Path, handler: Handler, rewrite: bool = False) -> None:
    """Give each command of the script to the handler; raise on the first output that is not the expected one."""
    __tracebackhide__ = True
    text = path.read_bytes().decode()
    lines, result, at, ran = text.removesuffix("\n").split("\n"), [], 0, 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].startswith("#"):
            result.append(lines[at])
            at += 1
            continue
        where = f"{path.name}:{at + 1}"
        fence = lines.index(FENCE, at) if FENCE in lines[at:] else None
        if fence is None:
            raise ScriptError(f"{where}: {lines[at]}\nno {FENCE} follows this command")
        command = Command(lines[at], where, "\n".join(lines[at + 1 : fence]))
        expected, end = _expected(lines, fence, where)
        actual = _run(command, handler)
        if actual != expected and not rewrite:
            raise ScriptError(_difference(command, expected, actual))
        result += [*lines[at : fence + 1], *_block(actual, command)]
        if any(line.strip() for line in lines[end : end + 1]):
            result.append("")
        at, ran = end, ran + 1
    if not ran:
        raise ScriptError(f"{path.name}: no command in it")
    accepted = "\n".join(result).rstrip("\n") + "\n"
    if rewrite and accepted != text:
        path.write_bytes(accepted.encode())


def _run(command: Command, handler: Handler) -> list[str]:
    try:
        output = handler(command)
        command.check_used()
    except ScriptError:
        raise
    except Exception as error:
        error.add_note(f"{command.where}: {command.line}")
        raise
    return output.rstrip("\n").split("\n") if output.strip("\n") else []


def _expected(lines: list[str], fence: int, where: str) -> tuple[list[str], int]:
    """The expected output of the block whose first fence is at ``fence``, and the line after it."""
    start = fence + 1
    if lines[start : start + 1] != [FENCE]:
        end = next((n for n in range(start, len(lines)) if not lines[n].strip()), len(lines))
        return lines[start:end], end
    for end in range(start + 1, len(lines) - 1):
        if lines[end] == lines[end + 1] == FENCE:
            return lines[start + 1 : end], end + 2
    raise ScriptError(f"{where}: the output opened by two {FENCE} is not closed by two")


def _block(actual: list[str], command: Command) -> list[str]:
    """The output as it stands below the first fence."""
    if all(line.strip() and line != FENCE for line in actual):
        return actual
    if any(pair == (FENCE, FENCE) for pair in itertools.pairwise(actual)) or actual[-1] == FENCE:
        raise command.error(f"output with {FENCE} lines that would end its own fence")
    return [FENCE, *actual, FENCE, FENCE]


def _difference(command: Command, expected: list[str], actual: list[str]) -> str:
    diff = difflib.unified_diff(expected, actual, "expected", "printed", lineterm="", n=5)
    return "\n".join([f"{command.where}: {command.line}", *diff, "(pytest --rewrite accepts what was printed)"])


def scripts(test_file: str, pattern: str = "*.txt") -> list[Path]:
    """The scripts in the ``testdata`` beside a test file; never none, so that no test is lost in silence."""
    found = sorted((Path(test_file).parent / "testdata").glob(pattern))
    if not found:
        raise ScriptError(f"no {pattern} in the testdata beside {test_file}")
    return found
