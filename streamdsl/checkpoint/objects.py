"""Checkpoints and savepoints in an object store: whatever fsspec speaks to (``s3://bucket/job``, ``gs://…``, ``abfs://…``).

::

    <url>/job.json            whose they are, and the newest one: {"job", "newest"}
    <url>/<id>/manifest.json  a complete checkpoint
    <url>/files/<checksum>    its files, each once, whatever the number of checkpoints that have it

Nothing is ever written twice under one name with another content, but job.json. So an answer that was lost is asked for again,
and a listing that is old is never relied on: job.json says which checkpoint is the newest, manifests say which files are in use.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.manifest import FileEntry, Manifest, StoreEntry, checksum
from streamdsl.checkpoint.progress import Progress, bytes_of
from streamdsl.checkpoint.storage import CheckpointStorage, DirectoryStorage
from streamdsl.errors import StateError
from streamdsl.object_stores import opened, tried

__all__ = ["MirroredStorage", "ObjectStore", "is_url"]

_log = logging.getLogger("streamdsl")

_CHUNK: Final = 8 << 20

T = TypeVar("T")


def is_url(path: Any) -> bool:
    """Whether a path names an object store.

    >>> is_url("s3://bucket/job"), is_url("/var/lib/job"), is_url("C://x")
    (True, False, False)
    """
    head, found, _ = str(path).partition("://")
    return bool(found) and len(head) > 1 and head.replace("+", "").isalnum()


class ObjectStore:
    """The checkpoints of one job below a URL.

    Parameters
    ----------
    url : str
    filesystem : optional
        An fsspec file system and the path on it, in place of those that the URL names.

    Raises
    ------
    ConfigError
        fsspec, or what it needs for the URL, is not installed.
    """

    def __init__(self, url: str, filesystem: tuple[Any, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self._fs, path = filesystem if filesystem is not None else opened(url)
        self._root = path.rstrip("/")
        self._there: set[str] = set()  # files that this process has written or seen

    # ------------------------------------------------------------------ writing

    def upload(self, storage: CheckpointStorage, manifest: Manifest, *, keep: int | None = None) -> None:
        """Write a checkpoint: its files, of which only the new ones are sent, then its manifest, then that it is the newest.

        With `keep`, older ones than so many are removed afterwards.

        Raises
        ------
        StateError
            It cannot be written; nothing names what has been.
        """
        known = self._job()
        if known is not None and known["job"] != manifest.job:
            raise StateError(f"{self.url} holds checkpoints of {known['job']!r}, not of {manifest.job!r}", remedy="name another place")
        if known is not None and known["newest"] >= manifest.checkpoint_id and known["digest"] != manifest.digest:
            raise StateError(
                f"{self.url} has checkpoint {known['newest']} already, from elsewhere",
                remedy="one worker runs a job: stop the other one, or name another place",
                lasting=True,
            )
        total = bytes_of(file for file in _files(manifest) if _name(file) not in self._there)
        with Progress(f"checkpoint {manifest.checkpoint_id} is sent to {self.url}", total) as progress:
            for store in manifest.stores:
                for file in store.files:
                    if _name(file) not in self._there:
                        self._send(storage, manifest.checkpoint_id, store, file)
                        progress.add(file.size)
        self._put(f"{manifest.checkpoint_id}/manifest.json", manifest.encode())
        ids = [*(known["ids"] if known else []), manifest.checkpoint_id]
        kept = sorted(set(ids))[-keep:] if keep else sorted(set(ids))
        said = {"job": manifest.job, "newest": manifest.checkpoint_id, "digest": manifest.digest, "ids": kept}
        self._put("job.json", json.dumps(said).encode())
        gone = [checkpoint_id for checkpoint_id in ids if checkpoint_id not in kept]
        if gone:
            self._remove(gone, kept)

    def _send(self, storage: CheckpointStorage, checkpoint_id: int, store: StoreEntry, file: FileEntry) -> None:
        name = _name(file)
        path = f"{self._root}/{name}"

        def send() -> None:
            # Looked for by name: a file of this name has this content.
            with contextlib.suppress(FileNotFoundError):
                if self._fs.info(path)["size"] == file.size:
                    return
            chunks = _first(storage.read(checkpoint_id, store.name, file.name), file.size)
            with self._fs.open(path, "wb", block_size=_CHUNK) as target:
                for chunk in chunks:
                    target.write(chunk)

        self._tried(f"{name} cannot be written", send)
        self._there.add(name)

    def _put(self, name: str, data: bytes) -> None:
        self._tried(f"{name} cannot be written", lambda: self._fs.pipe_file(f"{self._root}/{name}", data))

    def _remove(self, gone: list[int], kept: list[int]) -> None:
        """Remove old checkpoints and the files that no other has. What cannot be removed costs room, nothing else."""
        try:
            used = {_name(file) for i in kept if (manifest := self._manifest(i)) is not None for file in _files(manifest)}
            for checkpoint_id in gone:
                manifest = self._manifest(checkpoint_id)
                names = {_name(file) for file in _files(manifest)} - used if manifest is not None else set()
                for name in (f"{checkpoint_id}/manifest.json", *names):
                    with contextlib.suppress(FileNotFoundError):
                        self._fs.rm_file(f"{self._root}/{name}")
                self._there -= names
        except Exception as error:  # noqa: BLE001 - each file system has errors of its own
            _log.warning("an old checkpoint in %s cannot be removed: %s", self.url, error)

    # ------------------------------------------------------------------ reading

    def ids(self, job: str) -> list[int]:
        """Return the ids of the complete checkpoints, ascending.

        Raises
        ------
        StateError
            It cannot be asked, or holds those of another job.
        """
        known = self._job()
        if known is None:
            return []
        if known["job"] != job:
            raise StateError(f"{self.url} holds checkpoints of {known['job']!r}, not of {job!r}", remedy="name another place")
        return [int(checkpoint_id) for checkpoint_id in known["ids"]]

    def download(self, checkpoint_id: int, target: DirectoryStorage) -> None:
        """Bring a checkpoint into a directory, every file compared with its checksum.

        Raises
        ------
        StateError
            A file is missing or is not what was written.
        """
        manifest = self._manifest(checkpoint_id)
        if manifest is None:
            raise StateError(f"{self.url} has no checkpoint {checkpoint_id}", remedy="restore from another one")
        target.begin(checkpoint_id)
        try:
            self._receive_all(manifest, target)
            target.publish(checkpoint_id, manifest.encode())
        except BaseException:
            target.discard(checkpoint_id)
            raise

    def _receive_all(self, manifest: Manifest, target: DirectoryStorage) -> None:
        with Progress(f"checkpoint {manifest.checkpoint_id} is brought from {self.url}", bytes_of(_files(manifest))) as progress:
            for store in manifest.stores:
                place = target.target(manifest.checkpoint_id, store.name)
                assert place is not None
                try:
                    for file in store.files:
                        place.write_file(file.name, progress.of(self._received(file)))
                    place.seal()
                finally:
                    place.close()

    def _received(self, file: FileEntry) -> Iterator[bytes]:
        path, digest, size = f"{self._root}/{_name(file)}", checksum(), 0

        def part(start: int) -> bytes:
            return bytes(self._fs.cat_file(path, start=start, end=min(start + _CHUNK, file.size)))

        while size < file.size:
            chunk = self._tried(f"{_name(file)} cannot be read", lambda start=size: part(start))  # type: ignore[misc]
            if not chunk:
                break
            size += len(chunk)
            digest.update(chunk)
            yield chunk
        if size != file.size or digest.hexdigest() != file.checksum:
            raise StateError(f"{self.url}/{_name(file)} is damaged", remedy="restore from another checkpoint")

    def _job(self) -> dict[str, Any] | None:
        data = self._get("job.json")
        if data is None:
            return None
        try:
            known = json.loads(data)
            return {"job": str(known["job"]), "newest": int(known["newest"]), "digest": str(known["digest"]), "ids": list(known["ids"])}
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self.url}/job.json is damaged: {error}", remedy="put it back from a copy, or name another place") from error

    def _manifest(self, checkpoint_id: int) -> Manifest | None:
        data = self._get(f"{checkpoint_id}/manifest.json")
        return None if data is None else Manifest.decode(data, f"{self.url}/{checkpoint_id}/manifest.json")

    def _get(self, name: str) -> bytes | None:
        def get() -> bytes | None:
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

        self._fs.invalidate_cache()
        return self._tried(f"{name} cannot be read", get)

    def _tried(self, what: str, request: Callable[[], T]) -> T:
        return tried(f"{self.url}/{what}", request, StateError)


def _name(file: FileEntry) -> str:
    return f"files/{file.checksum}-{file.size}"


def _files(manifest: Manifest) -> Iterator[FileEntry]:
    return (file for store in manifest.stores for file in store.files)


def _first(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield so many bytes: what stands behind the end of a journal belongs to later checkpoints."""
    for chunk in chunks:
        if size <= 0:
            return
        yield chunk[:size]
        size -= min(size, len(chunk))


