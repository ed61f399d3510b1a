"""What a connection is told before any application sees its request: whole answers, made once. Pure."""

from durable_streams_cluster.gateway.status import problem


def _refusal(status: int, code: str, message: str) -> bytes:
    """All of a refusal that follows its date, like the application's errors: a browser's script may read it too."""
    retry = ((b"retry-after", b"1"),) if status == 503 else ()
    answer = problem(status, code, message, (*retry, (b"connection", b"close")))
    lines = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    return b"".join([*(b"%s: %s\r\n" % line for line in lines), b"\r\n", answer.body])


REFUSALS = {
    400: _refusal(400, "bad_request", "the request is malformed, or has not one valid Host header"),
    408: _refusal(408, "request_timeout", "the request head took too long"),
    414: _refusal(414, "target_too_long", "the request target is too long"),
    431: _refusal(431, "head_too_large", "the request head is too large"),
    501: _refusal(501, "method_not_supported", "the method is not supported"),
    503: _refusal(503, "unavailable", "too many connections, or the server is shutting down"),
}
