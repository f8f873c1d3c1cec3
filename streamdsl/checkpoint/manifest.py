"""The manifest of a checkpoint: one JSON file that says what there is and carries its own checksum.

What is not in a manifest does not exist; a directory without a whole manifest is no checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from streamdsl.checkpoint.names import check_file_name, check_store_name
from streamdsl.errors import StateError

__all__ = ["FORMAT", "FileEntry", "Manifest", "StoreEntry", "blake2b", "checksum"]

#: Version of everything below a checkpoint's directory. Another one is refused, never guessed at.
FORMAT = 7
_OLDER = {
    1: "has no journals",
    2: "has BLAKE2b checksums of its files",
    3: "does not say what its state means",
    4: "has no arrival numbers",
    5: "does not say which inputs were behind",
    6: "does not say how tables are read without their topology",
}
MAX_BYTES = 64 << 20
MAX_FILES = 100_000
MAX_DEPTH = 64
MAX_SHARDS = 65_536
_REMEDY = "restore from another checkpoint; this one cannot be used"


def blake2b(data: bytes = b"") -> Any:
    """Return a BLAKE2b-256 hash object: the manifest's own checksum, the same in every format."""
    return hashlib.blake2b(data, digest_size=32)


def checksum(data: bytes = b"") -> Any:
    """Return a SHA-256 hash object: the checksum of files. Most processors have instructions for it; a journal is written all the time."""
    return hashlib.sha256(data)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a store: its size in bytes and its SHA-256, in hex.

    A file that `grows` is the journal: it belongs to later checkpoints too, and only its first `size` bytes to this one.
    """

    name: str
    size: int
    checksum: str
    grows: bool = False


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """One task's keyed state.

    Attributes
    ----------
    name : str
        Its directory in the checkpoint.
    backend : str
        What wrote the files.
    shards : tuple of int
        The shards whose rows it holds.
    description : mapping
        `StateStore.describe()`: what the ids of tables and fields mean.
    files : tuple of FileEntry
        The base, and at most one journal to be applied to it.
    """

    name: str
    backend: str
    shards: tuple[int, ...]
    description: Mapping[str, Any]
    files: tuple[FileEntry, ...]

    @property
    def base(self) -> tuple[FileEntry, ...]:
        """The files of the base; none: it is empty."""
        return tuple(file for file in self.files if not file.grows)

    @property
    def journal(self) -> FileEntry | None:
        """What is to be applied to the base."""
        return next((file for file in self.files if file.grows), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A complete checkpoint.

    Attributes
    ----------
    job : str
        Name of the topology.
    checkpoint_id : int
    finished : bool
        Whether all input had ended: nothing is left to do after a restore.
    shards : int
        S of the job.
    sources : mapping
        {source: {split: position}}
    operators : mapping
        {operator: {task: snapshot}}; sinks are among them.
    shard_watermarks : mapping
        {lookup: {shard, as text: ms}}
    arrivals : int
        Arrival numbers below this one may stand in the state of keys.
    behind : mapping
        {stage: {task: {"watermark": ms, "inputs": [[operator, task, tasks]], "timely": [operator]}}}: inputs that woke behind a task's
        watermark, and whose other inputs did not.
    meanings : mapping
        {source or operator: {part: text or number}}: what decides the meaning of its positions or state (see `logical.meaning`).
    views : mapping
        How the rows of operators are read without the topology, by name (see `physical.views`).
    dropped : tuple of str
        What the run was told to drop (`Config.drop_state`): its state has been given up once, and is not again.
    stores : tuple of StoreEntry
    """

    job: str
    checkpoint_id: int
    finished: bool
    shards: int
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    operators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shard_watermarks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    arrivals: int = 0
    behind: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    meanings: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)
    views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    stores: tuple[StoreEntry, ...] = ()
    #: The file's bytes, once they were asked for: of thousands of splits they take milliseconds.
    _encoded: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    def encode(self) -> bytes:
        """Return the file's bytes."""
        if not self._encoded:
            self._encoded.append(_envelope(_canonical(self._body())))
        return self._encoded[0]

    @property
    def digest(self) -> str:
        """BLAKE2b-256 of the file's bytes, in hex: what names this very checkpoint elsewhere."""
        return str(blake2b(self.encode()).hexdigest())

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "job": self.job,
            "checkpoint_id": self.checkpoint_id,
            "finished": self.finished,
            "shards": self.shards,
            "sources": self.sources,
            "operators": self.operators,
            "shard_watermarks": self.shard_watermarks,
            "arrivals": self.arrivals,
            "behind": self.behind,
            "meanings": self.meanings,
            "views": self.views,
            "dropped": list(self.dropped),
            "stores": [
                {
                    "name": store.name,
                    "backend": store.backend,
                    "shards": list(store.shards),
                    "description": store.description,
                    "files": [[file.name, file.size, file.checksum, file.grows] for file in store.files],
                }
                for store in self.stores
            ],
        }

    @staticmethod
    def decode(data: bytes, where: str) -> Manifest:
        """Read a manifest back.

        Parameters
        ----------
        data : bytes
            The file.
        where : str
            What errors call it.

        Raises
        ------
        StateError
            It is not exactly what `encode` wrote, or a newer version wrote it.
        """
        return _Reader(where).read(data)


