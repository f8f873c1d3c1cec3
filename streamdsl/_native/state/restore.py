"""A store's rows back from a checkpoint, at whatever parallelism, and the live database they continue in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from streamdsl._native.includes.faults import fault, planted
from streamdsl._native.state.backend import CheckpointFiles, StateBackend, open_backend
from streamdsl._native.state.journal import apply_journal
from streamdsl._native.state.store import RowLoader, StateStore
from streamdsl.errors import StateError

__all__ = ["OpenedStore", "open_restored", "open_store"]

#: More would keep the job waiting.
SMALL_BYTES = 32 << 20
COPIED_ROWS = 1000


class Restorable(Protocol):
    """A complete checkpoint (`streamdsl.checkpoint.recovery.Checkpoint`)."""

    def files(self, store: Any) -> CheckpointFiles:
        """Return a store's verified files."""


class Match(Protocol):
    """What goes where (`streamdsl.checkpoint.matching.StateMatch`)."""

    @property
    def manifest(self) -> Any:
        """The checkpoint's manifest, without what was given up."""

    def targets(self, stored: Any, description: Mapping[str, Any]) -> Mapping[int, Any]:
        """Return stored table id -> places in a store."""

    def field_counts(self, stored: Any) -> Mapping[int, int]:
        """Return stored table id -> number of fields."""


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """Outcome of `open_store`.

    Parameters
    ----------
    backend : StateBackend
        The database that goes on.
    linked : bool
        Whether it has the state already; if not, `fill` puts it into the tables, from where it goes into the database.
    """

    backend: StateBackend
    linked: bool
    _fill: Callable[[StateStore, Callable[[], bool]], None]

    def fill(self, store: StateStore, relieve: Callable[[], bool]) -> None:
        """Bring rows into the tables, within the store's memory.

        Parameters
        ----------
        store : StateStore
            Attached to the backend, without a key yet.
        relieve : callable
            Moves entries from the store's stream into the database; false when it cannot.

        Raises
        ------
        StateError
            A row is damaged, or the database does not take what has no room in memory.
        """
        self._fill(store, relieve)


def open_restored(kind: str, directory: Path, files: CheckpointFiles) -> StateBackend:
    """Open a backend with what a checkpoint holds: its base, and the journal applied to it.

    Raises
    ------
    StateError
        The files are damaged, or the backend cannot be opened.
    """
    backend = open_backend(kind, directory, files if files.has_base else None)
    try:
        apply_journal(backend, files)
    except BaseException:
        backend.close()
        raise
    return backend


def open_store(
    store: StateStore,
    owned_shards: Collection[int],
    kind: str,
    live: Path,
    *,
    checkpoint: Restorable | None = None,
    match: Match | None = None,
    small_bytes: int = SMALL_BYTES,
) -> OpenedStore:
    """Make a store's live database, and find out how its state comes into it.

    Files of the same shards are gone on with as they are. Rows of other shards are copied, if the tables are the same. Otherwise
    they go through the tables, which know where each field belongs now.

    Parameters
    ----------
    store : StateStore
        All tables and fields are there, no key yet.
    owned_shards : collection of int
        The shards of its task.
    kind : "memory" | "rocksdb"
        The backend to go on with.
    live : Path
        Directory of the live database; does not exist yet.
    checkpoint, match : optional
        What to restore; neither: the store begins empty.
    small_bytes : int
        State of so many bytes on disk is read into memory at once.

    Raises
    ------
    StateError
        A file is damaged, or the database cannot be made.
    """
    if checkpoint is None or match is None:
        return OpenedStore(open_backend(kind, live), False, lambda store, relieve: None)
    owned = set(owned_shards)
    description = store.describe()
    parts = []
    for entry in match.manifest.stores:
        targets = match.targets(entry, description)
        if targets and not owned.isdisjoint(entry.shards):
            parts.append((entry, targets))
    small = sum(file.size for entry, _ in parts for file in entry.files) <= small_bytes
    take_up = partial(_take_up, small=small, shards=sorted(owned))
    if parts and all(entry.description == description for entry, _ in parts):
        if len(parts) == 1 and parts[0][0].backend == kind and set(parts[0][0].shards) == owned:
            backend = open_restored(kind, live, checkpoint.files(parts[0][0]))
            fault("FP27")
        else:
            backend = _copied(kind, live, checkpoint, [entry for entry, _ in parts], owned)
        return OpenedStore(backend, True, partial(take_up, backend))
    return OpenedStore(open_backend(kind, live), False, partial(_merge, live, checkpoint, match, parts, owned))


def _take_up(backend: StateBackend, store: StateStore, relieve: Callable[[], bool], *, small: bool, shards: Sequence[int]) -> None:
    """Bring rows of the live database into the tables: all, if they are few; else those that somebody goes through in order."""
    if small:
        store.load(backend.scan(b""))
        return
    for table in store.tables:
        if table.kind == "rows" and table.evictable:
            table.expect_any()
        else:
            for shard in shards:
                store.load(backend.scan(shard.to_bytes(2, "big") + table.id.to_bytes(2, "big")))


def _copied(kind: str, live: Path, checkpoint: Restorable, entries: Sequence[Any], owned: set[int]) -> StateBackend:
    """Return a database with the rows of some shards, taken from those of the checkpoint."""
    backend = open_backend(kind, live)
    try:
        for _, rows in _shards(live, checkpoint, entries, owned):
            while chunk := list(islice(rows, COPIED_ROWS)):
                backend.apply(chunk)
    except BaseException:
        backend.close()
        raise
    return backend


def _merge(
    live: Path,
    checkpoint: Restorable,
    match: Match,
    parts: Sequence[tuple[Any, Mapping[int, Any]]],
    owned: set[int],
    store: StateStore,
    relieve: Callable[[], bool],
) -> None:
    """Put the rows of the checkpoint where the tables have a place for them now."""
    loaders = {}
    for entry, targets in parts:
        mapping = {old: [(place.table, dict(place.fields)) for place in places] for old, places in targets.items()}
        if any(table >= len(store.tables) for places in mapping.values() for table, _ in places):
            raise StateError(f"store {store.name!r} has fewer tables than its description")
        loaders[entry.name] = RowLoader(store, mapping, dict(match.field_counts(entry)))
    for entry, rows in _shards(live, checkpoint, [entry for entry, _ in parts], owned):
        loaders[entry.name].load(rows, relieve)


def _shards(
    live: Path, checkpoint: Restorable, entries: Sequence[Any], owned: set[int]
) -> Iterator[tuple[Any, Iterator[tuple[bytes, bytes]]]]:
    """Yield each store of the checkpoint with the rows of each owned shard that it has."""
    for i, entry in enumerate(entries):
        scratch = live.with_name(f"{live.name}-restore-{i}")
        source = open_restored(entry.backend, scratch, checkpoint.files(entry))
        try:
            for shard in sorted(owned.intersection(entry.shards))[planted("shard-lost") :]:
                fault("FP34")
                yield entry, source.scan(shard.to_bytes(2, "big"))
        finally:
            source.close()
            shutil.rmtree(scratch, ignore_errors=True)
