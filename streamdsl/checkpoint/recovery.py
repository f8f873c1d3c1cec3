"""The state directory of a job and what a start finds in it.

::

    <state_dir>/job.json              whose it is, and how often it was started
    <state_dir>/LOCK                  held while a process runs the job
    <state_dir>/checkpoints/<id>/     manifest.json, and a directory for each store
    <state_dir>/live/<incarnation>/   databases in use, and what checkpoints share; scratch, made anew at every start
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.manifest import FORMAT, Manifest, StoreEntry
from streamdsl.checkpoint.names import safe_name
from streamdsl.checkpoint.progress import Progress, bytes_of
from streamdsl.checkpoint.storage import CheckpointStorage, DirectoryStorage, StoreFiles, cannot_be_read
from streamdsl.errors import StateError

__all__ = ["Checkpoint", "StateDirectory", "find_checkpoint", "published", "retire_newer"]

_log = logging.getLogger("streamdsl")

_JOB = "job.json"
_LOCK = "LOCK"


class Checkpoint:
    """A complete checkpoint that can be restored.

    Parameters
    ----------
    storage : CheckpointStorage
    manifest : Manifest
    digest : str
        BLAKE2b-256 of the manifest's file, in hex.
    """

    def __init__(self, storage: CheckpointStorage, manifest: Manifest, digest: str) -> None:
        self.manifest, self.digest = manifest, digest
        self._storage = storage
        self._verified: dict[str, StoreFiles] = {}

    @property
    def id(self) -> int:
        """The checkpoint's number."""
        return self.manifest.checkpoint_id

    def files(self, store: StoreEntry) -> StoreFiles:
        """Return a store's files; size and checksum of each are verified the first time.

        Raises
        ------
        StateError
            A file is damaged or missing.
        """
        if store.name not in self._verified:
            self._verified[store.name] = self._storage.files(self.id, store)
        return self._verified[store.name]

    def verify(self) -> None:
        """Verify every file."""
        total = sum(bytes_of(store.files) for store in self.manifest.stores)
        with Progress(f"checkpoint {self.id} is verified", total) as progress:
            for store in self.manifest.stores:
                if store.name not in self._verified:
                    self._verified[store.name] = self._storage.files(self.id, store, progress.add)


def find_checkpoint(
    storage: CheckpointStorage, job: str, *, checkpoint_id: int | None = None, fall_back: bool = False
) -> Checkpoint | None:
    """Return the newest complete checkpoint (or the one named), every file verified; None when there is none.

    Parameters
    ----------
    storage : CheckpointStorage
    job : str
        Name of the topology.
    checkpoint_id : int, optional
        Exactly this one, whatever else there is.
    fall_back : bool
        Whether an older checkpoint may take the place of a damaged one. Only right where every sink can be truncated
        or is idempotent: what was written between the two is written again.

    Raises
    ------
    StateError
        The checkpoint is damaged, of another job, or of a newer format; or the one named does not exist.
    """
    if checkpoint_id is not None:
        found = _read(storage, job, checkpoint_id)
        if found is None:
            raise StateError(
                f"checkpoint {checkpoint_id} does not exist",
                remedy=f"complete checkpoints: {_complete(storage)}",
            )
        found.verify()
        return found
    passed_over: list[StateError] = []
    for candidate in reversed(_ids(storage)):
        try:
            found = _read(storage, job, candidate)
            if found is not None:
                found.verify()
                return found
        except StateError as error:
            # "final": not damaged, but not ours to pass over.
            if not fall_back or error.context.get("final"):
                raise
            _log.warning("checkpoint %d is passed over for an older one: %s", candidate, error.message)
            passed_over.append(error)
    if passed_over:
        # To begin anew would be to lose everything without a word.
        raise StateError(
            f"{passed_over[0].message}; no older checkpoint is whole",
            remedy="put the file back from a copy, or start from the beginning with another state directory",
        ) from passed_over[0]
    return None


def retire_newer(storage: CheckpointStorage, checkpoint_id: int) -> None:
    """Make sure that what was passed over for `checkpoint_id` never comes back, before sinks are cut to the older one.

    A disk may read again what it once did not. The newer checkpoint would then be restored beside an output that has gone
    another way since.

    Raises
    ------
    StateError
        That cannot be made sure.
    """
    for newer in published(storage):
        if newer > checkpoint_id:
            try:
                storage.retire(newer)
            except OSError as error:
                raise StateError(
                    f"{storage.where(newer)} is damaged and cannot be set aside: {_told(error)}",
                    remedy="check that the state directory can be written and that its disk has room",
                ) from error