def _canonical(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise StateError(f"a snapshot is not JSON: {error}", remedy="positions and snapshots are plain JSON values") from error
    return text.encode("ascii")


def _envelope(body: bytes) -> bytes:
    digest: str = blake2b(body).hexdigest()
    return b'{"blake2b":"' + digest.encode() + b'","manifest":' + body + b"}\n"


class _Reader:
    """Strict parser of one manifest."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, reason: str) -> NoReturn:
        raise StateError(f"{self.where} is damaged: {reason}", remedy=_REMEDY)

    def read(self, data: bytes) -> Manifest:
        if len(data) > MAX_BYTES:
            self.fail(f"it has {len(data)} bytes, {MAX_BYTES} is the most a manifest has")
        envelope = self._parse(data)
        if not isinstance(envelope, dict):
            self.fail("it is not a manifest")
        body = envelope.get("manifest")
        if not isinstance(body, dict):
            self.fail("it is not a manifest")
        written_by = body.get("format")
        if isinstance(written_by, int) and not isinstance(written_by, bool) and written_by > FORMAT:
            raise StateError(
                f"{self.where} has format {written_by}, this streamdsl knows {FORMAT} at most",
                remedy="use the version of streamdsl that wrote the checkpoint, or a newer one",
                final=True,
            )
        encoded = _canonical(body)
        if _envelope(encoded) != data:
            self.fail("its checksum does not fit its text")
        if type(written_by) is int and written_by in _OLDER:
            raise StateError(
                f"{self.where} has format {written_by}, which {_OLDER[written_by]}; this streamdsl reads {FORMAT} alone",
                remedy="go on with the version of streamdsl that wrote the checkpoint, or begin anew with another state directory",
                final=True,
            )
        if written_by != FORMAT or isinstance(written_by, bool):
            self.fail(f"format {written_by!r} is not known")
        return self._manifest(body)

    def _parse(self, data: bytes) -> Any:
        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(pairs)
            if len(found) != len(pairs):
                raise ValueError("a name stands twice")
            return found

        def constant(name: str) -> NoReturn:
            raise ValueError(f"{name} is not JSON")

        try:
            text = data.decode("ascii")
            self._check_depth(text)
            return json.loads(text, object_pairs_hook=unique, parse_constant=constant)
        except (ValueError, RecursionError) as error:
            self.fail(str(error) or "it is nested too deeply")

    def _check_depth(self, text: str) -> None:
        # Brackets inside strings count too: a harmless overestimate, undone by looking closer only when it is large.
        depth = deepest = 0
        inside = escaped = False
        if text.count("[") + text.count("{") <= MAX_DEPTH:
            return
        for character in text:
            if inside:
                if escaped:
                    escaped = False
                elif character == "\\":
                    escaped = True
                elif character == '"':
                    inside = False
            elif character == '"':
                inside = True
            elif character in "[{":
                depth += 1
                deepest = max(deepest, depth)
            elif character in "]}":
                depth -= 1
        if deepest > MAX_DEPTH:
            raise ValueError(f"it is nested {deepest} deep, {MAX_DEPTH} is the most")

    def _manifest(self, body: dict[str, Any]) -> Manifest:
        shards = self._int(body, "shards", 1, MAX_SHARDS)
        stores = tuple(self._store(entry, shards) for entry in self._list(body, "stores"))
        if sum(len(store.files) for store in stores) > MAX_FILES:
            self.fail(f"it names more than {MAX_FILES} files")
        if len({store.name for store in stores}) != len(stores):
            self.fail("two stores have one name")
        finished = body.get("finished")
        if not isinstance(finished, bool):
            self.fail("finished is not a truth value")
        watermarks = self._nested(body, "shard_watermarks")
        for lookup, reached in watermarks.items():
            for shard, value in reached.items():
                if not (shard.isascii() and shard.isdigit() and len(shard) <= 5 and int(shard) < shards):
                    self.fail(f"{lookup!r} has a watermark of the shard {shard[:20]!r}")
                if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
                    self.fail(f"{lookup!r} has a watermark that is no time")
        meanings = self._nested(body, "meanings")
        if not all(type(value) in (str, int) for parts in meanings.values() for value in parts.values()):
            self.fail("a meaning is neither a text nor a number")
        dropped = self._list(body, "dropped")
        if not all(isinstance(name, str) for name in dropped):
            self.fail("dropped is not a list of names")
        return Manifest(
            job=self._text(body, "job"),
            checkpoint_id=self._int(body, "checkpoint_id", 1, 2**63 - 1),
            finished=finished,
            shards=shards,
            sources=self._nested(body, "sources"),
            operators=self._nested(body, "operators"),
            shard_watermarks=watermarks,
            arrivals=self._int(body, "arrivals", 0, 2**62),
            behind=self._behind(body),
            meanings=meanings,
            views=self._nested(body, "views"),
            dropped=tuple(dropped),
            stores=stores,
        )

    def _behind(self, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
        stages = self._nested(body, "behind")
        for tasks in stages.values():
            for found in tasks.values():
                if not isinstance(found, dict) or set(found) != {"watermark", "inputs", "timely"}:
                    self.fail("what it says of inputs that are behind is damaged")
                self._int(found, "watermark", -(2**63), 2**63 - 1)
                if not all(isinstance(name, str) for name in self._list(found, "timely")):
                    self.fail("an operator is not named")
                for entry in self._list(found, "inputs"):
                    if not isinstance(entry, list) or [type(part) for part in entry] != [str, int, int]:
                        self.fail("an input that is behind is not named")
        return stages

    def _store(self, entry: Any, shards: int) -> StoreEntry:
        if not isinstance(entry, dict):
            self.fail("a store is not described")
        owned = self._list(entry, "shards")
        if not all(isinstance(shard, int) and not isinstance(shard, bool) and 0 <= shard < shards for shard in owned):
            self.fail("a store names a shard that the job does not have")
        description = entry.get("description")
        if not isinstance(description, dict):
            self.fail("a store's tables are not described")
        try:
            name = check_store_name(entry.get("name"))
            files = tuple(self._file(file) for file in self._list(entry, "files"))
        except StateError as error:
            self.fail(error.message)
        if len({file.name for file in files}) != len(files):
            self.fail(f"store {name!r} names a file twice")
        if sum(file.grows for file in files) > 1:
            self.fail(f"store {name!r} has two journals")
        return StoreEntry(name, self._text(entry, "backend"), tuple(owned), description, files)

    def _file(self, entry: Any) -> FileEntry:
        if not isinstance(entry, list) or len(entry) != 4:
            self.fail("a file is not described")
        name, size, checksum, grows = entry
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**53:
            self.fail("a file has no size")
        if not isinstance(checksum, str) or len(checksum) != 64 or set(checksum) - set("0123456789abcdef"):
            self.fail("a file has no checksum")
        if not isinstance(grows, bool):
            self.fail("a file neither grows nor is whole")
        return FileEntry(check_file_name(name), size, checksum, grows)

    def _text(self, body: dict[str, Any], name: str) -> str:
        value = body.get(name)
        if not isinstance(value, str):
            self.fail(f"{name} is not a text")
        return value

    def _int(self, body: dict[str, Any], name: str, low: int, high: int) -> int:
        value = body.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fail(f"{name} is out of range")
        return value

    def _list(self, body: dict[str, Any], name: str) -> list[Any]:
        value = body.get(name)
        if not isinstance(value, list):
            self.fail(f"{name} is not a list")
        return value

    def _nested(self, body: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
        value = body.get(name)
        if not isinstance(value, dict) or not all(isinstance(inner, dict) for inner in value.values()):
            self.fail(f"{name} is not a mapping of mappings")
        return value
