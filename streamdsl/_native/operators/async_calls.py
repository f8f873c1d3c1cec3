"""Calls of a coroutine function, in an event loop with a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from streamdsl.daemon_threads import DaemonThreads

__all__ = ["NOTHING", "Calls"]

#: Calls that are made together, at most.
_TOGETHER: Final = 256
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


def _ring(calls: weakref.ref[Calls]) -> None:
    # The loop must not keep calls that have been dropped until their time is over.
    if (those := calls()) is not None:
        those._give_up()


class Calls:
    """Runs calls side by side, `capacity` at most.

    Parameters
    ----------
    function : coroutine function
        Of one row. If it has a method `per_task`, what that returns is called. If it has methods `open` and `close` (coroutine
        functions), they are awaited in the same loop. A call that returns its attribute `nothing` makes no row.
        If it has an attribute `many` that is not None, that is called: a coroutine function of several rows and of a function that
        takes what each one ends with, ``ended(place, result or exception)``.
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
        self._many = getattr(self._function, "many", None)
        self._waiting: deque[Call] = deque()  # calls that are made together with others, until there is room for them
        self._room = capacity
        self._telling = False
        # Half of the calls wait for answers while those of the other half are dealt with.
        self._together = max(1, min(_TOGETHER, capacity // 2))
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
        if self._many is not None:
            self._waiting.extend(calls)
            self._begin_together()
            return
        for call in calls:
            self._running.add(self._loop.create_task(self._run(call)))

    def _begin_together(self) -> None:
        while self._waiting and self._room:
            n = min(len(self._waiting), self._room, self._together)
            self._room -= n
            self._running.add(self._loop.create_task(self._run_together([self._waiting.popleft() for _ in range(n)])))

    async def _run_together(self, calls: list[Call]) -> None:
        task = asyncio.current_task()
        assert task is not None
        pause = _FIRST_PAUSE_S
        try:
            for left in range(self._retry, -1, -1):
                calls = await self._tried_together(calls, task, last=not left)
                if not calls:
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        finally:
            self._running.discard(task)

    async def _tried_together(self, calls: Sequence[Call], task: asyncio.Task[Any], *, last: bool) -> list[Call]:
        """Make one attempt; return the calls that are to be made again."""
        again: list[Call] = []
        left = dict(enumerate(calls))

        def ended(place: int, result: Any) -> None:
            call = left.pop(place, None)
            if call is None:
                return
            if isinstance(result, Exception):
                if not last:
                    again.append(call)
                    return
                call.finish(None, result)
            else:
                call.finish(NOTHING if result is self._nothing else result, None)
            self._room += 1
            if not self._telling:
                self._telling = True
                self._loop.call_soon(self._tell)

        many = self._many
        assert many is not None
        try:
            await self._attempt(lambda rows: many(rows, ended), [call.row for call in calls], task)
            error: Exception = RuntimeError("the look-up ended without an answer")
        except Exception as raised:  # noqa: BLE001 - whatever a look-up raises; the operator's policy decides
            error = raised
        for place in list(left):
            ended(place, error)
        return again

    def _tell(self) -> None:
        """Say that calls have ended, once for all of a turn of the loop, and begin others."""
        self._telling = False
        self._ended.set()
        self._told()
        self._begin_together()

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
                return await self._attempt(self._function, row, task)
            except Exception:
                if not left:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, function: Callable[[Any], Awaitable[Any]], argument: Any, task: asyncio.Task[Any]) -> Any:
        # `asyncio.timeout` has a timer for each attempt, which costs more than all else of a call that is answered from memory.
        self._due[task] = due = self._loop.time() + self._timeout_s
        if self._alarm is None:
            self._alarm = self._loop.call_at(due, _ring, weakref.ref(self))
        late: BaseException | None = None
        try:
            return await function(argument)
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
                self._alarm = self._loop.call_at(due, _ring, weakref.ref(self))
                return
            del self._due[task]
            self._late.add(task)
            task.cancel()
