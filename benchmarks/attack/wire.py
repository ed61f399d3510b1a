"""Requests and answers on a blocking socket, as small as they can be: a client here must not be what is measured."""

import socket

HOST = "127.0.0.1"


def dial(port: int, rcvbuf: int = 0, limit: float = 20.0) -> socket.socket:
    connection = socket.socket()
    if rcvbuf:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    connection.settimeout(limit)
    connection.connect((HOST, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def get(path: str, query: str = "") -> bytes:
    return f"GET /v1/stream/{path}{'?' * bool(query)}{query} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()


def post(path: str, body: bytes, method: str = "POST", kind: str = "text/plain") -> bytes:
    head = f"{method} /v1/stream/{path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Client:
    """One connection, opened again when it has ended; one request at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket: socket.socket | None = None
        self.buffer = b""

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body. Asks once more when a connection that was kept turns out to be closed."""
        for attempt in (1, 2):
            fresh = self.socket is None
            try:
                self.open().sendall(request)
                return self._answer()
            except (ConnectionError, EOFError):
                self.close()
                if fresh or attempt == 2:
                    raise
        raise AssertionError

    def open(self) -> socket.socket:
        """Connect, unless that is done."""
        if self.socket is None:
            self.socket, self.buffer = dial(self.port), b""
        return self.socket

    def _answer(self) -> tuple[int, dict[str, str], bytes]:
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self._more()
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        self.buffer = self.buffer[end + 4 :]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        size = int(headers.get("content-length", "0"))
        parts, have = [self.buffer], len(self.buffer)
        self.buffer = b""
        while have < size:
            self._more()
            parts.append(self.buffer)
            have += len(self.buffer)
            self.buffer = b""
        whole = b"".join(parts)
        self.buffer = whole[size:]
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split(" ")[1]), headers, whole[:size]

    def _more(self) -> None:
        assert self.socket is not None
        data = self.socket.recv(1 << 20)
        if not data:
            raise EOFError
        self.buffer += data

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None
