"""``durable-streams create|append|read|tail|head|close|delete|fork|list``: streams from a shell."""

import argparse
import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence

from durable_streams_client import _arguments as arguments
from durable_streams_client import cli_common as common
from durable_streams_client._admin_text import printable
from durable_streams_client._encoding import dumped, messages_of
from durable_streams_client.cli_input import blocks
from durable_streams_client.client import Client
from durable_streams_client.stream import Stream
from durable_streams_client.types import NOW, START, AppendResult, Page, is_json

JSON, TEXT = "application/json", "text/plain"

_DESCRIPTIONS: Mapping[str, tuple[str, str]] = {
    "create": (
        "Make a stream, or confirm that it is there as asked. What is written to a stream of application/json (--json) "
        "is messages; to others, bytes.",
        "durable-streams create chat/1 --json --ttl 1h",
    ),
    "append": (
        "Append DATA, words joined by blanks, or what comes on standard input. In DATA \\n, \\r, \\t and \\\\ stand "
        "for what they do elsewhere. Prints where it ends.",
        "durable-streams append notes 'first line\\n'\n  durable-streams append chat/1 --json '{\"say\": \"hi\"}'\n"
        "  seq 100000 | durable-streams append numbers --lines --create",
    ),
    "read": (
        "Print what is there, and with --live what comes, too. Messages are printed one a line.",
        "durable-streams read notes\n  durable-streams read chat/1 --live | jq .say",
    ),
    "tail": (
        "Print what is appended from now on, until the stream is closed; whatever node dies, nothing is left out. "
        "Messages are printed one a line.",
        "durable-streams tail chat/1 | jq .say\n  durable-streams tail notes --offset -1",
    ),
    "head": (
        "Show what is known of a stream besides its data.",
        "durable-streams head chat/1",
    ),
    "close": (
        "Let a stream take no more appends, for ever.",
        "durable-streams close chat/1",
    ),
    "delete": (
        "Delete a stream. Its data stays as long as forks need it.",
        "durable-streams delete chat/1",
    ),
    "fork": (
        "Make the stream FORK, which has what PATH has up to --offset, and goes its own way from there.",
        "durable-streams fork chat/1 chat/1-retry --offset 0000000000000001_0000000000000042",
    ),
    "list": ("List streams by path.", "durable-streams list chat/"),
}
"""What each does, and examples."""
NAMES: Sequence[str] = tuple(_DESCRIPTIONS)


