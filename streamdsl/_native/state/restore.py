"""A store's rows back from a checkpoint, at whatever parallelism, and the live database they continue in."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from streamdsl._native.includes.faults import fault, planted
from streamdsl._native.state.backend import CheckpointFiles, StateBackend, open_backend
from streamdsl._native.state.journal import apply_journal
from streamdsl._native.state.store import RowLoader, StateStore
from streamdsl.errors import StateError

__all__ = ["LoadedStore", "load_store", "open_restored"]


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
class LoadedStore:
    """Outcome of `load_store`: the backend that goes on, rows read, and whether it holds them already (else it is empty)."""

    backend: StateBackend
    rows: int
    linked: bool


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


def load_store(
    store: StateStore,
    owned_shards: Collection[int],
    kind: str,
    live: Path,
    *,
    checkpoint: Restorable | None = None,
    match: Match | None = None,
) -> LoadedStore:
    """Fill a store's tables and make its live database.

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

    Raises
    ------
    StateError
        A file is damaged, or the database cannot be made.
    """
    if checkpoint is None or match is None:
        return LoadedStore(open_backend(kind, live), 0, False)
    owned = set(owned_shards)
    description = store.describe()
    parts = []
    for entry in match.manifest.stores:
        targets = match.targets(entry, description)
        if targets and not owned.isdisjoint(entry.shards):
            parts.append((entry, targets))
    # The same shards in the same tables: the files can be gone on with. Anything else would keep foreign rows.
    if len(parts) == 1:
        entry, targets = parts[0]
        if entry.backend == kind and set(entry.shards) == owned and entry.description == description:
            backend = open_restored(kind, live, checkpoint.files(entry))
            fault("FP27")
            try:
                rows = _loader(store, match, entry, targets, stored=True).load(backend.scan(b""))
            except BaseException:
                backend.close()
                raise
            return LoadedStore(backend, rows, True)
    rows = 0
    for i, (entry, targets) in enumerate(parts):
        scratch = live.with_name(f"{live.name}-restore-{i}")
        source = open_restored(entry.backend, scratch, checkpoint.files(entry))
        try:
            loader = _loader(store, match, entry, targets, stored=False)
            for shard in sorted(owned.intersection(entry.shards))[planted("shard-lost") :]:
                fault("FP34")
                rows += loader.load(source.scan(shard.to_bytes(2, "big")))
        finally:
            source.close()
            shutil.rmtree(scratch, ignore_errors=True)
    return LoadedStore(open_backend(kind, live), rows, False)


def _loader(store: StateStore, match: Match, entry: Any, targets: Mapping[int, Any], *, stored: bool) -> RowLoader:
    mapping = {old: [(place.table, dict(place.fields)) for place in places] for old, places in targets.items()}
    if any(table >= len(store.tables) for places in mapping.values() for table, _ in places):
        raise StateError(f"store {store.name!r} has fewer tables than its description")
    return RowLoader(store, mapping, dict(match.field_counts(entry)), stored)
