"""Savepoints: a checkpoint copied out of the state directory, whole and its own, that no retention removes.

::

    <savepoint>/<id>/     what stands in `checkpoints/<id>` of a state directory, every file a copy
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from streamdsl._native.includes.faults import fault
from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.objects import ObjectStore
from streamdsl.checkpoint.progress import Progress, bytes_of
from streamdsl.checkpoint.recovery import Checkpoint, find_checkpoint
from streamdsl.checkpoint.storage import CheckpointStorage, DirectoryStorage
from streamdsl.errors import StateError

__all__ = ["CheckpointRequest", "SavepointRequest", "find_savepoint", "write_savepoint"]


class CheckpointRequest:
    """One wish for a checkpoint: asked for in one thread, answered in another.

    Attributes
    ----------
    manifest : Manifest or None
        The checkpoint; to be looked at once `done` is set.
    error : StateError or None
        Why there is none.
    """

    def __init__(self) -> None:
        self.done = threading.Event()
        self.manifest: Manifest | None = None
        self.error: StateError | None = None

    def answer(self, storage: CheckpointStorage, manifest: Manifest) -> None:
        """Answer with this checkpoint."""
        self.manifest = manifest
        self.done.set()

    def refuse(self, reason: str) -> None:
        """Answer that there is none."""
        self.error = StateError(f"there is no {self}: {reason}", remedy="mend the cause and ask again")
        self.done.set()

    def __str__(self) -> str:
        return "checkpoint"


class SavepointRequest(CheckpointRequest):
    """The wish for a checkpoint and a copy of it in the new directory `path`, or below a URL."""

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        self.path = path

    def answer(self, storage: CheckpointStorage, manifest: Manifest) -> None:
        """Copy this checkpoint."""
        try:
            if isinstance(self.path, Path):
                write_savepoint(storage, manifest, self.path)
            else:
                _upload(storage, manifest, self.path)
        except StateError as error:
            self.error = error
        super().answer(storage, manifest)

    def __str__(self) -> str:
        return f"savepoint {self.path}"


def _upload(storage: CheckpointStorage, manifest: Manifest, url: str) -> None:
    store = ObjectStore(url)
    if store.ids(manifest.job):
        raise StateError(f"{url} exists", remedy="a savepoint is a new place: name another")
    store.upload(storage, manifest)


def write_savepoint(storage: CheckpointStorage, manifest: Manifest, path: Path, filesystem: FileSystem | None = None) -> None:
    """Copy a complete checkpoint into the new directory `path`: all of it or nothing.

    Raises
    ------
    StateError
        The directory exists or cannot be written, or the checkpoint is damaged.
    """
    filesystem = filesystem or FileSystem()
    if filesystem.exists(path):
        raise StateError(f"{path} exists", remedy="a savepoint is a new directory: name another")
    try:
        filesystem.make_directory(path)
        try:
            _copy(storage, manifest, DirectoryStorage(path, filesystem))
            filesystem.sync_directory(path.parent)
        except BaseException:
            filesystem.remove_tree(path)
            raise
    except OSError as error:
        raise StateError(
            f"the savepoint {path} cannot be written: {error.strerror or error}", remedy="check that its directory exists and has room"
        ) from error


def _copy(storage: CheckpointStorage, manifest: Manifest, copies: DirectoryStorage) -> None:
    copies.begin(manifest.checkpoint_id)
    fault("FP33")
    total = sum(bytes_of(store.files) for store in manifest.stores)
    with Progress(f"checkpoint {manifest.checkpoint_id} is copied to {copies.root}", total) as progress:
        for store in manifest.stores:
            target = copies.target(manifest.checkpoint_id, store.name)
            assert target is not None
            for file in store.files:
                chunks = storage.read(manifest.checkpoint_id, store.name, file.name)
                target.write_file(file.name, progress.of(_first(chunks, file.size) if file.grows else chunks))
            target.seal()
            target.close()
    copies.publish(manifest.checkpoint_id, manifest.encode())
    # Against the manifest: what was read may not be what was once written.
    for store in manifest.stores:
        copies.files(manifest.checkpoint_id, store)


def _first(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:size]
        size -= min(size, len(chunk))
        if not size:
            return


def find_savepoint(path: Path, job: str) -> Checkpoint:
    """Return the checkpoint in a savepoint, every file verified.

    Raises
    ------
    StateError
        There is none, it is damaged, or of another job.
    """
    found = find_checkpoint(DirectoryStorage(path, links=False), job) if path.is_dir() else None
    if found is None:
        raise StateError(f"{path} is not a savepoint", remedy="name a directory that Run.savepoint has made")
    return found
