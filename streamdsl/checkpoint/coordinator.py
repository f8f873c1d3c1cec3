"""The coordinator of checkpoints: decides when one begins, collects its parts, publishes it or gives it up.

A control object: no threads, no clock, no channels. Whoever owns it calls it from one thread, tells it the time, and
carries out what it says.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from streamdsl._native.includes.faults import fault, planted
from streamdsl.checkpoint.manifest import FileEntry, Manifest
from streamdsl.checkpoint.pending import PendingCheckpoint, StoreOwner
from streamdsl.checkpoint.storage import CheckpointStorage
from streamdsl.errors import InternalError, StateError

__all__ = ["LEAST_FAILURES", "Coordinator", "CoordinatorListener", "Settings"]

#: How long after a failure one that is wanted at once is tried again, at most.
RETRY_MS: Final = 200
#: Fewer failures in a row are borne, however far they lie apart: checkpoints may be rare.
LEAST_FAILURES: Final = 3

_log = logging.getLogger("streamdsl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """When and how long. Times in ms.

    Parameters
    ----------
    interval_ms : int
        From the start of one checkpoint to the start of the next.
    timeout_ms : int
        A checkpoint that takes longer has failed.
    min_pause_ms : int
        At least so long from the end of one to the start of the next.
    failure_timeout_ms : int
        A failure is fatal once none has completed for so long since the first in a row, and LEAST_FAILURES have failed; 0: the first is.
    retained : int
        Completed checkpoints that are kept, at least 1.
    """

    interval_ms: int
    timeout_ms: int
    min_pause_ms: int = 0
    failure_timeout_ms: int = 0
    retained: int = 2


class CoordinatorListener(Protocol):
    """Who carries out what the coordinator decides."""

    def on_complete(self, manifest: Manifest) -> None:
        """The checkpoint is published: sinks may commit it."""

    def on_failed(self, checkpoint_id: int, reason: str, fatal: bool) -> None:
        """The checkpoint has failed; `fatal`: none has completed for longer than is tolerated."""


class Coordinator:
    """Takes the checkpoints of one run.

    Parameters
    ----------
    job : str
        Name of the topology.
    shards : int
        S of the job.
    tasks : collection of str
        Ids of all tasks: each acknowledges every checkpoint.
    stores : collection of StoreOwner
        All stores: each is written for every checkpoint.
    storage : CheckpointStorage
    settings : Settings
    listener : CoordinatorListener
    completed : collection of int
        Checkpoints that exist already (what recovery found), for retention.
    meanings, dropped, views : mapping, collection of str, mapping
        What manifests say of them (see `Manifest`).
    """

    def __init__(
        self,
        job: str,
        shards: int,
        tasks: Collection[str],
        stores: Collection[StoreOwner],
        storage: CheckpointStorage,
        settings: Settings,
        listener: CoordinatorListener,
        *,
        completed: Collection[int] = (),
        meanings: Mapping[str, Mapping[str, str | int]] | None = None,
        dropped: Collection[str] = (),
        views: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.job, self.shards, self.settings = job, shards, settings
        self._tasks = frozenset(tasks)
        self._stores = {owner.name: owner for owner in stores}
        if len(self._stores) != len(stores):
            raise InternalError("two stores have one name")
        self._storage, self._listener = storage, listener
        self._said: dict[str, Any] = {"meanings": meanings or {}, "dropped": tuple(sorted(dropped)), "views": views or {}}
        self._completed = sorted(completed)
        # Every id that was ever begun has left a trace: none is used twice.
        try:
            self._next_id = max([*([] if planted("id-used-again") else storage.ids()), *completed, 0]) + 1
        except OSError as error:
            raise StateError(f"the checkpoints cannot be listed: {error}", remedy="check the permissions of the state directory") from error
        self._pending: PendingCheckpoint | None = None
        self._not_passed: set[str] = set()  # tasks that have not passed the last barrier
        self._last_start: int | None = None
        self._last_end: int | None = None
        self.failures_in_a_row = 0
        self.failing_since: int | None = None  # the first of them
        self.failed = 0

    @property
    def completed(self) -> tuple[int, ...]:
        """Ids of the checkpoints that exist, ascending."""
        return tuple(self._completed)

    @property
    def pending(self) -> int | None:
        """Id of the checkpoint under way."""
        return None if self._pending is None else self._pending.id

    def may_trigger(self) -> bool:
        """Whether a checkpoint can begin: none is under way, and all tasks have passed the last barrier."""
        return self._pending is None and not self._not_passed

    def may_retry(self, now: int) -> bool:
        """Whether a checkpoint that is wanted at once (the last one) may begin: a moment after a failure."""
        return not self.failures_in_a_row or self._last_end is None or now - self._last_end >= min(RETRY_MS, self.settings.interval_ms)

    def due(self, now: int) -> bool:
        """Whether it is time for the next checkpoint; the first is due one interval after the first call."""
        if self._last_start is None:
            self._last_start = now
        if not self.may_trigger() or now - self._last_start < self.settings.interval_ms:
            return False
        return self._last_end is None or now - self._last_end >= self.settings.min_pause_ms

    def due_in_ms(self, now: int) -> int:
        """Return how long no checkpoint can be due: 0 if one is. While one is under way its end is reported; until then, an interval."""
        if self._last_start is None or not self.may_trigger():
            return self.settings.interval_ms
        ended = self._last_start if self._last_end is None else self._last_end + self.settings.min_pause_ms
        return max(0, self._last_start + self.settings.interval_ms - now, ended - now)

    def trigger(self, now: int, *, finished: bool = False) -> int | None:
        """Begin a checkpoint and return its id: the caller hands it to the source tasks.

        Returns None when it cannot begin yet, or when its place could not be made (a failed checkpoint).
        `finished`: all input has ended; the checkpoint says so.
        """
        if not self.may_trigger():
            return None
        checkpoint_id = self._next_id
        self._next_id += 1
        self._last_start = now
        try:
            self._storage.begin(checkpoint_id)
        except (StateError, OSError) as error:
            self._count_failure(now, checkpoint_id, f"its directory cannot be made: {error}")
            return None
        self._pending = PendingCheckpoint(checkpoint_id, now, finished, self._tasks, self._stores)
        self._not_passed = set(self._tasks)
        return checkpoint_id

    def acknowledge(self, now: int, task: str, checkpoint_id: int, part: Mapping[str, Any]) -> None:
        """A task has passed barrier `checkpoint_id` and this is its part. Late and repeated ones change nothing."""
        self._passed(task, checkpoint_id)
        if self._pending is not None and self._pending.id == checkpoint_id:
            self._pending.acknowledge(task, part)
            self._complete_if_whole(now)

    def store_written(self, now: int, store: str, checkpoint_id: int, files: tuple[FileEntry, ...]) -> None:
        """A store's writer has made its files durable."""
        if self._pending is not None and (self._pending.id == checkpoint_id or planted("abandoned-store-counts")):
            if store not in self._stores:
                raise InternalError(f"store {store!r} is not one of this job's")
            self._pending.store_written(store, files)
            self._complete_if_whole(now)

    def fail(self, now: int, checkpoint_id: int, reason: str, *, task: str | None = None) -> None:
        """A task's snapshot (`task`: it has passed the barrier all the same) or a store's part has failed."""
        if task is not None:
            self._passed(task, checkpoint_id)
        if self._pending is not None and self._pending.id == checkpoint_id:
            self._give_up(now, reason)

    def check_timeout(self, now: int) -> None:
        """Give up the checkpoint under way if it takes too long."""
        pending = self._pending
        if pending is not None and now - pending.triggered_at >= self.settings.timeout_ms:
            self._give_up(now, f"it took longer than {self.settings.timeout_ms} ms; it waited for {pending.waiting_for()}")

    def abort(self) -> None:
        """Give up the checkpoint under way, if any, without counting a failure: the run ends here."""
        if self._pending is not None:
            self._discard(self._pending.id)
            self._pending = None

    def _passed(self, task: str, checkpoint_id: int) -> None:
        if task not in self._tasks:
            raise InternalError(f"task {task!r} is not one of this job's")
        if checkpoint_id == self._next_id - 1:
            self._not_passed.discard(task)

    def _complete_if_whole(self, now: int) -> None:
        pending = self._pending
        if pending is None or not pending.complete:
            return
        try:
            if pending.finished:
                fault("FP31")
            manifest = replace(pending.manifest(self.job, self.shards), **self._said)
            self._storage.publish(pending.id, manifest.encode())
        except (StateError, OSError) as error:
            self._give_up(now, f"its manifest cannot be written: {error}")
            return
        self._pending = None
        self._last_end = now
        self.failures_in_a_row, self.failing_since = 0, None
        self._completed.append(pending.id)
        self._listener.on_complete(manifest)
        self._retain()

    def _retain(self) -> None:
        """Remove checkpoints that are too old, and what failed ones left. A failure here costs disk, nothing else."""
        keep = set(self._completed[-max(1, self.settings.retained) :])
        newest = self._completed[-1]
        if planted("retention-removes-newest"):
            keep.discard(newest)
        try:
            for checkpoint_id in self._storage.ids():
                if checkpoint_id <= newest and checkpoint_id not in keep:
                    self._storage.remove(checkpoint_id)
        except (StateError, OSError) as error:
            _log.warning("an old checkpoint cannot be removed, will be tried again: %s", error)
        self._completed = sorted(keep)

    def _give_up(self, now: int, reason: str) -> None:
        pending = self._pending
        if pending is None:
            return
        self._pending = None
        self._discard(pending.id)
        self._count_failure(now, pending.id, reason)

    def _discard(self, checkpoint_id: int) -> None:
        try:
            self._storage.discard(checkpoint_id)
        except (StateError, OSError) as error:
            _log.warning("what checkpoint %d left cannot be removed: %s", checkpoint_id, error)

    def _count_failure(self, now: int, checkpoint_id: int, reason: str) -> None:
        self._last_end = now
        self.failed += 1
        self.failures_in_a_row += 1
        if self.failing_since is None:
            self.failing_since = now
        tolerated = self.settings.failure_timeout_ms
        fatal = not tolerated or (self.failures_in_a_row >= LEAST_FAILURES and now - self.failing_since >= tolerated)
        self._listener.on_failed(checkpoint_id, reason, fatal)
