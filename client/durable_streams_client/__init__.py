"""The client of durable streams, and the ``durable-streams`` command.

The base install holds this package and needs grpcio and protobuf only; the nodes are in the ``[cluster]`` extra. What
is named here is public, and so are ``errors``, ``sync`` and, for users' tests, ``testing``; nothing else is.
"""

from durable_streams_client._batching import ProducerLimits
from durable_streams_client.client import Client
from durable_streams_client.errors import DurableStreamError
from durable_streams_client.follower import FileOffsetStore, Follower, OffsetStore
from durable_streams_client.producer import Producer
from durable_streams_client.stream import Stream
from durable_streams_client.types import (
    NOW,
    START,
    AppendResult,
    CreateResult,
    HeadResult,
    ListedStream,
    Offset,
    Page,
)

__all__ = [
    "NOW",
    "START",
    "AppendResult",
    "Client",
    "CreateResult",
    "DurableStreamError",
    "FileOffsetStore",
    "Follower",
    "HeadResult",
    "ListedStream",
    "Offset",
    "OffsetStore",
    "Page",
    "Producer",
    "ProducerLimits",
    "Stream",
]
