"""How a gRPC listener gets its port: on every address of the host, or with an error that says why not."""

import asyncio
import errno
import socket

import grpc

from durable_streams_cluster.errors import ConfigError
from durable_streams_cluster.settings import Address


async def bind(server: grpc.aio.Server, name: str, address: Address) -> int:
    """Open a port on each address that the host stands for: gRPC is content when it gets one of them.

    Args:
        server: Not started yet.
        name: Of the listener, for the error.
        address: Port 0: the system picks one, the same on all of them.

    Returns:
        The real port.

    Raises:
        ConfigError: the address cannot be had.

    """
    port = address.port
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, port, type=socket.SOCK_STREAM)
        bound = 0
        # IPv4 first, so that port 0 is picked there and then tried for the others.
        for family, _, _, _, at in sorted(set(found), key=lambda info: info[0]):
            try:
                _try(family, at[0], port)
            except OSError as error:
                if bound and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # localhost is also ::1 in /etc/hosts of machines without IPv6.
                raise
            port = server.add_insecure_port(str(Address(str(at[0]), port)))
            bound += 1
    except (OSError, RuntimeError) as error:
        number = error.errno if isinstance(error, OSError) else errno.EADDRINUSE
        reason = "the address is in use" if number == errno.EADDRINUSE else str(error)
        raise ConfigError(f"{name}: cannot listen on {address}: {reason}") from error
    return port


def _try(family: int, host: object, port: int) -> None:
    """Bind and let go: gRPC writes to standard error what is wrong, and raises without saying it."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((host, port))
