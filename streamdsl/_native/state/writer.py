"""The one writer of a store: applies its write stream in order and makes a checkpoint at every MARK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from streamdsl._native.state.backend import CheckpointTarget, StateBackend
from streamdsl._native.state.store import StateStore
from streamdsl._native.state.stream_reader import StreamReader
from streamdsl.errors import StateError

__all__ = ["StoreWriter", "WriterListener"]

#: Rows of one write: the binding holds the GIL for so long.
CHUNK_ROWS = 1000


class WriterListener(Protocol):
    """Who hears what became of a MARK. Called by the thread that steps the writer."""

    def store_written(self, store: str, checkpoint_id: int, files: Any) -> None:
        """The store's part of the checkpoint is durable; `files` is what `CheckpointTarget.seal` returned."""

    def store_failed(self, store: str, checkpoint_id: int, error: Exception) -> None:
        """The store has no part in this checkpoint; its entries stay queued or applied for the next one."""


class StoreWriter:
    """Applies one store's write stream to its backend.

    Parameters
    ----------
    store : StateStore
        Whose stream is read; it has no other reader.
    backend : StateBackend
        Where the entries go. Closed by `close`.
    open_target : callable
        (checkpoint id, store name) -> CheckpointTarget, or None when that checkpoint has been given up.
    listener : WriterListener
        Told once of every MARK whose checkpoint has not been given up.
    chunk_rows : int
        Rows of one write.
    """

    def __init__(
        self,
        store: StateStore,
        backend: StateBackend,
        open_target: Callable[[int, str], CheckpointTarget | None],
        listener: WriterListener,
        *,
        chunk_rows: int = CHUNK_ROWS,
    ) -> None:
        self.name = store.name
        self.backend = backend
        self.error: Exception | None = None
        self._reader = StreamReader(store.stream)
        self._open_target = open_target
        self._listener = listener
        self._chunk_rows = chunk_rows
        self._failed: set[int] = set()

    def step(self) -> bool:
        """Do a bounded piece of work; False when there is nothing to do, or nothing could be done (`error` says why).

        What could not be applied stays first in line and is tried again by the next step. Checkpoints whose MARK
        waits behind it have failed; the first MARK that comes after it has gone through is good again.
        """
        head = self._reader.peek(self._chunk_rows)
        if head is None:
            return False
        if isinstance(head, int):
            self._checkpoint(head)
        else:
            try:
                self.backend.apply(head)
            except (StateError, OSError) as error:
                self._give_up_waiting(error)
                return False
        self.error = None
        self._reader.confirm()
        return True

    def _checkpoint(self, checkpoint_id: int) -> None:
        if checkpoint_id in self._failed:
            self._failed.discard(checkpoint_id)
            return
        target = None
        try:
            target = self._open_target(checkpoint_id, self.name)
            if target is None:
                return
            self.backend.checkpoint(target)
            files = target.seal()
        except (StateError, OSError) as error:
            self._listener.store_failed(self.name, checkpoint_id, error)
            return
        finally:
            if target is not None:
                target.close()
        self._listener.store_written(self.name, checkpoint_id, files)

    def _give_up_waiting(self, error: Exception) -> None:
        self.error = error
        for checkpoint_id in self._reader.marks():
            if checkpoint_id not in self._failed:
                self._failed.add(checkpoint_id)
                self._listener.store_failed(self.name, checkpoint_id, error)

    def close(self) -> None:
        """Close the backend; what is still in the stream is dropped."""
        self.backend.close()
