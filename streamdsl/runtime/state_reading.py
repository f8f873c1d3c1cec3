"""Looking into the state of a run, or of a checkpoint on disk: finds what a table's rows are read from, and by what."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.recovery import find_checkpoint, published
from streamdsl.checkpoint.storage import CheckpointStorage, DirectoryStorage
from streamdsl.errors import StateError, StreamError
from streamdsl.physical.node import PhysicalKeyLookup, PhysicalPlan
from streamdsl.physical.views import READABLE, spec_of
from streamdsl.runtime.job import Job
from streamdsl.runtime.state_rows import RowReader, readable, resolved
from streamdsl.runtime.state_source import CheckpointRows, LiveRows
from streamdsl.runtime.state_table import StateTable

__all__ = ["StateReading", "table_of_checkpoint", "tables_of_checkpoint"]

#: A checkpoint may be removed for being too old while it is opened.
_TRIES: Final = 5

Asked = Callable[[Any, Callable[[], Any]], Any]


class StateReading:
    """The tables of one run.

    Parameters
    ----------
    job : callable
        Returns the incarnation that runs, or ran last.
    ask : callable
        Calls a function in the thread of a task, see `LiveRows`.
    checkpoint : callable
        Takes a checkpoint now.
    """

    def __init__(self, job: Callable[[], Job], ask: Asked, checkpoint: Callable[[], Manifest]) -> None:
        self._job, self._ask, self._checkpoint = job, ask, checkpoint
        self._last: tuple[CheckpointStorage, CheckpointRows] | None = None

    def names(self) -> tuple[str, ...]:
        """Return the names of all operators whose state can be read."""
        return tuple(sorted(readable(self._job().plan)))

    def table(self, name: str, *, live: bool) -> StateTable:
        """Return a table; see `Run.table`."""
        job = self._job()
        plan = job.plan
        stage, at = readable(plan)[resolved(name, readable(plan), f"{plan.name!r}")]
        if live:
            if job.ended:
                raise StateError("the run has ended: nothing of it is live", remedy="read it as of its last checkpoint: live=False")
            return _opened(RowReader(plan.shards, stage.operators, at), LiveRows(job.tasks, self._ask))
        for left in reversed(range(_TRIES)):
            rows = self._rows(job)
            try:
                return _opened(RowReader(rows.manifest.shards, stage.operators, at), rows)
            except StateError:
                # The one at hand may be gone; a newer one takes its place, if there is one.
                self._last = None
                if not left or self._newest(job) == rows.manifest.checkpoint_id:
                    raise
        raise AssertionError("the last try returns or raises")

    def _newest(self, job: Job) -> int:
        try:
            return max(published(job.environment.storage), default=0)
        except (OSError, StateError) as error:
            raise StateError(
                f"the checkpoints of {job.plan.name!r} are gone: {error.strerror if isinstance(error, OSError) else error.message}",
                remedy="a run without Config(state_dir=...) keeps them until it ends",
            ) from error

    def _rows(self, job: Job) -> CheckpointRows:
        storage, newest = job.environment.storage, self._newest(job)
        if not newest and not job.ended:
            newest = self._checkpoint().checkpoint_id
        if not newest:
            raise StateError(f"{job.plan.name!r} has no checkpoint", remedy="let it run until there is one")
        if self._last is not None and self._last[0] is storage and self._last[1].manifest.checkpoint_id == newest:
            return self._last[1]
        manifest = _manifest(storage, newest)
        rows = CheckpointRows(storage, manifest, _scratch(storage), verify=job.ended)
        self._last = (storage, rows)
        return rows

    def close(self) -> None:
        """Let go of the checkpoint that was read last; tables that somebody still has keep theirs."""
        self._last = None


def _opened(reader: RowReader, source: CheckpointRows | LiveRows) -> StateTable:
    source.open(reader)
    return StateTable(reader, source)


def _manifest(storage: CheckpointStorage, checkpoint_id: int) -> Manifest:
    try:
        data = storage.read_manifest(checkpoint_id)
    except OSError as error:
        raise StateError(f"{storage.where(checkpoint_id)} cannot be read: {error.strerror or error}") from error
    if data is None:
        raise StateError(f"{storage.where(checkpoint_id)} is gone", remedy="ask again: a newer one has taken its place")
    return Manifest.decode(data, storage.where(checkpoint_id, "manifest.json"))


def _scratch(storage: CheckpointStorage) -> Path:
    """Return a new place for copies: on the disk of the checkpoints, where links cost nothing, if there is room for one."""
    if isinstance(storage, DirectoryStorage):
        live = storage.root.parent / "live"
        with contextlib.suppress(OSError):
            if live.is_dir() and os.access(live, os.W_OK):
                return live / f"reading-{uuid.uuid4().hex[:12]}"
    return Path(tempfile.gettempdir()) / f"streamdsl-reading-{uuid.uuid4().hex[:12]}"


# --------------------------------------------------------------------------------------------- on disk, without a run


def tables_of_checkpoint(manifest: Manifest, plan: PhysicalPlan | None) -> Sequence[str]:
    """Return the names of the tables that can be read in a checkpoint, with or without the topology's plan."""
    held = {field["name"] for store in manifest.stores for table in store.description["tables"] for field in table["fields"]}
    return sorted(held.intersection(manifest.views if plan is None else readable(plan)))


