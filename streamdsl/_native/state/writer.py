"""The one writer of a store: steps the two readers of its write stream, and makes a checkpoint at every MARK."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from streamdsl._native.includes.faults import fault, planted
from streamdsl._native.state.backend import CheckpointTarget, StateBackend, StoreHistory
from streamdsl._native.state.journal import MAGIC, mark_entry
from streamdsl._native.state.store import StateStore
from streamdsl._native.state.stream_reader import StreamReader
from streamdsl.errors import StateError

__all__ = ["BACKLOG_BYTES", "GATHER_BYTES", "StoreWriter", "WriterListener", "backlog_for"]

_log = logging.getLogger("streamdsl")

#: Rows of one write: the binding holds the GIL for so long.
CHUNK_ROWS = 1000
#: Bytes of one append to the journal.
APPEND_BYTES = 1 << 20
#: So much is worth an append where nobody waits for it: each one takes turns with the tasks at the interpreter.
GATHER_BYTES = 512 << 10
#: So far the database may be behind the journal: the later it applies, the more versions of a key become one. And a new base is due
#: behind a journal of so many bytes: a restore applies them one by one, which takes longer than anything else of it.
BACKLOG_BYTES = 32 << 20
#: Where rows may take much memory, as large as a part of it: there more changes between two checkpoints, and a restore takes longer anyway.
BACKLOG_SHARE = 64
MOST_BACKLOG_BYTES = 64 << 20


def backlog_for(memory: int) -> int:
    """Return the length of a backlog and of a journal, in bytes, for a store that may take so many bytes in memory."""
    return max(BACKLOG_BYTES, min(memory // BACKLOG_SHARE, MOST_BACKLOG_BYTES))


class WriterListener(Protocol):
    """Who hears what became of a MARK. Called by the thread that steps the writer."""

    def store_written(self, store: str, checkpoint_id: int, files: Any) -> None:
        """The store's part of the checkpoint is durable; `files` is what `StoreHistory.share` returned."""

    def store_failed(self, store: str, checkpoint_id: int, error: Exception) -> None:
        """The store has no part in this checkpoint; its entries are not lost to the next one."""


class StoreWriter:
    """Reads one store's write stream: into the journal as it comes, into the database later.

    A MARK makes the journal durable, and base and journal are the store's part of the checkpoint. The database reads behind the
    journal; it applies when it is too far behind, when somebody asks (`WriteStream.want_applied`), and when a new base is due.

    Parameters
    ----------
    store : StateStore
        Whose stream is read; nothing else reads it.
    backend : StateBackend
        The database. Closed by `close`.
    history : StoreHistory
        Base and journal; closed by `close`.
    open_target : callable
        (checkpoint id, store name) -> CheckpointTarget, or None when that checkpoint has been given up.
    listener : WriterListener
        Told once of every MARK whose checkpoint has not been given up.
    restored : bool
        Whether the database already holds something: the first MARK makes a base of it.
    chunk_rows, backlog_bytes : int
        Rows of one write; how far the database may be behind.
    journal_bytes : int
        The length of a journal behind which a base is due; half of the base is the least where a base is written as a whole.
        0: every MARK makes a base.
    gather_bytes : int
        Less than so much stays in the stream until a MARK comes, or the store asks the database to come nearer.
    """

    def __init__(
        self,
        store: StateStore,
        backend: StateBackend,
        history: StoreHistory,
        open_target: Callable[[int, str], CheckpointTarget | None],
        listener: WriterListener,
        *,
        restored: bool = False,
        chunk_rows: int = CHUNK_ROWS,
        backlog_bytes: int = BACKLOG_BYTES,
        journal_bytes: int = BACKLOG_BYTES,
        gather_bytes: int = 0,
    ) -> None:
        self.name = store.name
        self.backend, self.history = backend, history
        self.error: Exception | None = None
        self._stream = store.stream
        self._reader = StreamReader(store.stream, gather_bytes)
        self._open_target = open_target
        self._listener = listener
        self._chunk_rows, self._backlog_bytes, self._journal_bytes = chunk_rows, backlog_bytes, journal_bytes
        if restored:
            history.give_up_journal()

    @property
    def asked(self) -> bool:
        """Whether the store has ever asked the database to come nearer."""
        return self._stream.wanted_bytes > 0

    def step(self) -> bool:
        """Do a bounded piece of work; False when there is nothing to do, or nothing could be done (`error` says why)."""
        progress = self._read_journal()
        reader = self._reader
        if reader.applying or reader.backlog > self._backlog_bytes or self._stream.applied_bytes < self._stream.wanted_bytes:
            progress |= self._apply()
        return progress

    def _read_journal(self) -> bool:
        head = self._reader.peek_journal(APPEND_BYTES)
        if head is None:
            return False
        if isinstance(head, int):
            due = self._base_due()
            if due and self._reader.backlog and not planted("base-before-backlog"):
                # What cannot be applied stays first in line; this checkpoint has no part of the store.
                if self._apply():
                    return True
                assert self.error is not None
                self._listener.store_failed(self.name, head, self.error)
            else:
                self._checkpoint(head, due)
        elif self._base_due():
            # Whatever follows in the journal would go with it at the next MARK.
            if self.history.whole:
                self.history.give_up_journal()
        else:
            try:
                self._append(head)
            except (StateError, OSError) as error:
                # No checkpoint is lost by that: the next MARK makes a base.
                _log.warning("store %s: its journal cannot be written, a new base takes its place: %s", self.name, error)
        self._reader.confirm_journal()
        return True

    def _base_due(self) -> bool:
        if not self.history.whole or self._journal_bytes == 0:
            return True
        least = 0 if self.backend.incremental else self.history.base_bytes // 2
        return self.history.journal_bytes > max(self._journal_bytes, least)

    def _append(self, entries: bytes | memoryview) -> None:
        self.history.append(entries if self.history.journal_bytes else MAGIC + entries)
        fault("FP41")

    def _apply(self) -> bool:
        """Apply a chunk; False when there is none, or it could not be applied: it is tried again by the next step."""
        behind = self._reader.backlog
        entries = self._reader.peek_database(self._chunk_rows)
        if entries is None:
            return self._reader.backlog < behind  # MARKs alone are passed without a word
        try:
            self.backend.apply(entries)
        except (StateError, OSError) as error:
            self.error = error
            return False
        self.error = None
        self._reader.confirm_database()
        return True

    def _checkpoint(self, checkpoint_id: int, base_due: bool) -> None:
        target = None
        try:
            target = self._open_target(checkpoint_id, self.name)
            if target is None:
                return
            if base_due:
                self._make_base()
            else:
                self._append(mark_entry(checkpoint_id))
                fault("FP42")
                self.history.sync()
                fault("FP43")
            files = self.history.share(target)
        except (StateError, OSError) as error:
            self._listener.store_failed(self.name, checkpoint_id, error)
            return
        finally:
            if target is not None:
                target.close()
        self._listener.store_written(self.name, checkpoint_id, files)

    def _make_base(self) -> None:
        base = self.history.new_base()
        try:
            self.backend.checkpoint(base)
            fault("FP46")
            self.history.adopt(base)
        finally:
            base.close()

    def close(self) -> None:
        """Close the backend; what is still in the stream is dropped."""
        self.history.close()
        self.backend.close()
