"""What a program was told, by whom: flags, environment and file as texts by setting, before anything is made of them.

One setting has one name, spelled four ways: ``--long-poll-timeout`` on the command line,
``DURABLE_STREAMS_LONG_POLL_TIMEOUT`` in the environment, ``long-poll-timeout`` in the TOML file, and a default. The
first of them that is given wins. Pure: the texts are arguments.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.policies import write_policies
from durable_streams_cluster.settings import (
    CLIENT_ENV,
    ENV_PREFIX,
    GATEWAY_SETTINGS,
    SETTINGS,
    Setting,
    is_service_link,
    parse_host,
    unknown_key,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Given:
    """One setting's text and who gave it, e.g. ``flag --http``."""

    key: str
    text: str
    source: str


def resolve(
    settings: Sequence[Setting],
    argv_values: Mapping[str, str],
    environ: Mapping[str, str],
    file_text: str | None,
    file_name: str,
) -> dict[str, Given]:
    """Every setting's text and who gave it.

    Args:
        settings: Those that there are.
        argv_values: Flags, by setting (``data-dir``).
        environ: The environment, with names of others in it.
        file_text: The TOML file; None: there is none.
        file_name: What it is called, for errors.

    Raises:
        ConfigError: a flag or a key of the file is no setting, or the file is no TOML.

    """
    by_key = {setting.key: setting for setting in settings}
    for key in argv_values:
        if key not in by_key:
            unknown_key(key, f"flag --{key}", by_key)
    from_file = {} if file_text is None else _read_file(file_text, file_name, by_key)
    values: dict[str, Given] = {}
    for setting in settings:
        key, env = setting.key, setting.env
        if key in argv_values:
            values[key] = Given(key, argv_values[key], f"flag --{key}")
        elif environ.get(env):  # Empty counts as not given: charts and compose files cannot leave a variable out.
            values[key] = Given(key, environ[env], f"environment {env}")
        elif key in from_file:
            values[key] = Given(key, from_file[key], f"file {file_name}")
        else:
            values[key] = Given(key, setting.default, "default")
    return values


def by_program(settings: Sequence[Setting], arguments: Mapping[str, object]) -> dict[str, Given]:
    """The same of what a program gives, by setting, as values of the file. Raises ConfigError: one has another type."""
    values: dict[str, Given] = {}
    for setting in settings:
        values[setting.key] = Given(setting.key, setting.default, "default")
        if setting.key in arguments:
            source = f"argument {setting.key.replace('-', '_')}"
            values[setting.key] = Given(setting.key, _text(setting, arguments[setting.key], source), source)
    return values


def to_toml(values: Iterable[Given], by_key: Mapping[str, Setting]) -> str:
    """Write the effective settings as a file that ``resolve`` accepts, each with where it came from."""
    rows: list[tuple[str, str]] = []
    table = ""
    for given in values:
        section, _, name = given.key.rpartition(".")
        if section != table:
            rows += [("", ""), (f"[{section}]", "")]
            table = section
        text = given.text
        switch = by_key[given.key].kind == "switch"
        quoted = str(parse_switch(text)).lower() if switch else json.dumps(text, ensure_ascii=False)
        rows.append((f"{name} = {quoted}" if text else f"# {name} is not set", "" if not text else given.source))
    width = min(48, max(len(left) for left, _ in rows))
    return "".join(f"{left:<{width}}  # {right}\n" if right else f"{left}\n" for left, right in rows)