def run(command: str, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one of ``_DESCRIPTIONS`` and return the exit code; ``argv`` is what comes after it."""
    name = "append" if command == "write" else command
    parser = build(name, command)
    try:
        options = parser.parse_intermixed_args(list(argv))
        common.take_environment(parser, options, environ)
    except SystemExit as exit_:  # argparse has printed help (0) or its complaint (2)
        return common.EXIT_USAGE if exit_.code else common.EXIT_OK
    return common.run(_RUN[name], options)


def build(name: str, shown: str = "") -> argparse.ArgumentParser:
    """The parser of one command; ``shown``: what it was called by."""
    long, examples = _DESCRIPTIONS[name]
    parser = argparse.ArgumentParser(
        prog=f"durable-streams {shown or name}",
        description=long,
        epilog=f"examples:\n  {examples}\n\n{common.EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if name == "list":
        parser.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help="only paths that begin with it")
        parser.add_argument("--after", metavar="PATH", default="", help="only those behind it")
        parser.add_argument("--limit", metavar="N", type=arguments.count, default=1000, help="(default 1000)")
    else:
        parser.add_argument("path", metavar="PATH", help="of the stream: what stands behind /v1/stream/ in its URL")
    _OPTIONS[name](parser)
    common.add_common(parser)
    if name in ("create", "append", "head", "close", "fork", "list", "read", "tail"):
        parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="(default table)")
    return parser


# ------------------------------------------------------------------------------------------------------------- options


def add_type_options(parser: argparse.ArgumentParser, *, batch: bool = False) -> None:
    """Of which type the stream is."""
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--content-type", metavar="TYPE", help="of the stream, as text/plain")
    kinds.add_argument("--json", action="store_true", help=f"the type is {JSON}; DATA is one message")
    if batch:
        kinds.add_argument("--batch-json", action="store_true", help="the same; DATA is an array of messages")


def _lifetime_options(parser: argparse.ArgumentParser) -> None:
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--ttl", metavar="TIME", type=arguments.whole_seconds, help="it ends so long after its last use")
    ends.add_argument("--expires-at", metavar="TIME", type=arguments.unix_ms, help="it ends then: 2030-01-01T00:00:00Z")


def _create_options(parser: argparse.ArgumentParser) -> None:
    add_type_options(parser)
    _lifetime_options(parser)
    parser.add_argument("--closed", action="store_true", help="it takes no appends")


def _append_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", nargs="*", help="what to append (default: standard input)")
    add_type_options(parser, batch=True)
    parser.add_argument(
        "--lines", action="store_true", help="each line of the input is one record, stored exactly once"
    )
    parser.add_argument("--create", action="store_true", help="make the stream if it is not there")
    parser.add_argument("--close", action="store_true", help="it is the last append")
    parser.add_argument("--seq", metavar="TEXT", help="must grow from append to append (Stream-Seq)")
    parser.add_argument("--if-match", metavar="OFFSET", help="only if the stream ends there")


def _read_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--offset", metavar="OFFSET", default=START, help="where to begin: -1 (the start), now, or one that was printed"
    )
    parser.add_argument("--live", action="store_true", help="then print what comes, until the stream is closed")


def _tail_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--offset",
        metavar="OFFSET",
        default=NOW,
        help="where to begin: -1 (the start), now (default), or one that was printed",
    )


def _fork_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fork", metavar="FORK", help="path of the fork")
    parser.add_argument("--offset", metavar="OFFSET", help="where it parts from the other (default: at its end)")
    parser.add_argument(
        "--sub-offset", metavar="N", type=arguments.count, default=0, help="so many messages, or bytes, behind"
    )
    _lifetime_options(parser)


def _no_options(parser: argparse.ArgumentParser) -> None:
    del parser


_OPTIONS = {
    "create": _create_options,
    "append": _append_options,
    "read": _read_options,
    "tail": _tail_options,
    "head": _no_options,
    "close": _no_options,
    "delete": _no_options,
    "fork": _fork_options,
    "list": _no_options,
}


# ------------------------------------------------------------------------------------------------------------ commands


async def _create(client: Client, options: argparse.Namespace) -> int:
    stream = client.stream(options.path, content_type=type_of(options))
    made = await stream.create(ttl_s=options.ttl, expires_at_ms=options.expires_at, closed=options.closed)
    word = "was there" if made.existed else "made"
    return _say(
        options,
        f"{word}: {options.path} ({made.content_type})",
        existed=made.existed,
        contentType=made.content_type,
        nextOffset=made.next_offset,
    )


async def _append(client: Client, options: argparse.Namespace) -> int:
    if options.lines and options.data:
        raise ValueError("--lines reads standard input: leave out DATA")
    stream = client.stream(options.path, content_type=type_of(options))
    if options.create:
        stream.content_type = stream.content_type or TEXT
        await stream.create()
    if options.lines:
        return await _append_lines(stream, options)
    data = await _data(options)
    if not data and options.close:
        return _ended(options, await stream.close())
    type_ = await stream.known_type()
    if is_json(type_) and not options.batch_json:
        _check_json(data)
        data = b"[" + data + b"]"  # One message, also if it is an array.
    done = await stream.append(data, stream_seq=options.seq, if_match=options.if_match, close=options.close)
    return _ended(options, done)


async def _append_lines(stream: Stream, options: argparse.Namespace) -> int:
    json_lines = is_json(await stream.known_type())
    async with stream.producer() as producer:
        async for line in lines(blocks(sys.stdin.buffer.fileno())):
            record = line.strip() if json_lines else line
            if record:
                await producer.append(record)
    end = (await stream.close() if options.close else None) or AppendResult((await stream.head()).offset)
    return _ended(options, end)


async def _read(client: Client, options: argparse.Namespace) -> int:
    stream, offset = client.stream(options.path), options.offset
    if options.live:
        return await _print_all(stream.follow(offset), options)
    while True:
        page = await stream.read(offset)
        await _print(page, options)
        if page.up_to_date:
            return common.EXIT_OK
        offset = page.next_offset


async def _tail(client: Client, options: argparse.Namespace) -> int:
    return await _print_all(client.stream(options.path).follow(options.offset), options)


async def _print_all(pages: AsyncIterator[Page], options: argparse.Namespace) -> int:
    async for page in pages:
        await _print(page, options)
    return common.EXIT_OK


async def _head(client: Client, options: argparse.Namespace) -> int:
    found = await client.stream(options.path).head()
    rows = {
        "contentType": found.content_type,
        "firstOffset": found.first_offset or None,
        "nextOffset": found.offset,
        "closed": found.closed,
        "ttlSeconds": found.ttl_s,
        "expiresAtMs": found.expires_at_ms,
    }
    width = max(map(len, rows))
    table = "\n".join(f"{name:<{width}}  {_plain(value)}" for name, value in rows.items() if value is not None)
    return _say(options, table, **rows)


async def _close(client: Client, options: argparse.Namespace) -> int:
    return _ended(options, await client.stream(options.path).close())


async def _delete(client: Client, options: argparse.Namespace) -> int:
    await client.stream(options.path).delete()
    return common.EXIT_OK


async def _fork(client: Client, options: argparse.Namespace) -> int:
    fork = await client.stream(options.path).fork(
        options.fork,
        offset=options.offset,
        sub_offset=options.sub_offset,
        ttl_s=options.ttl,
        expires_at_ms=options.expires_at,
    )
    return _say(options, f"made: {fork.path} ({fork.content_type})", path=fork.path, contentType=fork.content_type)


async def _list(client: Client, options: argparse.Namespace) -> int:
    left = options.limit
    async for each in client.list(options.prefix, after=options.after):
        if options.output == "json":
            row = {
                "path": each.path,
                "contentType": each.content_type,
                "firstOffset": each.first_offset,
                "nextOffset": each.next_offset,
                "closed": each.closed,
            }
            _line(json.dumps(row, ensure_ascii=False))
        else:
            _line(f"{each.next_offset}  {'closed' if each.closed else '      '}  {each.content_type:<24}  {each.path}")
        left -= 1
        if not left:
            sys.stderr.write(f"there may be more: --limit N, or --after {each.path!r}\n")
            break
    return common.EXIT_OK


_RUN: Mapping[str, common.Command] = {
    "create": _create,
    "append": _append,
    "read": _read,
    "tail": _tail,
    "head": _head,
    "close": _close,
    "delete": _delete,
    "fork": _fork,
    "list": _list,
}


# ---------------------------------------------------------------------------------------------------- input and output


def type_of(options: argparse.Namespace) -> str | None:
    """The content type that was asked for."""
    return JSON if options.json or getattr(options, "batch_json", False) else options.content_type


async def _data(options: argparse.Namespace) -> bytes:
    if options.data:
        return arguments.unescaped(" ".join(options.data)).encode()
    if options.close and sys.stdin.isatty():
        return b""
    return b"".join([block async for block in blocks(sys.stdin.buffer.fileno())])


def _check_json(data: bytes) -> None:
    try:
        json.loads(data)
    except RecursionError:
        raise ValueError("DATA is not JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f'DATA is not JSON: {error}. Quote it for the shell, like \'{{"say": "hi"}}\'') from None


async def lines(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines of what comes, with their ends."""
    rest = b""
    async for block in source:
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            for line in whole.split(b"\n"):
                yield line + b"\n"
    if rest:
        yield rest


async def _print(page: Page, options: argparse.Namespace) -> None:
    """What a page holds, on standard output; in a thread, for whoever reads may be slow."""
    if page.bodies:
        await asyncio.to_thread(_write, _as_json(page) if options.output == "json" else _as_text(page))


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _as_text(page: Page) -> bytes:
    if page.is_json:
        return b"".join(message + b"\n" for message in messages_of(page))
    return page.data


def _as_json(page: Page) -> bytes:
    row: dict[str, object] = {"offset": page.offset, "nextOffset": page.next_offset, "closed": page.closed}
    if page.is_json:
        row["messages"] = page.json()
    else:
        try:
            row["text"] = page.text()
        except UnicodeDecodeError:
            row["base64"] = base64.b64encode(page.data).decode()
    return dumped(row) + b"\n"


def _ended(options: argparse.Namespace, done: AppendResult) -> int:
    return _say(options, done.next_offset, nextOffset=done.next_offset, closed=done.closed)


def _say(options: argparse.Namespace, text: str, **fields: object) -> int:
    _line(json.dumps(fields, ensure_ascii=False) if options.output == "json" else text)
    return common.EXIT_OK


def _line(text: str) -> None:
    for each in text.split("\n"):
        sys.stdout.write(f"{printable(each)}\n")
    sys.stdout.flush()


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