def _complete(storage: CheckpointStorage) -> str:
    return ", ".join(map(str, published(storage))) or "none"


def published(storage: CheckpointStorage) -> list[int]:
    """Return the ids of the checkpoints that have a manifest, be it damaged, ascending."""
    return [checkpoint_id for checkpoint_id in _ids(storage) if _has_manifest(storage, checkpoint_id)]


def _has_manifest(storage: CheckpointStorage, checkpoint_id: int) -> bool:
    try:
        return storage.read_manifest(checkpoint_id) is not None
    except OSError:
        return True


def _ids(storage: CheckpointStorage) -> list[int]:
    try:
        return storage.ids()
    except OSError as error:
        raise StateError(f"the checkpoints cannot be listed: {_told(error)}", remedy="check the permissions") from error


def _told(error: OSError) -> str:
    return f"{error.strerror or error}" + ("" if error.filename is None else f" ({error.filename})")


def _read(storage: CheckpointStorage, job: str, checkpoint_id: int) -> Checkpoint | None:
    where = storage.where(checkpoint_id, "manifest.json")
    try:
        data = storage.read_manifest(checkpoint_id)
    except OSError as error:
        raise cannot_be_read(where, error, "restore from another checkpoint, or put the file back from a copy") from error
    if data is None:
        return None
    manifest = Manifest.decode(data, where)
    if manifest.job != job:
        raise _foreign(where, manifest.job, job)
    if manifest.checkpoint_id != checkpoint_id:
        raise StateError(
            f"{where} is damaged: it is the manifest of checkpoint {manifest.checkpoint_id}",
            remedy="restore from another checkpoint; this one cannot be used",
        )
    return Checkpoint(storage, manifest, manifest.digest)


def _foreign(where: str, found: str, job: str) -> StateError:
    return StateError(
        f"{where} belongs to the job {found!r}, not to {job!r}",
        remedy="give this job a state directory of its own, or the topology its old name",
        final=True,
    )


