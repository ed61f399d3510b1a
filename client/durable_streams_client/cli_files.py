"""``durable-streams export`` and ``import``: streams as files."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from durable_streams_client import cli_common as common
from durable_streams_client._formats import FORMATS, Importer, default_format, exported
from durable_streams_client.cli_input import blocks
from durable_streams_client.cli_progress import Progress
from durable_streams_client.cli_streams import add_type_options, type_of
from durable_streams_client.client import Client
from durable_streams_client.errors import StreamNotFoundError
from durable_streams_client.types import START, is_json

_FORMAT_HELP = """\
formats:
  raw        the data and nothing else; of a JSON stream, a message a line
  jsonl      a JSON value a line: the messages of a JSON stream; else each append as a string, or {"base64": ...}
  delimited  of each message or append its length in four bytes, the highest first, and then itself
"""
_EXPORT = """\
Write what a stream holds into FILE, or to standard output. An interrupted export leaves FILE.part.

examples:
  durable-streams export chat/1 -f chat.jsonl
  durable-streams export numbers | gzip > numbers.gz
"""
_IMPORT = """\
Append what FILE holds, or what comes on standard input, to a stream, which is made if it is not there and its type is
given. Each record is stored exactly once, in order. Records are gathered into larger appends.

examples:
  durable-streams import chat/2 chat.jsonl --json
  durable-streams export chat/1 | durable-streams import chat/1 --json --target other:4438
"""


def run(command: str, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run ``export`` or ``import`` and return the exit code; ``argv`` is what comes after it."""
    parser = build(command)
    try:
        options = parser.parse_intermixed_args(list(argv))
        common.take_environment(parser, options, environ)
    except SystemExit as exit_:  # argparse has printed help (0) or its complaint (2)
        return common.EXIT_USAGE if exit_.code else common.EXIT_OK
    return common.run(_export if command == "export" else _import, options)


def build(command: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    long, _, examples = (_EXPORT if command == "export" else _IMPORT).partition("\nexamples:")
    parser = argparse.ArgumentParser(
        prog=f"durable-streams {command}",
        description=long,
        epilog=f"{_FORMAT_HELP}\nexamples:{examples}\n{common.EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("path", metavar="PATH", help="of the stream")
    if command == "export":
        parser.add_argument(
            "-f", "--file", metavar="FILE", type=Path, help="what is written (default: standard output)"
        )
        parser.add_argument("--offset", metavar="OFFSET", default=START, help="where to begin (default -1, the start)")
    else:
        parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="what is read (default: standard input)")
        add_type_options(parser)
        parser.add_argument("--close", action="store_true", help="close the stream afterwards")
    parser.add_argument("--format", choices=FORMATS, help="(default: jsonl for a JSON stream, else raw)")
    common.add_common(parser)
    return parser


# -------------------------------------------------------------------------------------------------------------- export


async def _export(client: Client, options: argparse.Namespace) -> int:
    stream, offset = client.stream(options.path), options.offset
    format_ = options.format or default_format(json_stream=is_json(await stream.known_type()))
    with _output(options.file) as write, Progress(sys.stderr.isatty() and options.file is not None) as progress:
        while True:
            page = await stream.read(offset)
            data = exported(page, format_) if page.bodies else b""
            await asyncio.to_thread(write, data)
            left = page.lag_bytes
            progress.moved(len(data), None if left is None else progress.done + len(data) + left)
            offset = page.next_offset
            if page.up_to_date:
                return common.EXIT_OK


@contextlib.contextmanager
def _output(file: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Where an export goes: a file is there once it is whole."""
    if file is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    part = file.with_name(file.name + ".part")
    with part.open("wb") as out:
        yield out.write
    part.replace(file)


# -------------------------------------------------------------------------------------------------------------- import


async def _import(client: Client, options: argparse.Namespace) -> int:
    stream = client.stream(options.path, content_type=type_of(options))
    if stream.content_type is not None:
        await stream.create()
    try:
        json_stream = is_json(await stream.known_type())
    except StreamNotFoundError:
        text = f"{options.path} is not there: to make it, say of which type it is, with --json or --content-type"
        return common.failed(text, common.EXIT_MISSING)
    importer = Importer(options.format or default_format(json_stream=json_stream), json_stream=json_stream)
    total = options.file.stat().st_size if options.file is not None else None
    with Progress(sys.stderr.isatty()) as progress:
        async with stream.producer() as producer:
            async for block in _blocks(options.file):
                for record in importer.feed(block):
                    await producer.append(record)
                progress.moved(len(block), total)
            for record in importer.end():
                await producer.append(record)
        if options.close:
            await stream.close()
    return common.EXIT_OK


async def _blocks(file: Path | None) -> AsyncIterator[bytes]:
    if file is None:
        async for block in blocks(sys.stdin.buffer.fileno()):
            yield block
        return
    with await asyncio.to_thread(file.open, "rb") as source:
        async for block in blocks(source.fileno()):
            yield block
