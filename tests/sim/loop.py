"""An event loop whose time jumps to the next timer, and that runs several processes, as each is let.

Whatever a process starts, tasks and timers and callbacks, inherits its context. So one that is paused keeps its
callbacks until it goes on, as after SIGSTOP; of one that ended none is ever run, as after SIGKILL; and one whose clock
is fast has fast timers.
"""

import asyncio
import heapq
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol


class Process(Protocol):
    """What the loop wants to know of a life."""

    ended: bool
    paused: bool
    rate: float
    """Seconds of its clock in one of the world's."""
    kept: list[asyncio.Handle]


LIFE: ContextVar[Process | None] = ContextVar("life", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """Everything that happens, happens in an order that only the callers decide."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        """A heap; what is due at the same time comes in the order in which it was asked for."""
        self._asked = 0
        self.set_exception_handler(self._failed)
        self.set_task_factory(_task)
        self.failures: list[BaseException] = []
        """What no task's owner asked about."""

    def time(self) -> float:
        return self.now_s

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        life = LIFE.get() if context is None else context.get(LIFE)
        return self.call_at(
            self.now_s + (delay if life is None else delay / life.rate), callback, *args, context=context
        )

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._asked += 1
        heapq.heappush(self._timers, (when, self._asked, timer))
        return timer

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "never retrieved" in context["message"]:
            return  # Whoever would have asked ended; and it is found when garbage is, at any time.
        error = context.get("exception")
        self.failures.append(error if error is not None else AssertionError(str(context.get("message"))))

    def _check_closed(self) -> None:
        """Coroutines that nobody ended are ended when they are collected, and may still ask for something then."""

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, event_list: Any) -> None:
        pass

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            assert timers, "everything waits and no timer runs: a deadlock"
            self.now_s = max(self.now_s, timers[0][0])
        while timers and timers[0][0] <= self.now_s:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            life = handle._context.get(LIFE)
            if life is None or not (life.ended or life.paused):
                handle._run()
            elif not life.ended:
                life.kept.append(handle)

    def drop(self) -> None:
        """Forget everything that was to come."""
        self._ready.clear()
        self._timers.clear()

    def go_on(self, life: Process) -> None:
        """Let a life that was paused do what it would have done."""
        life.paused = False
        kept, life.kept = life.kept, []
        self._ready.extend(kept)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **more)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # A life may end at any time.
    return task


def context_of(life: Process | None) -> Context:
    """A context in which everything belongs to ``life``."""
    context = copy_context()
    context.run(LIFE.set, life)
    return context