class MirroredStorage(DirectoryStorage):
    """Checkpoints in a directory, each of which is in an object store too before it counts.

    Parameters
    ----------
    root : Path
    store : ObjectStore
    keep : int
        How many the object store keeps.
    filesystem : FileSystem, optional
    """

    def __init__(self, root: Path, store: ObjectStore, keep: int, filesystem: FileSystem | None = None) -> None:
        super().__init__(root, filesystem)
        self._store, self._keep = store, keep

    def publish(self, checkpoint_id: int, manifest: bytes) -> None:
        """See `CheckpointStorage.publish`. What fails here has failed as a whole: the object store may have one more than counts."""
        self._store.upload(self, Manifest.decode(manifest, self.where(checkpoint_id)), keep=self._keep)
        super().publish(checkpoint_id, manifest)

    def catch_up(self, job: str) -> None:
        """Bring checkpoints here that are newer than all of the directory: it is a new one, or another machine has gone on."""
        own = [checkpoint_id for checkpoint_id in self.ids() if self.read_manifest(checkpoint_id) is not None]
        for checkpoint_id in self._store.ids(job):
            if checkpoint_id <= max(own, default=0):
                continue
            if checkpoint_id in self.ids():
                super().remove(checkpoint_id)  # what a crash has left of it
            _log.info("%s: checkpoint %d is brought from %s", job, checkpoint_id, self._store.url)
            self._store.download(checkpoint_id, _Plain(self.root, self.filesystem))


class _Plain(DirectoryStorage):
    """The same directory, for what is in the object store already."""
