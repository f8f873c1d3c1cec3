"""The key-value seam under a store: four methods, and what they read checkpoints from and write them to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from streamdsl.errors import StateError

BackendName = Literal["memory", "rocksdb"]


class CheckpointTarget(Protocol):
    """Where a backend puts its files (made by `streamdsl.checkpoint.storage`)."""

    @property
    def path(self) -> Path | None:
        """Directory for a backend that writes its files itself; does not exist yet. None: there is no directory."""

    def write_file(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write one file, durably."""

    def seal(self) -> Any:
        """Make everything durable; return the files with sizes and checksums."""

    def close(self) -> None:
        """Let go, sealed or not. May be called twice."""


class StoreHistory(Protocol):
    """What a store's checkpoints share: a base and a journal (`streamdsl.checkpoint.history.StoreHistory`)."""

    @property
    def whole(self) -> bool:
        """Whether base and journal together are all that has been appended; if not, only a new base helps."""

    @property
    def base_bytes(self) -> int:
        """Size of the base."""

    @property
    def journal_bytes(self) -> int:
        """Size of the journal."""

    def append(self, entries: bytes | memoryview) -> None:
        """Add to the journal's end."""

    def sync(self) -> None:
        """Make the journal durable."""

    def give_up_journal(self) -> None:
        """Have no more checkpoints with this journal."""

    def new_base(self) -> CheckpointTarget:
        """Return where a base goes."""

    def adopt(self, base: Any) -> None:
        """Take the base that has been put there; a new journal begins behind it."""

    def share(self, target: Any) -> Any:
        """Put base and journal into a checkpoint; return its files with sizes and checksums."""

    def close(self) -> None:
        """Let go. May be called twice."""


class CheckpointFiles(Protocol):
    """One store's files in a checkpoint, already verified."""

    @property
    def checkpoint_id(self) -> int:
        """The checkpoint."""

    @property
    def has_base(self) -> bool:
        """Whether there is a base; if not, the journal begins with nothing."""

    @property
    def journal_bytes(self) -> int:
        """Length of the journal; 0: there is none."""

    def read(self, name: str) -> Iterator[bytes]:
        """Return a file's bytes, in chunks."""

    def read_journal(self) -> Iterator[bytes]:
        """Return the journal's bytes, in chunks."""

    def journal_damaged(self, reason: str) -> StateError:
        """Return the error that names the journal."""

    def place(self, directory: Path) -> None:
        """Put the base into a new directory: immutable files may be hard links, all others are copies."""


class StateBackend(Protocol):
    """Holds what a store's writer applies. One thread applies; another may read at the same time.

    Keys and values are bytes. Every failure is a `StateError`.

    Attributes
    ----------
    incremental : bool
        Whether a checkpoint costs what is new since the last one; if not, it writes all there is.
    """

    incremental: bool

    def apply(self, entries: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Apply puts and deletes (value None), given in key order, each key once."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of the keys, None for absent ones."""

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Return all pairs whose key starts with `prefix` and is greater than `after`, in key order."""

    def expect(self, memory: int) -> None:
        """Hear how many bytes the store's rows may take in memory: something in proportion will do for buffers."""

    def checkpoint(self, target: CheckpointTarget) -> None:
        """Put everything applied so far into the target."""

    def close(self) -> None:
        """Release what the backend holds; what is not in a checkpoint is lost. May be called twice."""


def open_backend(kind: str, directory: Path, files: CheckpointFiles | None = None) -> StateBackend:
    """Open a store's backend, empty or with a checkpoint's files.

    Parameters
    ----------
    kind : "memory" | "rocksdb"
        Which one; nothing else is tried when it cannot be opened.
    directory : Path
        A directory that does not exist yet, for the backend alone (unused by "memory").
    files : CheckpointFiles, optional
        What to begin with; written by a backend of the same kind.

    Raises
    ------
    StateError
        The backend or the files cannot be opened.
    """
    if kind == "memory":
        from streamdsl._native.state.memory import MemoryBackend

        return MemoryBackend(files)
    if kind == "rocksdb":
        from streamdsl._native.state.rocksdb import RocksDBBackend

        return RocksDBBackend(directory, files)
    raise StateError(f"the state backend {kind!r} is not known", remedy='use "rocksdb" or "memory"')
