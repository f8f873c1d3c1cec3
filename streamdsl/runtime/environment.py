"""What a job lives in: its state directory (or memory), the stores of its tasks, their writers and databases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from streamdsl._native.state.restore import SMALL_BYTES, open_store
from streamdsl._native.state.store import StateStore
from streamdsl._native.state.writer import CHUNK_ROWS, GATHER_BYTES, StoreWriter, backlog_for
from streamdsl._native.task.task import close_all
from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.matching import match_state
from streamdsl.checkpoint.names import safe_name
from streamdsl.checkpoint.objects import MirroredStorage, ObjectStore
from streamdsl.checkpoint.pending import StoreOwner
from streamdsl.checkpoint.recovery import Checkpoint, StateDirectory, find_checkpoint, published, retire_newer
from streamdsl.checkpoint.savepoint import find_savepoint
from streamdsl.checkpoint.storage import CheckpointStorage, DirectoryStorage, MemoryStorage
from streamdsl.errors import StateError
from streamdsl.physical.node import PhysicalPlan
from streamdsl.runtime.deploy import Deployment
from streamdsl.runtime.listener import Listener

__all__ = ["DirectoryEnvironment", "JobEnvironment", "MemoryEnvironment"]


#: The published ids -> the one to restore, 0 for none.
Choose = Callable[[Sequence[int]], int]


class _Reports:
    """A writer's reports, into the job's listener."""

    def __init__(self, listener: Listener) -> None:
        self.store_written = listener.on_store_written
        self.store_failed = listener.on_store_failed


class JobEnvironment:
    """The common part; subclasses say where checkpoints are kept.

    Attributes
    ----------
    storage : CheckpointStorage
    completed : collection of int
        Checkpoints that existed at the start.
    writers : list of StoreWriter
    chunk_rows, gather_bytes : int
    backlog_bytes, journal_bytes : int, optional
        What the writers go by (see `StoreWriter`). None: as much as fits the memory.
    """

    storage: CheckpointStorage
    chunk_rows = CHUNK_ROWS
    backlog_bytes: int | None = None
    journal_bytes: int | None = None
    gather_bytes = GATHER_BYTES
    small_bytes = SMALL_BYTES

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.completed: Collection[int] = ()
        self.writers: list[StoreWriter] = []
        self._stores: dict[str, tuple[StateStore, list[int]]] = {}
        self._checkpoint: Checkpoint | None = None

    def open(self, plan: PhysicalPlan, choose: Choose | None = None) -> Checkpoint | None:
        """Take what is needed and return the checkpoint to go on from, if there is one.

        `choose`, given the ids that are published, says which one it must be (0: none); without it, it is the newest that is whole.
        """
        self._stores, self.writers = {}, []
        self._take(plan)
        if choose is None:
            # Sinks that no transaction binds can all be cut back to a checkpoint, so an older one may stand in for a damaged one.
            self._checkpoint = find_checkpoint(self.storage, plan.name, fall_back=True)
        else:
            chosen = choose(published(self.storage))
            self._checkpoint = find_checkpoint(self.storage, plan.name, checkpoint_id=chosen) if chosen else None
        restored = 0 if self._checkpoint is None else self._checkpoint.id
        # A damaged newer one does not count: it must not push good ones out.
        self.completed = [i for i in published(self.storage) if i <= restored]
        if self._checkpoint is None:
            self._checkpoint = self._begin_with(plan)
            # Ids go on behind the savepoint's: sinks may have it on record.
            self.completed = [] if self._checkpoint is None else [self._checkpoint.id]
        return self._checkpoint

    def _take(self, plan: PhysicalPlan) -> None:
        raise NotImplementedError

    def _begin_with(self, plan: PhysicalPlan) -> Checkpoint | None:
        """Return what to begin with where there is no checkpoint yet."""
        return None

    def _live(self, store: str) -> Path:
        raise NotImplementedError

    def new_store(self, task: str, shards: list[int], total: int) -> StateStore:
        """Return the store of a task, without tables yet."""
        store = StateStore(safe_name(f"task-{task.replace('.', '-')}"), total)
        self._stores[task] = (store, shards)
        return store

    def owners(self, deployment: Deployment) -> list[StoreOwner]:
        """Return what manifests say about the stores."""
        return [StoreOwner(task, store.name, self.backend, shards, store.describe()) for task, (store, shards) in self._stores.items()]

    def load(
        self,
        deployment: Deployment,
        restored: Manifest | None,
        drop_state: Collection[str],
        listener: Listener,
        memory: int,
        changed: Collection[str] = (),
    ) -> None:
        """Fill the stores from the checkpoint and start their writers; `memory` is for all of them, in bytes.

        `changed`: operators whose state means something else now, and is dropped.

        Raises
        ------
        StateError
            State would be lost: an operator is gone, or its layout has changed.
        """
        match = None
        if restored is not None:
            match = match_state(restored, restored.shards, [store.describe() for store, _ in self._stores.values()], drop_state, changed)
        for store, shards in self._stores.values():
            live = self._live(store.name)
            opened = open_store(store, shards, self.backend, live, checkpoint=self._checkpoint, match=match, small_bytes=self.small_bytes)
            share = memory // len(self._stores)
            backlog = backlog_for(share)
            opened.backend.expect(share)
            store.attach(opened.backend, share)
            history = self.storage.history(store.name, live.with_name(f"{live.name}.history"))
            writer = StoreWriter(
                store,
                opened.backend,
                history,
                self.storage.target,
                _Reports(listener),
                restored=opened.linked,
                chunk_rows=self.chunk_rows,
                backlog_bytes=min(backlog if self.backlog_bytes is None else self.backlog_bytes, share // 8),
                journal_bytes=backlog if self.journal_bytes is None else self.journal_bytes,
                gather_bytes=min(self.gather_bytes, share // 64),
            )
            self.writers.append(writer)
            opened.fill(store, writer.step)
        retire_newer(self.storage, 0 if restored is None else restored.checkpoint_id)

    def close(self, *, failed: bool = False) -> None:
        """Close the databases and let go of the directory; what `failed` leaves may be looked into."""
        closing = [*self.writers, *[store for store, _ in self._stores.values()]]
        self.writers, self._stores = [], {}
        close_all(closing)


class MemoryEnvironment(JobEnvironment):
    """Checkpoints in memory: they outlive a job, not the process. For tests and simulation."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.storage = MemoryStorage()

    def _take(self, plan: PhysicalPlan) -> None:
        pass

    def _live(self, store: str) -> Path:
        return Path(store)


