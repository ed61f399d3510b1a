"""The ops listener: ``/livez``, ``/readyz`` and ``/metrics``, as a small ASGI application.

``/livez`` answers as long as the event loop turns: an orchestrator restarts the process when it does not. ``/readyz``
asks the checks it was given and is 503 while one of them says no: traffic goes elsewhere, nobody is restarted.
``?verbose`` lists the checks; what is listed is for operators, so this listener is not for the public.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from durable_streams_cluster.observe.metrics import Metrics

Check = Callable[[], tuple[bool, str]]
"""Returns whether all is well, and a few words on it. Called on each probe: quick, and without waiting."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_TEXT = "text/plain; charset=utf-8"
_SECURITY = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class HealthApp:
    """Answers probes and scrapes. ``ready`` are the checks of ``/readyz`` by name, ``live`` those of ``/livez``."""

    def __init__(self, ready: Mapping[str, Check], metrics: Metrics, live: Mapping[str, Check] | None = None) -> None:
        self._checks = {"/readyz": ready, "/livez": live or {}}
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        status, content_type, body = self._answer(scope["method"], scope["path"], scope["query_string"])
        headers = [
            (b"content-type", content_type.encode("ascii")),
            (b"content-length", str(len(body)).encode("ascii")),
            *_SECURITY,
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, method: str, path: str, query: bytes) -> tuple[int, str, bytes]:
        if path not in self._checks and path != "/metrics":
            return 404, _TEXT, b"here are /livez, /readyz and /metrics\n"
        if method not in ("GET", "HEAD"):
            return 405, _TEXT, b"method not allowed\n"
        if path == "/metrics":
            return 200, self._metrics.content_type, self._metrics.render()
        verbose = "verbose" in parse_qs(query.decode("latin-1"), keep_blank_values=True)
        return _report(self._checks[path], verbose)


def failing(checks: Mapping[str, Check]) -> list[str]:
    """Return the checks that say no, with their words."""
    return [f"{name}: {detail}" for name, ok, detail in _results(checks) if not ok]


def _report(checks: Mapping[str, Check], verbose: bool) -> tuple[int, str, bytes]:
    results = _results(checks)
    healthy = all(ok for _, ok, _ in results)
    lines = [f"[{'+' if ok else '-'}]{name}: {detail}" for name, ok, detail in results if verbose or not ok]
    text = "\n".join([*lines, "ok" if healthy else "not ok"]) + "\n"
    return (200 if healthy else 503), _TEXT, text.encode("utf-8", "backslashreplace")


def _results(checks: Mapping[str, Check]) -> list[tuple[str, bool, str]]:
    """Run every check: with one that failed, an operator wants to see the others as well."""
    return [(name, *_run(check)) for name, check in checks.items()]


def _run(check: Check) -> tuple[bool, str]:
    try:
        return check()
    except Exception as error:  # a broken check is a failed check, not a broken probe
        return False, f"{type(error).__name__}: {error}"
