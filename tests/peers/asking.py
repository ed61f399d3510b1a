"""What the tests of this folder share: requests as text against a node in memory, and what came back as values."""

import json
import re
from typing import Any

from tests.gateway import asgi
from tests.gateway.asgi import Exchange
from tests.runtime.world import World, settle

EVENT = re.compile(rb"event: (data|control)\n((?:data:.*\n)+)\n")
TEXT = "content-type: text/plain"


def target(path: str) -> str:
    return f"/v1/stream/{path}"


async def begin(world: World, request: str) -> Exchange:
    """Send a request; everything happens that needs no time to pass."""
    exchange = asgi.parse(request)
    exchange.begin(world.app)
    await settle()
    return exchange


async def ask(world: World, request: str) -> Exchange:
    """Send a request and wait for its whole answer."""
    exchange = asgi.parse(request)
    exchange.begin(world.app)
    await exchange.finish()
    return exchange


async def put(world: World, path: str, body: str = "", *headers: str) -> Exchange:
    """Create a stream of text; headers as lines."""
    return await ask(world, "\n".join([f"PUT {target(path)}", TEXT, *headers, "", body]))


async def post(world: World, path: str, body: str, *headers: str) -> Exchange:
    """Append text."""
    return await ask(world, "\n".join([f"POST {target(path)}", TEXT, *headers, "", body]))


async def close(world: World, path: str, *headers: str) -> Exchange:
    return await ask(world, "\n".join([f"POST {target(path)}", "stream-closed: true", *headers, "", ""]))


async def delete(world: World, path: str) -> Exchange:
    return await ask(world, f"DELETE {target(path)}")


async def get(world: World, path: str, query: str = "offset=-1", *headers: str) -> Exchange:
    return await ask(world, "\n".join([f"GET {target(path)}?{query}", *headers, "", ""]))


async def head(world: World, path: str) -> Exchange:
    return await ask(world, f"HEAD {target(path)}")


async def long_poll(world: World, path: str, offset: str = "now") -> Exchange:
    """A long-poll that waits."""
    exchange = await begin(world, f"GET {target(path)}?offset={offset}&live=long-poll")
    assert not exchange.done, "it waits"
    return exchange


async def sse(world: World, path: str, offset: str = "-1") -> Exchange:
    """An SSE read that is open."""
    exchange = await begin(world, f"GET {target(path)}?offset={offset}&live=sse")
    assert (exchange.status, exchange.done) == (200, False)
    return exchange


def offset(exchange: Exchange) -> str:
    """Its Stream-Next-Offset."""
    value = exchange.header(b"stream-next-offset")
    assert value is not None
    return value.decode()


def said(exchange: Exchange) -> tuple[int | None, bytes, bool]:
    """Status, body, and whether it says that the stream is closed."""
    return exchange.status, exchange.body, exchange.header(b"stream-closed") == b"true"


def events(exchange: Exchange) -> list[tuple[str, Any]]:
    """The events of an SSE answer: ``("data", text)`` and ``("control", fields)``, nothing left over."""
    body = exchange.body.replace(b": keep-alive\n\n", b"")
    assert EVENT.sub(b"", body) == b"", "nothing but whole events"
    found: list[tuple[str, Any]] = []
    for kind, lines in EVENT.findall(body):
        text = "\n".join(re.sub("^ ", "", line[5:]) for line in lines.decode().splitlines())
        found.append((kind.decode(), text if kind == b"data" else json.loads(text)))
    return found


def data(exchange: Exchange) -> str:
    """All the text of an SSE answer; each data event has its control event behind it."""
    found = events(exchange)
    for number, (kind, _) in enumerate(found):
        following = found[number + 1][0] if number + 1 < len(found) else None
        assert kind == "control" or following == "control", "data without the offset behind it"
    return "".join(text for kind, text in found if kind == "data")


def control(exchange: Exchange) -> dict[str, Any]:
    """The last control event."""
    fields: dict[str, Any] = [fields for kind, fields in events(exchange) if kind == "control"][-1]
    return fields
