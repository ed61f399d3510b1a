"""How gRPC is set up, between nodes and for clients: every value that is not its default, and why.

Relied on, and not set here: C-core answers pings on threads of its own, so that a node whose event loop is late is not
taken for dead. A process that has these threads must not fork: ``subprocess`` spawns, uvloop's subprocesses fork.
"""

from durable_streams_cluster.limits import KIB, MIB, PEER_CONNECTIONS, GrpcLimits, PeerLimits

Options = list[tuple[str, int]]
UNBOUNDED = -1


def common(limits: PeerLimits | GrpcLimits, send_bytes: int) -> Options:
    """Of both ends; ``send_bytes``: of one message that this one sends, at most."""
    return [
        ("grpc.max_send_message_length", send_bytes),
        ("grpc.max_metadata_size", 8 * KIB),
        ("grpc.absolute_max_metadata_size", 16 * KIB),
        # A process that stopped, or a cable that was pulled, is noticed within the sum of time and timeout. The timeout
        # named for it bounds TCP's retries (TCP_USER_TIMEOUT) and nothing else: what ends the connection is that of
        # pings, a minute by default (grpc/grpc#39239).
        ("grpc.keepalive_time_ms", int(limits.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout_s * 1000)),
        ("grpc.http2.ping_timeout_ms", int(limits.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Else pings stop after the second one without data.
        ("grpc.http2.max_pings_without_data", 0),
    ]


def dialing(limits: PeerLimits) -> Options:
    """Of a channel, which lives for one attempt and one stream: its successor asks DNS anew."""
    return [
        *common(limits, limits.message_bytes),
        # Acknowledgements.
        ("grpc.max_receive_message_length", 64 * KIB),
        # Else channels to one address share one connection, and its fate, with each other and with the attempt before.
        ("grpc.use_local_subchannel_pool", 1),
        # HTTP_PROXY and its like are for the world outside.
        ("grpc.enable_http_proxy", 0),
        # A stream that broke is not opened again behind our back; and DNS has no say in how.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        # How long one TCP connection may take; the name promises something else.
        ("grpc.min_reconnect_backoff_ms", int(limits.greeting_timeout_s * 1000)),
    ]


def listening(limits: PeerLimits) -> Options:
    """Of the peer listener."""
    return [
        *_accepting(limits, PEER_CONNECTIONS, streams=2, send_bytes=limits.message_bytes),
        # What a dialer may have under way before we took it. Left alone it is sized by measured bandwidth, up to many
        # megabytes, which a heartbeat then stands behind.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", MIB),
    ]


def serving(limits: GrpcLimits) -> Options:
    """Of the listener for clients."""
    # A page has a bound of its own, in bytes of data; of many small appends the message is several times as large.
    return [
        *_accepting(limits, limits.connections, limits.streams, send_bytes=UNBOUNDED),
        # Calls that came and were not looked at yet. By default some are cancelled beyond 1,000: a gateway that goes on
        # elsewhere follows thousands of streams at once.
        ("grpc.server.max_pending_requests", limits.streams),
        ("grpc.server.max_pending_requests_hard_limit", limits.streams),
    ]


def _accepting(limits: PeerLimits | GrpcLimits, connections: int, streams: int, *, send_bytes: int) -> Options:
    """Of a listener with so many connections, and so many streams on each."""
    return [
        *common(limits, send_bytes),
        ("grpc.max_receive_message_length", limits.message_bytes),
        # On by default: a second process would get half of the connections to the same port instead of an error.
        ("grpc.so_reuseport", 0),
        # The other end's keepalive is a good sign. By default a ping within five minutes of the last is a strike, and
        # the third ends the connection with ENHANCE_YOUR_CALM, upon which dialers double their interval.
        ("grpc.http2.min_ping_interval_without_data_ms", int(limits.keepalive_s * 1000) // 10),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.max_concurrent_streams", streams),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.server_handshake_timeout_ms", 5_000),
        ("grpc.max_connection_idle_ms", 30_000),
    ]
