"""The node: replicated, durable streams behind an HTTP gateway.

Layers, from the pure middle outwards (read them in this order):

1. ``streams``: the rules of the protocol as a state machine; no disk, no clock, no HTTP.
2. ``raft``: the consensus core; ``tick``, ``step``, ``propose``, ``ready`` and nothing else.
3. ``storage``: the key space, and the two stores (RocksDB, memory) behind one small port.
4. ``replica``: joins the three, one synchronous turn at a time: events in, ``Effects`` out.
5. ``runtime``: the shell; the event loop, the disk thread, what can block or fail.
6. ``gateway``: HTTP in and out as values, and the two loops that wait (long-poll, SSE).
7. ``observe``: what the node says of itself.

``api.Streams`` is the one door between 5 and 6, ``asked`` what every request has to keep to, however it came; ``node``
builds every object; ``cli`` reads argv and environment.
"""

__version__ = "0.1.0"