def _read_file(text: str, name: str, by_key: Mapping[str, Setting]) -> dict[str, str]:
    """Return the file's settings as text, so that one parser serves every source. Unknown keys are errors."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of thousands of digits
        raise ConfigError(f"file {name}: not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"file {name}: not TOML: nested too deeply") from error
    flat: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict) and not (key in by_key and by_key[key].kind == "rules"):
            flat |= {f"{key}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[key] = value
    values: dict[str, str] = {}
    for key, value in flat.items():
        if key not in by_key:
            unknown_key(key, f"file {name}", by_key)
        values[key] = _text(by_key[key], value, f"file {name}")
    return values


def _text(setting: Setting, value: object, source: str) -> str:
    """A value as the text that one parser reads, wherever it comes from. Raises ConfigError: it has another type."""
    match setting.kind, value:
        case "switch", bool():
            return "true" if value else "false"
        case "size", int() if _is_plain(value):
            return str(value)
        case "rules", dict() if all(
            isinstance(rules, dict) and all(map(_is_plain, rules.values())) for rules in value.values()
        ):
            # [prefixes."logs/"] with a key a rule, as the text that the environment would hold.
            try:
                return write_policies(value)
            except ValueError as error:
                raise ConfigError(f"{setting.key} ({source}): {error}") from None
        case "list", list() if all(isinstance(item, str) for item in value):
            return ",".join(value)
        case (("text" | "list" | "duration" | "size" | "rules"), str()):
            return value
        case _:
            pass
    wanted = {
        "switch": "true or false",
        "list": "a string or an array of strings",
        "size": 'a string like "16MiB"',
        "rules": f'tables like [{setting.key}."logs/"]',
    }
    raise ConfigError(f"{source}: {setting.key} must be {wanted.get(setting.kind, 'a string')}, not {_shown(value)}")


def _is_plain(value: object) -> bool:
    """Whether it is a string, or a number that TOML promises to keep (Python's parser takes any)."""
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def _shown(value: object) -> str:
    """A value of the file in a message: never all of a long one, and nothing that Python refuses to print."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "this"
    return text if len(text) <= 200 else f"{text[:200]}…"


def unknown_environment(environ: Mapping[str, str]) -> tuple[str, ...]:
    """One warning for all the names that look like ours and are not: other software may share the prefix."""
    known = [*(setting.env for setting in (*SETTINGS, *GATEWAY_SETTINGS)), *CLIENT_ENV]
    strange = [
        name
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX) and name not in known and not is_service_link(name, value)
    ]
    if not strange:
        return ()
    hints = []
    for name in sorted(strange):
        # Without the prefix, which makes all of them alike.
        near = difflib.get_close_matches(name[len(ENV_PREFIX) :], [other[len(ENV_PREFIX) :] for other in known], n=1)
        hints.append(f"{name} (did you mean {ENV_PREFIX}{near[0]}?)" if near else name)
    return ("ignored unknown environment variables: " + ", ".join(hints),)


class Values:
    """The resolved texts, read through a parser; a broken rule becomes an error naming the setting and its source."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        self.given = given

    def get(self, key: str, parse: Callable[[str], T]) -> T:
        """The value of a setting; raises ConfigError when ``parse`` raises ValueError."""
        try:
            return parse(self.text(key))
        except ValueError as error:
            self.refuse(key, str(error))

    def text(self, key: str) -> str:
        """What was given. Raises ConfigError: it has control characters."""
        text = self.given[key].text
        if not text.isprintable():
            self.refuse(key, f"{text!r} has control characters")
        return text

    def refuse(self, key: str, rule: str) -> NoReturn:
        """Raise ConfigError: the setting breaks a rule."""
        raise ConfigError(f"{key} ({self.given[key].source}): {rule}")


def parse_switch(text: str) -> bool:
    """``true`` or ``false``, and other words for them. Raises ValueError."""
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError(f"{text!r} is not true or false")


def one_of(*names: str) -> Callable[[str], str]:
    """A parser of these words, in lower case. It raises ValueError."""

    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text.lower()

    return parse


def items(text: str) -> list[str]:
    """What stands between commas."""
    return [item.strip() for item in text.split(",")] if text.strip() else []


def parse_url(text: str) -> str | None:
    """``http(s)://HOST[:PORT][/PATH]`` without a slash at its end; None for nothing. Raises ValueError."""
    if not text:
        return None
    if not re.fullmatch(r"[!-~]+", text) or set(text) & set('"<>\\^`{|}'):
        raise ValueError(f"{text!r} has a character that a URL writes as %XX")  # it becomes part of Location
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or "@" in url.netloc:
        raise ValueError(f"{text!r} is not http(s)://HOST[:PORT][/PATH]")
    parse_host(url.hostname)
    url.port  # noqa: B018  # raises ValueError when it is no port
    return text.rstrip("/")
