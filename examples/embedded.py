"""Streams in an application of your own, without a server beside it.

uvicorn --app-dir examples --timeout-graceful-shutdown 5 embedded:app

Then: curl -X PUT http://127.0.0.1:8000/streams/v1/stream/hello -d 'hello world'
"""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from durable_streams_cluster import EmbeddedNode

node = EmbeddedNode("./data", max_append_bytes="1MiB")


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with node:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/streams", node.asgi)