class DirectoryEnvironment(JobEnvironment):
    """A state directory.

    Parameters
    ----------
    path : Path
    backend : "rocksdb" | "memory"
    restore_from : Path or str, optional
        A savepoint to begin with, as long as the directory has no checkpoint of its own; a URL names one in an object store.
    store : str, optional
        The URL of an object store that has each checkpoint too.
    retained : int
        How many it keeps.
    """

    def __init__(
        self, path: Path, backend: str, restore_from: Path | str | None = None, store: str | None = None, retained: int = 2
    ) -> None:
        super().__init__(backend)
        self.path, self.restore_from = path, restore_from
        self._store, self._retained = store, retained
        self.directory: StateDirectory | None = None

    def _take(self, plan: PhysicalPlan) -> None:
        try:
            _make_parents(self.path)
        except OSError as error:
            raise StateError(
                f"the state directory {self.path} cannot be made: {error.strerror or error}",
                remedy="name a directory that can be written: Config(state_dir=...)",
            ) from error
        self.directory = StateDirectory(self.path, plan.name)
        self.storage = self.directory.storage
        if self._store is not None:
            mirrored = MirroredStorage(self.directory.storage.root, ObjectStore(self._store), max(2, self._retained))
            mirrored.catch_up(plan.name)
            self.storage = mirrored

    def _begin_with(self, plan: PhysicalPlan) -> Checkpoint | None:
        if self.restore_from is None:
            return None
        if isinstance(self.restore_from, Path):
            return find_savepoint(self.restore_from, plan.name)
        return find_savepoint(self._brought(self.restore_from, plan.name), plan.name)

    def _brought(self, url: str, job: str) -> Path:
        """Bring a savepoint here, where it goes with this start."""
        store = ObjectStore(url)
        ids = store.ids(job)
        if not ids:
            raise StateError(f"{url} is not a savepoint", remedy="name what Run.savepoint has written")
        place = self._live("savepoint")
        place.mkdir(mode=0o700)
        store.download(ids[-1], DirectoryStorage(place))
        return place

    def _live(self, store: str) -> Path:
        assert self.directory is not None
        return self.directory.live(store)

    def close(self, *, failed: bool = False) -> None:
        """Close the databases, which are scratch, and let go of the directory's lock."""
        directory, self.directory = self.directory, None
        try:
            super().close(failed=failed)
        finally:
            if directory is not None:
                directory.close(clear=not failed)


def _make_parents(path: Path) -> None:
    """Make the directories above `path` that are missing, closed to others whatever the umask says, with durable names."""
    missing = [parent for parent in path.absolute().parents if not parent.exists()]
    filesystem = FileSystem()
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)
        parent.chmod(0o700)
        filesystem.sync_directory(parent.parent)
