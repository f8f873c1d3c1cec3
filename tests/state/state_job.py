"""A small job over stores: what the tests of state share. Several tasks, each owner of some shards, each with a writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamdsl._native.state.restore import open_store
from streamdsl._native.state.store import StateStore
from streamdsl._native.state.testing import BytesField, IntField, TableView
from streamdsl._native.state.writer import StoreWriter
from streamdsl.checkpoint.coordinator import Coordinator, Settings
from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.matching import match_state
from streamdsl.checkpoint.names import safe_name
from streamdsl.checkpoint.pending import StoreOwner
from streamdsl.checkpoint.recovery import find_checkpoint
from streamdsl.checkpoint.storage import CheckpointStorage

SHARDS = 8
SETTINGS = Settings(interval_ms=100, timeout_ms=1000, failure_timeout_ms=60_000)


def default_tables(store: StateStore) -> None:
    store.add_table("rows", "lookup", "string", [IntField("total"), BytesField("last")])
    store.add_table("windows", "hourly", "start, string", [IntField("hourly")])
    store.add_table("timers", "quiet", "time, string")


class StateTask:
    """One task's store, with the views of its tables and its writer."""

    def __init__(self, name: str, owned: list[int], tables: Any) -> None:
        self.name, self.owned = name, owned
        self.store = StateStore(safe_name(name), SHARDS)
        tables(self.store)
        self.rows, *others = (TableView(table) for table in self.store.tables)
        self.windows = others[0] if others else None
        self.writer: StoreWriter
        self.linked = False


class StateJob:
    """Tasks and a coordinator, stepped by hand. Restores the newest checkpoint of its storage, if there is one."""

    def __init__(
        self,
        storage: CheckpointStorage,
        backend: str,
        live: Path,
        *,
        tasks: int = 1,
        tables: Any = default_tables,
        drop_state: Any = (),
        **limits: int,
    ) -> None:
        self.now = 0
        self.completed: list[Manifest] = []
        self.failed: list[tuple[int, str, bool]] = []
        self.tasks = [StateTask(f"1.{i}", [s for s in range(SHARDS) if s % tasks == i], tables) for i in range(tasks)]
        checkpoint = find_checkpoint(storage, "job")
        match = None
        if checkpoint is not None:
            match = match_state(checkpoint.manifest, SHARDS, [task.store.describe() for task in self.tasks], drop_state)
        for task in self.tasks:
            opened = open_store(task.store, task.owned, backend, live / task.store.name, checkpoint=checkpoint, match=match)
            task.linked = opened.linked
            history = storage.history(task.store.name, live / f"{task.store.name}.history")
            options = {"chunk_rows": 3, "restored": opened.linked, **limits}
            task.writer = StoreWriter(task.store, opened.backend, history, storage.target, self, **options)
            opened.fill(task.store, task.writer.step)
        self.coordinator = Coordinator(
            "job", shards=SHARDS, tasks=[task.name for task in self.tasks],
            stores=[StoreOwner(t.name, t.store.name, backend, t.owned, t.store.describe()) for t in self.tasks],
            storage=storage, settings=SETTINGS, listener=self,
            completed=[] if checkpoint is None else [checkpoint.id],
        )  # fmt: skip

    def task_of(self, shard: int) -> StateTask:
        return self.tasks[shard % len(self.tasks)]

    # Listener of the writers and the coordinator.

    def store_written(self, store: str, checkpoint_id: int, files: Any) -> None:
        self.coordinator.store_written(self.now, store, checkpoint_id, files)

    def store_failed(self, store: str, checkpoint_id: int, error: Exception) -> None:
        self.coordinator.fail(self.now, checkpoint_id, str(error))

    def on_complete(self, manifest: Manifest) -> None:
        self.completed.append(manifest)

    def on_failed(self, checkpoint_id: int, reason: str, fatal: bool) -> None:
        self.failed.append((checkpoint_id, reason, fatal))

    # Steps.

    def begin(self) -> int | None:
        """A barrier passes all tasks at once."""
        checkpoint_id = self.coordinator.trigger(self.now)
        if checkpoint_id is not None:
            for task in self.tasks:
                task.store.begin_checkpoint(checkpoint_id)
                self.coordinator.acknowledge(self.now, task.name, checkpoint_id, {})
        return checkpoint_id

    def finish(self) -> None:
        for task in self.tasks:
            while not task.store.drain_some(5):
                pass
            while task.writer.step():
                pass

    def checkpoint(self) -> int:
        checkpoint_id = self.begin()
        assert checkpoint_id is not None
        self.finish()
        return checkpoint_id

    def close(self) -> None:
        self.coordinator.abort()
        for task in self.tasks:
            task.writer.close()

    def contents(self) -> dict[tuple[int, bytes], tuple[Any, ...]]:
        """All rows, by (table id, key)."""
        found: dict[tuple[int, bytes], tuple[Any, ...]] = {}
        for task in self.tasks:
            for table in task.store.tables:
                view = TableView(table)
                for slot in view.slots():
                    key = table.id, view.key(slot)
                    assert key not in found, "a key lives in two tasks"
                    assert view.shard(slot) in task.owned
                    found[key] = tuple(
                        view.get_int(slot, i) if isinstance(field, IntField) else view.get_bytes(slot, i)
                        for i, field in enumerate(table.fields)
                    )
        return found
