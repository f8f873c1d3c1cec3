"""Calls of a coroutine function, in an event loop with a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from streamdsl.daemon_threads import DaemonThreads

__all__ = ["NOTHING", "Calls"]

#: What a call returns that gives no row.
NOTHING: Final = object()
#: How long opening and closing may take; pauses between attempts.
_OPEN_S: Final = 30.0
_CLOSE_S: Final = 2.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0


class Call(Protocol):
    """One row, and what has become of it."""

    row: Any

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Take what the function returned, or raised last."""


def _end(loop: asyncio.AbstractEventLoop, threads: DaemonThreads) -> None:
    threads.shutdown()
    with contextlib.suppress(RuntimeError):  # closed already
        loop.call_soon_threadsafe(loop.stop)


class Calls:
    """Runs calls side by side, `capacity` at most.

    Parameters
    ----------
    function : coroutine function
        Of one row. If it has a method `per_task`, what that returns is called. If it has methods `open` and `close` (coroutine
        functions), they are awaited in the same loop. A call that returns its attribute `nothing` makes no row.
    capacity : int
    timeout_s : float
        Of one attempt.
    retry : int
        Attempts behind the first.
    told : callable
        Called in the loop's thread when a call has ended.
    """

    def __init__(
        self, function: Callable[[Any], Awaitable[Any]], capacity: int, timeout_s: float, retry: int, told: Callable[[], None]
    ) -> None:
        per_task = getattr(function, "per_task", None)
        self._function = function if per_task is None else per_task()
        self._nothing = getattr(self._function, "nothing", NOTHING)
        self._timeout_s = timeout_s
        self._retry = retry
        self._told = told
        self._loop = asyncio.new_event_loop()
        # What the function hands to `asyncio.to_thread` may hang as it may itself.
        threads = DaemonThreads(capacity, "streamdsl-async-call")
        self._loop.set_default_executor(threads)
        self._thread = threading.Thread(target=self._loop.run_forever, name="streamdsl-async", daemon=True)
        # Whoever drops a job without a word, a test its driver, leaves no thread behind.
        weakref.finalize(self, _end, self._loop, threads)
        self._running: set[asyncio.Task[None]] = set()
        # By when each attempt has to end. All may take as long, so they are due in the order in which they stand here.
        self._due: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._slots = asyncio.Semaphore(capacity)
        self._ended = threading.Event()
        self._opened = False

    def start(self) -> None:
        """Start the loop, and open what the function stands on; raises what that raises."""
        self._thread.start()
        opening = getattr(self._function, "open", None)
        if opening is not None:
            asyncio.run_coroutine_threadsafe(opening(), self._loop).result(_OPEN_S)
        self._opened = True

    def submit(self, calls: Sequence[Call]) -> None:
        """Begin calls, in this order."""
        self._loop.call_soon_threadsafe(self._begin, calls)

    def wait(self, seconds: float) -> None:
        """Wait until a call ends, at most so long."""
        self._ended.wait(seconds)
        self._ended.clear()

    def close(self) -> None:
        """Give up what has not ended. A function that does not heed it is left behind."""
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(_CLOSE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_S)
        if not self._thread.is_alive() and not self._loop.is_running():
            self._loop.close()

    async def _leave(self) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        closing = getattr(self._function, "close", None)
        if closing is not None and self._opened:
            await closing()

    def _begin(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._running.add(self._loop.create_task(self._run(call)))

    async def _run(self, call: Call) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with self._slots:
                try:
                    result = await self._tried(call.row, task)
                except Exception as error:  # noqa: BLE001 - whatever user code raises; the operator's policy decides
                    call.finish(None, error)
                else:
                    call.finish(NOTHING if result is self._nothing else result, None)
        finally:
            self._running.discard(task)
        if not self._ended.is_set():  # to set it takes a lock
            self._ended.set()
        self._told()

    async def _tried(self, row: Any, task: asyncio.Task[Any]) -> Any:
        pause = _FIRST_PAUSE_S
        for left in range(self._retry, -1, -1):
            try:
                return await self._attempt(row, task)
            except Exception:
                if not left:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, row: Any, task: asyncio.Task[Any]) -> Any:
        # `asyncio.timeout` has a timer for each attempt, which costs more than all else of a call that is answered from memory.
        self._due[task] = due = self._loop.time() + self._timeout_s
        if self._alarm is None:
            self._alarm = self._loop.call_at(due, self._give_up)
        late: BaseException | None = None
        try:
            return await self._function(row)
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            if cancelled and task.cancelling() > (task in self._late):  # the job ends
                raise
            if task not in self._late:
                if isinstance(error, Exception):
                    raise
                # It is no cancellation of this call, and nobody may end the loop, or the task without a word.
                what = "what it waited for was cancelled" if cancelled else f"it raised {type(error).__name__}"
                raise RuntimeError(f"{what}: {error}" if str(error) else what) from error
            late = error
        finally:
            self._due.pop(task, None)
            if task in self._late:
                self._late.discard(task)
                task.uncancel()
        raise TimeoutError(f"no answer within {self._timeout_s:g} s") from late

    def _give_up(self) -> None:
        """Cancel the attempts that have taken too long."""
        self._alarm = None
        now = self._loop.time()
        while self._due:
            task, due = next(iter(self._due.items()))
            if due > now:
                self._alarm = self._loop.call_at(due, self._give_up)
                return
            del self._due[task]
            self._late.add(task)
            task.cancel()
