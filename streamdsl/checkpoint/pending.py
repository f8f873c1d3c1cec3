"""One checkpoint under way: who has answered, and what they said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from streamdsl._native.includes.faults import planted
from streamdsl.checkpoint.manifest import FileEntry, Manifest, StoreEntry
from streamdsl.errors import InternalError

__all__ = ["PendingCheckpoint", "StoreOwner"]


class StoreOwner:
    """What the manifest says about a store apart from its files.

    Parameters
    ----------
    task : str
        The task whose state it is.
    name : str
        Directory of its files (see `names.safe_name`); also what its writer calls itself.
    backend : "memory" | "rocksdb"
    shards : collection of int
        The shards that the task owns.
    description : mapping
        `StateStore.describe()`.
    """

    def __init__(self, task: str, name: str, backend: str, shards: Collection[int], description: Mapping[str, Any]) -> None:
        self.task, self.name, self.backend = task, name, backend
        self.shards, self.description = tuple(sorted(shards)), description


class PendingCheckpoint:
    """Collects the parts of one checkpoint. Parts may come in any order; each counts once.

    Parameters
    ----------
    checkpoint_id : int
    triggered_at : int
        Ms, of whatever clock the coordinator is given.
    finished : bool
        Whether all input has ended.
    tasks : collection of str
        Who has to acknowledge.
    stores : mapping
        Store name -> its owner: whose files have to be written.
    """

    def __init__(
        self, checkpoint_id: int, triggered_at: int, finished: bool, tasks: Collection[str], stores: Mapping[str, StoreOwner]
    ) -> None:
        self.id, self.triggered_at, self.finished = checkpoint_id, triggered_at, finished
        self.missing_tasks = set(tasks)
        self.missing_stores = set(stores)
        self._stores = stores
        self._parts: dict[str, Mapping[str, Any]] = {}
        self._files: dict[str, tuple[FileEntry, ...]] = {}

    @property
    def complete(self) -> bool:
        """Whether nobody is missing."""
        return not self.missing_tasks and (not self.missing_stores or planted("manifest-before-files"))

    def acknowledge(self, task: str, part: Mapping[str, Any]) -> None:
        """Take a task's part: {"operators": …, "sources": …, "shard_watermarks": …, "arrivals": …, "behind": …}, each may be absent."""
        if task in self.missing_tasks:
            self.missing_tasks.discard(task)
            self._parts[task] = part

    def store_written(self, store: str, files: tuple[FileEntry, ...]) -> None:
        """Take the files of a store."""
        if store in self.missing_stores:
            self.missing_stores.discard(store)
            self._files[store] = files

    def waiting_for(self) -> str:
        """Return who is missing, in words."""
        tasks = ", ".join(sorted(self.missing_tasks)[:5])
        stores = ", ".join(sorted(self.missing_stores)[:5])
        return "; ".join(filter(None, [tasks and f"tasks {tasks}", stores and f"stores {stores}"]))

    def manifest(self, job: str, shards: int) -> Manifest:
        """Return the manifest of the complete checkpoint."""
        if not self.complete:
            raise InternalError(f"checkpoint {self.id} still waits for {self.waiting_for()}")
        if planted("manifest-before-files"):
            self._files.update(dict.fromkeys(self.missing_stores, ()))
        sources: dict[str, dict[str, Any]] = {}
        operators: dict[str, dict[str, Any]] = {}
        watermarks: dict[str, dict[str, int]] = {}
        behind: dict[str, dict[str, Any]] = {}
        for task, part in sorted(self._parts.items()):
            for name, splits in part.get("sources", {}).items():
                sources.setdefault(name, {}).update(splits)
            for name, state in part.get("operators", {}).items():
                operators.setdefault(name, {})[task] = state
            for name, inputs in part.get("behind", {}).items():
                behind.setdefault(name, {})[task] = inputs
            for name, reached in part.get("shard_watermarks", {}).items():
                merged = watermarks.setdefault(name, {})
                for shard, value in reached.items():
                    merged[str(shard)] = max(value, merged.get(str(shard), value))
        stores = tuple(
            StoreEntry(
                owner.name,
                owner.backend,
                owner.shards,
                owner.description,
                self._files.get(name, ()) if planted("manifest-before-files") else self._files[name],
            )
            for name, owner in sorted(self._stores.items())
        )
        return Manifest(
            job=job,
            checkpoint_id=self.id,
            finished=self.finished,
            shards=shards,
            sources=sources,
            operators=operators,
            shard_watermarks=watermarks,
            arrivals=max((part.get("arrivals", 0) for part in self._parts.values()), default=0),
            behind={name: tasks for name, tasks in behind.items() if any(task["inputs"] for task in tasks.values())},
            stores=stores,
        )
