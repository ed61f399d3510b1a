"""What may be typed: the words of each command, as its parser knows them. Pure.

A parser says what it takes only in its help, for people; so its actions are read, as other programs that complete words
do.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Value:
    """What stands in one place."""

    name: str
    """For people: ``PATH``."""
    words: tuple[str, ...] = ()
    """All that it may be; empty: nobody knows."""
    is_file: bool = False
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """What begins with ``-``."""

    flags: tuple[str, ...]
    help: str = ""
    value: Value | None = None
    """What comes behind it; None: nothing does."""
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or with ``actions`` a family of them."""

    words: tuple[str, ...]
    """Its name: ``("admin", "status")``; none are those of the program itself."""
    actions: Mapping[str, str]
    """Its sub-commands, and what each does."""
    options: tuple[Option, ...] = ()
    places: tuple[Value, ...] = ()
    """What stands in it one after the other."""
    goes_on: bool = False
    """The last place may be filled more than once."""


def commands_of(parser: argparse.ArgumentParser) -> Iterator[Command]:
    """Yield the command that ``parser`` is of, which its ``prog`` names, and its sub-commands."""
    yield from _commands(parser, tuple(parser.prog.split()[1:]))


def merged(commands: Iterable[Command]) -> list[Command]:
    """Return them in the order of their names, each once: several parsers may know a part of one.

    Of a sub-command that no parser is of, nothing is known but its name.
    """
    commands = [*commands]
    commands += [Command((*each.words, name), {}) for each in commands for name in each.actions]
    found: dict[tuple[str, ...], Command] = {}
    for each in commands:
        known = found.get(each.words, replace(each, actions={}, options=()))
        flags = [option.flags for option in known.options]
        found[each.words] = replace(
            known,
            actions={**known.actions, **each.actions, **known.actions},
            options=(*known.options, *(option for option in each.options if option.flags not in flags)),
            places=known.places or each.places,
            goes_on=known.goes_on or each.goes_on,
        )
    return [found[words] for words in sorted(found)]


def _commands(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[Command]:
    options, places, actions, goes_on = [], [], dict[str, str](), False
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            said = {each.dest: _help(each) for each in action._choices_actions}
            for name, of_action in action.choices.items():
                actions[name] = said.get(name, "")
                yield from _commands(of_action, (*words, name))
        elif action.help == argparse.SUPPRESS:
            continue
        elif action.option_strings:
            value = None if action.nargs == 0 else _value(action)
            repeats = isinstance(action, argparse._AppendAction)
            options.append(Option(tuple(action.option_strings), _help(action), value, repeats))
        else:
            places.append(_value(action))
            goes_on = action.nargs in ("*", "+")
    yield Command(words, actions, tuple(options), tuple(places), goes_on)


def _value(action: argparse.Action) -> Value:
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return Value(name, tuple(map(str, action.choices or ())), name == "FILE", name == "DIR")


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")
