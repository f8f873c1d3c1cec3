"""Threads for calls that may hang: an interpreter that ends does not wait for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["DaemonThreads"]

T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """Calls functions in threads, `most` at a time.

    An interpreter joins the threads of a `ThreadPoolExecutor` before it ends, whatever they wait for. These are left behind.

    Examples
    --------
    >>> with DaemonThreads(2, "doubling") as threads:
    ...     [future.result() for future in [threads.submit(lambda n: 2 * n, n) for n in range(3)]]
    [0, 2, 4]
    """

    def __init__(self, most: int, name: str) -> None:
        super().__init__(most, name)
        self._most, self._name = most, name
        self._orders: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = self._pending = 0  # threads; calls that have not ended
        self._ends = False

    def submit(self, function: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        """Have a function called; the future tells what became of it.

        Raises
        ------
        RuntimeError
            After `shutdown`.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._ends:
                raise RuntimeError("no calls are taken after the shutdown")
            self._pending += 1
            self._orders.put((future, lambda: function(*arguments, **named)))
            if self._started < min(self._most, self._pending):
                self._started += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            future, call = order
            try:
                if future.set_running_or_notify_cancel():
                    future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                future.set_exception(error)
            with self._lock:
                self._pending -= 1
            # It must not be held until the next call comes.
            del order, future, call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; threads end behind what they do. Nobody waits for them, whatever `wait` is."""
        with self._lock:
            self._ends = True
            for _ in range(self._started):
                self._orders.put(None)
