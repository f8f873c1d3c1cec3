"""What tasks and writers report, handed over from their threads to the one that runs the control plane."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from typing import Any


class Wake:
    """Wakes one thread that waits; what is set while it does not wait is kept.

    A `threading.Event` would do, were it not for signals: if a handler raises within its `set`, which is Python, its lock stays
    taken, and the next to set it or to wait waits for ever. A queue is one call of C.
    """

    def __init__(self) -> None:
        self._words: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Wake the other; one word is enough."""
        if self._words.empty():
            self._words.put(None)

    def wait(self, timeout: float) -> bool:
        """Wait until it is set, or for so many seconds; return whether it was. It is not set any more then."""
        try:
            self._words.get(timeout=timeout)
        except queue.Empty:
            return False
        return True


class Listener:
    """A queue of events. Tasks call `on_…` from any thread; the control plane takes them with `events`."""

    def __init__(self) -> None:
        self._events: deque[tuple[Any, ...]] = deque()
        self.wake = Wake()
        #: Set when a task has marked its state: the writer of state has something to do.
        self.marked = Wake()

    def _put(self, *event: Any) -> None:
        self._events.append(event)
        self.wake.set()

    def on_snapshot(self, task: str, checkpoint_id: int, part: Any) -> None:
        """A task has marked its state and passed the barrier on."""
        self.marked.set()
        self._put("snapshot", task, checkpoint_id, part)

    def on_snapshot_failed(self, task: str, checkpoint_id: int, error: BaseException) -> None:
        """A task could not take its snapshot; the barrier went on all the same."""
        self._put("snapshot_failed", task, checkpoint_id, error)

    def on_store_written(self, *report: Any) -> None:
        """A store's writer has made a checkpoint durable."""
        self._put("store_written", *report)

    def on_store_failed(self, *report: Any) -> None:
        """A store's writer could not."""
        self._put("store_failed", *report)

    def on_committed(self, checkpoint_id: int, error: BaseException | None) -> None:
        """A transaction has committed a checkpoint; with an `error`, nobody here knows whether it has."""
        self._put("committed", checkpoint_id, error)

    def on_wanted(self, request: Any) -> None:
        """A user wants a checkpoint or a savepoint (`checkpoint.savepoint.CheckpointRequest`)."""
        self._put("wanted", request)

    def on_end(self, task: str) -> None:
        """A task has seen the end of all its inputs."""
        self._put("end", task)

    def on_failure(self, task: str, error: BaseException) -> None:
        """A task raised: the run cannot go on."""
        self._put("failure", task, error)

    def events(self) -> Iterator[tuple[Any, ...]]:
        """Yield and remove what has been reported."""
        while self._events:
            yield self._events.popleft()