class StateDirectory:
    """A job's state directory, locked for this process until `close`.

    Parameters
    ----------
    path : str or path
        Made if it does not exist (its parent must).
    job : str
        Name of the topology.
    filesystem : FileSystem, optional
        What does the work.

    Attributes
    ----------
    storage : DirectoryStorage
        The checkpoints.
    incarnation : int
        How often the job has been started here, this time included.

    Raises
    ------
    StateError
        The directory cannot be written, is not safe, is in use, or belongs to another job.
    """

    def __init__(self, path: str | os.PathLike[str], job: str, filesystem: FileSystem | None = None) -> None:
        self.path = Path(path).absolute()
        self.job = job
        self._filesystem = filesystem or FileSystem()
        self._lock = -1
        try:
            self._prepare()
        except OSError as error:
            self.close()
            raise self._unusable(error) from error
        except BaseException:
            self.close()
            raise

    def _unusable(self, error: OSError) -> StateError:
        return StateError(
            f"the state directory {self.path} cannot be used: {_told(error)}",
            remedy="check that it can be written and that its disk has room, or name another: Config(state_dir=...)",
        )

    def _prepare(self) -> None:
        filesystem = self._filesystem
        if not filesystem.exists(self.path):
            filesystem.make_directory(self.path)
        if not filesystem.exists(self.path / _JOB):
            # Also behind a start that made the directory and came no further: nobody has synced its name.
            filesystem.sync_directory(self.path.parent)
        self._check_safe()
        self._take_lock()
        self.incarnation = self._next_incarnation()
        for name in ("checkpoints", "live"):
            if not filesystem.is_directory(self.path / name):
                filesystem.make_directory(self.path / name)
        filesystem.sync_directory(self.path)
        self.storage = DirectoryStorage(self.path / "checkpoints", filesystem)
        self._clean_up()

    def _check_safe(self) -> None:
        status = self.path.stat()
        if not self.path.is_dir():
            raise StateError(f"{self.path} is not a directory", remedy="name a directory: Config(state_dir=...)")
        if status.st_uid != os.geteuid():
            raise StateError(f"{self.path} belongs to another user", remedy="use a state directory of your own")
        parent = self.path.parent.stat()
        if parent.st_mode & 0o022 and not parent.st_mode & 0o1000:
            raise StateError(
                f"{self.path.parent} can be written by others, who could exchange the state directory",
                remedy=f"chmod go-w {self.path.parent}",
            )
        entries = os.listdir(self.path)
        if entries and _JOB not in entries and set(entries) - {_LOCK, _JOB + ".tmp"}:
            raise StateError(
                f"{self.path} is not empty and not a state directory: it has no {_JOB}",
                remedy="name a new or an empty directory: Config(state_dir=...)",
            )
        if status.st_mode & 0o077:
            os.chmod(self.path, 0o700)

    def _take_lock(self) -> None:
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        status = os.fstat(self._lock)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            # It is about to be emptied: not what somebody has linked here from elsewhere.
            raise StateError(f"{self.path / _LOCK} is not streamdsl's", remedy=f"remove {self.path / _LOCK}")
        os.fchmod(self._lock, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            raise StateError(
                f"the state directory {self.path} is in use by process {owner or 'unknown'}",
                remedy="stop that process, or name another directory: Config(state_dir=...)",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _next_incarnation(self) -> int:
        filesystem, where = self._filesystem, self.path / _JOB
        incarnation = 0
        try:
            known = json.loads(b"".join(filesystem.read(self.path, (_JOB,))))
            incarnation = self._known_incarnation(known, where)
        except FileNotFoundError:
            pass
        except (ValueError, RecursionError) as error:
            raise StateError(
                f"{where} is damaged: {error}",
                remedy="put the file back from a copy, or name another state directory: Config(state_dir=...)",
            ) from error
        body = json.dumps({"format": FORMAT, "job": self.job, "incarnation": incarnation + 1}) + "\n"
        filesystem.remove_file(self.path / (_JOB + ".tmp"))
        filesystem.write_new(self.path / (_JOB + ".tmp"), [body.encode()])
        filesystem.rename(self.path / (_JOB + ".tmp"), where)
        filesystem.sync_directory(self.path)
        return incarnation + 1

    def _known_incarnation(self, known: Any, where: Path) -> int:
        if not isinstance(known, dict) or not isinstance(known.get("format"), int) or not isinstance(known.get("job"), str):
            raise ValueError("it does not say whose state this is")
        if known["format"] > FORMAT:
            raise StateError(
                f"{where} has format {known['format']}, this streamdsl knows {FORMAT} at most",
                remedy="use the version of streamdsl that wrote it, or a newer one",
            )
        if known["job"] != self.job:
            raise _foreign(str(where), known["job"], self.job)
        incarnation = known.get("incarnation")
        if not isinstance(incarnation, int) or isinstance(incarnation, bool) or incarnation < 0:
            raise ValueError("it does not count its starts")
        return incarnation

    def _clean_up(self) -> None:
        """Remove what a crash left: databases of earlier starts, checkpoints that were never published."""
        live = self.path / "live"
        for name in self._filesystem.names(live):
            path = live / name
            if self._filesystem.is_directory(path):
                self._filesystem.remove_tree(path)
            else:
                self._filesystem.remove_file(path)
        self._filesystem.make_directory(live / str(self.incarnation))
        self._clean_checkpoints()

    def _clean_checkpoints(self) -> None:
        ids = self.storage.ids()
        # Whatever stands in the place of a manifest: a damaged checkpoint is told of, not cleared away.
        published = [i for i in ids if self._filesystem.exists(self.path / "checkpoints" / str(i) / "manifest.json")]
        for checkpoint_id in ids:
            if checkpoint_id in published:
                # Who published it may have died before its name was durable: a start that goes on from it makes it so.
                if self._filesystem.is_directory(self.path / "checkpoints" / str(checkpoint_id)):
                    self._filesystem.sync_directory(self.path / "checkpoints" / str(checkpoint_id))
                continue
            if published and checkpoint_id < published[-1]:
                self.storage.remove(checkpoint_id)
            else:
                self.storage.discard(checkpoint_id)

    def renew(self) -> None:
        """Begin a new incarnation in this process: a restart. All databases of the last one are closed by now."""
        try:
            self.incarnation = self._next_incarnation()
            self._clean_up()
        except OSError as error:
            raise self._unusable(error) from error

    def live(self, store: str) -> Path:
        """Return where the live database of a store is made; does not exist yet."""
        return self.path / "live" / str(self.incarnation) / safe_name(store)

    def close(self, *, clear: bool = False) -> None:
        """Let go of the lock; with `clear`, without the databases of this start, which nobody needs again. May be called twice."""
        if self._lock >= 0:
            if clear:
                # What cannot be removed now is removed by the next start.
                with contextlib.suppress(OSError):
                    self._filesystem.remove_tree(self.path / "live" / str(self.incarnation))
            # A process that was forked from this one has the descriptor too: closing ours would leave the lock with it.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = -1
