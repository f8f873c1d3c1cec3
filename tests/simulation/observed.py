"""The job of a run: the real one over the simulated disk, which tells the run what the coordinator decides and fails what was drawn."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamdsl._native.task.task import Task
from streamdsl.checkpoint.manifest import FileEntry, Manifest, StoreEntry
from streamdsl.checkpoint.recovery import Checkpoint, StateDirectory
from streamdsl.errors import StateError
from streamdsl.physical.node import PhysicalPlan
from streamdsl.runtime.environment import Choose, JobEnvironment
from streamdsl.runtime.job import Job
from streamdsl.runtime.listener import Listener
from tests.simulation import checks
from tests.simulation.checks import Violation
from tests.simulation.disk import DiskPath, SimulatedDisk
from tests.simulation.scenario import AMPLE, Start

if TYPE_CHECKING:
    from tests.simulation.run import SeededRun

STATE = DiskPath("/simulated/state")
MOST_FAILED_WRITES = 4


class _StateDirectory(StateDirectory):
    """On the simulated disk there is no lock, and nobody else."""

    def _prepare(self) -> None:
        self.path = STATE
        super()._prepare()

    def _check_safe(self) -> None:
        pass

    def _take_lock(self) -> None:
        pass


class SimulatedEnvironment(JobEnvironment):
    """The state directory of a run, and what the disk does to it."""

    def __init__(self, disk: SimulatedDisk, start: Start) -> None:
        super().__init__("memory")
        self.disk = disk
        self.chunk_rows, self.backlog_bytes, self.journal_bytes = start.chunk_rows, start.backlog_bytes, start.journal_bytes
        self.gather_bytes = start.backlog_bytes  # from nothing to more than there ever is
        self.small_bytes = start.small_bytes
        self.restored: Manifest | None = None
        self.directory: _StateDirectory | None = None

    def open(self, plan: PhysicalPlan, choose: Choose | None = None) -> Checkpoint | None:
        found = super().open(plan, choose)
        self.restored = None if found is None else found.manifest
        return found

    def _take(self, plan: PhysicalPlan) -> None:
        self.directory = _StateDirectory(STATE, plan.name, self.disk)
        self.storage = self.directory.storage

    @property
    def live(self) -> Path:
        """The directory of this start's databases, bases and journals."""
        assert self.directory is not None
        return STATE / "live" / str(self.directory.incarnation)

    def _live(self, store: str) -> Path:
        assert self.directory is not None
        return self.directory.live(store)


class FailingBackend:
    """A backend some of whose writes fail, but not for ever: each failure fails the checkpoint, and one must get done."""

    def __init__(self, backend: Any, draw: random.Random, share: float, count: Callable[[str], None]) -> None:
        self._backend, self._draw, self._share, self._count = backend, draw, share, count
        self._left = MOST_FAILED_WRITES

    def apply(self, entries: Any) -> None:
        if self._left and self._draw.random() < self._share:
            self._left -= 1
            self._count("store writes failed")
            raise StateError("the store's disk is full")
        self._backend.apply(entries)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class _Awake:
    """Stands for the event that wakes the control thread: here there is none that sleeps."""

    def set(self) -> None:
        pass

    def clear(self) -> None:
        pass


class ObservedListener(Listener):
    """Tells the job of each snapshot in the moment in which it is taken."""

    def __init__(self, job: ObservedJob) -> None:
        super().__init__()
        self.wake = _Awake()  # type: ignore[assignment]
        self._job: ObservedJob = weakref.proxy(job)

    def on_snapshot(self, task: str, checkpoint_id: int, part: Any) -> None:
        self._job.noted(task)
        super().on_snapshot(task, checkpoint_id, part)


class ObservedJob(Job):
    """Tells the run what the coordinator decides, before anything is done about it."""

    environment: SimulatedEnvironment

    def __init__(self, run: SeededRun, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._run = run
        self.listener = ObservedListener(self)
        self.reached: dict[str, int] = {}  # task -> its watermark when it last passed a barrier
        self.passed: set[str] = set()  # tasks that have passed the last barrier
        self._last: int | None = None
        self._by_id: dict[str, Task] = {}

    def _load(self, restored: Manifest | None) -> None:
        self._by_id = {task.id: task for task in self.tasks}
        super()._load(restored)

    def _trigger(self, now: int, *, finished: bool = False) -> int | None:
        found = super()._trigger(now, finished=finished)
        if found is not None:
            if self._last is not None and len(self.passed) < len(self.tasks):
                raise Violation("barriers", f"checkpoint {found} began while {self._last} was still on its way to {self._missing()}")
            self.passed, self._last = set(), found
        return found

    def _missing(self) -> str:
        return ", ".join(task.id for task in self.tasks if task.id not in self.passed)

    def noted(self, task: str) -> None:
        """A task is passing a barrier on, in this moment."""
        self.passed.add(task)
        self.reached[task] = self._by_id[task].watermark

    def on_complete(self, manifest: Manifest) -> None:
        if len(self.passed) < len(self.tasks):
            raise Violation(
                "barriers", f"checkpoint {manifest.checkpoint_id} is complete, and {self._missing()} have not passed its barrier"
            )
        self._run.completed(manifest)
        checks.check_snapshot_watermarks(manifest, self.tasks, self.reached)
        super().on_complete(manifest)

    def on_failed(self, checkpoint_id: int, reason: str, fatal: bool) -> None:
        self._run.failed(checkpoint_id, reason)
        super().on_failed(checkpoint_id, reason, fatal)


def stores_met(before: Manifest, manifest: Manifest, start: Start, faults: int) -> Iterator[str]:
    """Say what the writers did between two checkpoints of one start, in which so many calls of the disk have failed."""
    known = {store.name: _parts(store) for store in before.stores}
    for store in manifest.stores:
        (old_base, old_journal), (base, journal) = known[store.name], _parts(store)
        if old_journal and base != old_base:
            if start.journal_bytes > AMPLE:
                yield "bases after a lost journal"
            elif not faults:
                yield "bases due"
        elif old_journal and journal and journal[0].size > old_journal[0].size:
            yield "journals that grew"


def restores_met(manifest: Manifest) -> Iterator[str]:
    """Say what a start goes on from."""
    for store in manifest.stores:
        base, journal = _parts(store)
        if base or journal:
            yield f"restores from {' and '.join(['a base'] * bool(base) + ['a journal'] * bool(journal))}"


def _parts(store: StoreEntry) -> tuple[list[FileEntry], list[FileEntry]]:
    return [file for file in store.files if not file.grows], [file for file in store.files if file.grows]