def table_of_checkpoint(
    root: Path, job: str, name: str, *, checkpoint_id: int | None = None, plan: PhysicalPlan | None = None
) -> StateTable:
    """Return a table as of a checkpoint in a state directory or a savepoint; a worker may be running.

    Parameters
    ----------
    root : Path
        Directory of the checkpoints.
    job : str
        Name of the topology.
    name : str
        Of the table.
    checkpoint_id : int, optional
        The newest one by default.
    plan : PhysicalPlan, optional
        The topology's; needed where its own Python code keeps the state.

    Raises
    ------
    StateError
        There is no such checkpoint, it is damaged, or the table cannot be read without the topology.
    """
    scratch = Path(tempfile.gettempdir()) / f"streamdsl-reading-{uuid.uuid4().hex[:12]}"
    storage = DirectoryStorage(root, links=_one_disk(root, scratch.parent))
    found = find_checkpoint(storage, job, checkpoint_id=checkpoint_id)
    if found is None:
        raise StateError(f"{root} holds no complete checkpoint", remedy="let the job run until there is one")
    manifest = found.manifest
    rows = CheckpointRows(storage, manifest, scratch, verify=False)  # `find_checkpoint` has just done so
    reader = _reader_with(plan, manifest, name) if plan is not None else _reader_without(manifest, name)
    return _opened(reader, rows)


def _reader_with(plan: PhysicalPlan, manifest: Manifest, name: str) -> RowReader:
    known = readable(plan)
    stage, at = known[resolved(name, known, f"{plan.name!r}")]
    return RowReader(manifest.shards, stage.operators, at)


def _reader_without(manifest: Manifest, name: str) -> RowReader:
    where = f"checkpoint {manifest.checkpoint_id}"
    try:
        full = resolved(name, tables_of_checkpoint(manifest, None), where)
    except StreamError as error:
        held = {field["name"] for store in manifest.stores for table in store.description["tables"] for field in table["fields"]}
        if name in held:
            raise StateError(
                f"the state of {name!r} is kept by Python code: it cannot be read without it",
                remedy="name the topology: streamdsl -A module:topology checkpoints read ...",
            ) from error
        raise
    try:
        spec = spec_of(full, manifest.views[full])
        assert isinstance(spec, READABLE)
        lookup = PhysicalKeyLookup(name="reading", inputs=(), schema=spec.key_schema, key_schema=spec.key_schema)
        return RowReader(manifest.shards, (lookup, spec), 1)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise StateError(f"{where} describes {full!r} in a way that cannot be read: {error}", remedy="name the topology with -A") from error


def _one_disk(*places: Path) -> bool:
    try:
        return len({os.stat(place).st_dev for place in places}) == 1
    except OSError:
        return False
