"""Files in an object store (``s3://bucket/orders-*.parquet``): whatever fsspec speaks to.

A source brings an object to this machine when it is opened, and reads it there. A sink writes Parquet or Arrow: an object for each
checkpoint and task, which nothing changes afterwards. What no checkpoint covers is removed at the next start.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from streamdsl.connectors.base import Json, Sink, SinkWriter, Source, SplitReader
from streamdsl.connectors.files.description import Files, size_at
from streamdsl.connectors.files.listing import Format, suffix_format
from streamdsl.connectors.files.partitioned_writer import PartitionedWriter, Place
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.object_stores import opened
from streamdsl.object_stores import tried as made_again
from streamdsl.schema import Schema

__all__ = ["ObjectFiles"]

_GROUP_ROWS: Final = 65536
_PART: Final = re.compile(r"part-(\d+)-(\d+)\.(parquet|arrow)")

T = TypeVar("T")


def tried(what: str, request: Callable[[], T]) -> T:
    """Return what a request returns; one that fails is made again a few times. All of them can be.

    Raises
    ------
    ConnectorError
        It fails for good.
    """
    try:
        return made_again(what, request, ConnectorError, final=(FileNotFoundError,), again=True)
    except FileNotFoundError as error:
        raise ConnectorError(f"{what}: there is no such object", remedy="check the address") from error


class _Copies:
    """A directory for objects that are read; it goes with this."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="streamdsl-objects-")
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def of(self, url: str) -> str:
        """Return a copy of an object."""
        system, path = opened(url, ConnectorError)
        # The ending tells the format, and what it is compressed by.
        target = os.path.join(self.path, f"{len(os.listdir(self.path)):06}-{os.path.basename(path)}")
        tried(f"{url} cannot be read", lambda: system.get_file(path, target))
        return target


@dataclass(frozen=True, eq=False)
class ObjectFiles(Files):
    """`files(...)` whose paths are URLs."""

    copies: _Copies = field(default_factory=_Copies)

    # As a source ------------------------------------------------------------------------------------------------

    def splits(self) -> Sequence[str]:
        """Return the objects, those of a pattern in sorted order, each once.

        Raises
        ------
        ConnectorError
            Nothing is there, or the store does not answer.
        """
        if self.found is None:
            return self._listed()
        if not self.found:
            self.found.append(self._listed())
        return self.found[0]

    def _listed(self, *, present: bool = True) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for url in self.paths:
            system, path = opened(url, ConnectorError)
            system.invalidate_cache()
            scheme = url.partition("://")[0]
            for name in tried(f"{url} cannot be listed", lambda system=system, path=path: _matching(system, path, self.format)):  # type: ignore[misc]
                names[f"{scheme}://{str(name).lstrip('/') if scheme != 'file' else name}"] = None
            if not names and present:
                raise ConnectorError(f"no object matches {url}", remedy="check the address, and the pattern")
        return tuple(names)

    def would_read(self, file: str) -> bool:
        """Return whether a path stands for `file`: none of this machine."""
        return False

    def has_more(self, split: str, position: Json) -> bool:
        """Return whether an object has grown behind `position`, where it had ended."""
        system, path = opened(split, ConnectorError)
        system.invalidate_cache()
        return bool(tried(f"{split} cannot be read", lambda: system.info(path))["size"] != size_at(position))

    def has_new(self, positions: Mapping[str, Json]) -> bool:
        """Return whether there are other objects. Those that were taken away since are no matter."""
        return any(name not in positions or self.has_more(name, positions[name]) for name in self._listed(present=False))

    def _open(self, split: str, partition: int, position: Json, columns: Sequence[str], files: int, place: str = "") -> SplitReader:
        reader = super()._open(self.copies.of(split), partition, position, columns, files, split)
        cast(Any, reader).label = split
        return reader

    # As a sink --------------------------------------------------------------------------------------------------

    def check(self, schema: Schema, keys: Sequence[str]) -> None:
        """Refuse several places, and text."""
        if len(self.paths) != 1:
            raise TopologyError(f"a sink is one place, not {', '.join(self.paths)}")
        self._check_partitions(schema)
        if self.format not in ("parquet", "arrow"):
            raise TopologyError(
                f"{self.paths[0]}: an object cannot grow, so that it is no sink of {self.format}",
                remedy="write Parquet or Arrow: files('s3://bucket/name.parquet') is a place of parts, one for each checkpoint",
            )

    def probe(self, written: Schema | None = None, keys: Sequence[str] = ()) -> Iterator[str]:
        """Look whether there are objects to read, and whether the store answers."""
        if written is None:
            yield f"{self.name}: {len(self._listed()):,} objects to read"
            return
        system, path = opened(self.paths[0], ConnectorError)
        tried(f"{self.paths[0]} cannot be listed", lambda: system.exists(path))
        yield f"{self.paths[0]}: the store answers"

    def overwrites(self, source: Source) -> str:
        """Return the object of `source` that this sink would write, "" if there is none."""
        if not isinstance(source, ObjectFiles):
            return ""
        place = _plain(self.paths[0])
        part = f"{place}/part-00000001-000.{self.format}"
        return next((path for path in source.paths if f"{_plain(path)}/".startswith(f"{place}/") or _reads(_plain(path), part)), "")

    def collides(self, other: Sink) -> str:
        """Return what this sink and `other` would both write, "" if there is nothing."""
        if not isinstance(other, ObjectFiles):
            return ""
        mine, its = f"{_plain(self.paths[0])}/", f"{_plain(other.paths[0])}/"
        return other.paths[0] if mine.startswith(its) or its.startswith(mine) else ""

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Write parts below the URL; those behind `state` are removed."""
        self.check(schema, keys)
        url = self.paths[0].rstrip("/")
        return PartitionedWriter(url, ObjectPlace(url), self.format, schema.visible(), self.partitions, task, state)


def _plain(url: str) -> str:
    """Return a URL in one spelling: without empty parts, and those that lead back."""
    scheme, _, path = url.partition("://")
    return f"{scheme.lower()}://{posixpath.normpath(path)}"


def _reads(pattern: str, url: str) -> bool:
    """Whether an object would be among those that a source names by a pattern, or by what lies above them."""
    if not any(letter in pattern for letter in "*?["):
        return url.startswith(f"{pattern}/")
    from fsspec.utils import glob_translate

    return re.match(glob_translate(pattern), url) is not None


def _matching(system: Any, path: str, format: Format) -> list[str]:
    if any(letter in path for letter in "*?["):
        return [name for name in sorted(system.glob(path)) if not system.isdir(name)]
    if system.isfile(path):
        return [path]
    below = sorted(system.find(path)) if system.isdir(path) else []
    return [name for name in below if suffix_format(name) == format and not os.path.basename(name).startswith((".", "_"))]


class ObjectPlace(Place):
    """A folder of an object store."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._system, self._path = opened(url, ConnectorError)
        self._files = tempfile.TemporaryDirectory(prefix="streamdsl-parts-")

    def parts(self) -> list[str]:
        """Return all objects below."""
        self._system.invalidate_cache()

        def listed() -> list[str]:
            try:
                return [str(name) for name in self._system.find(self._path)]
            except FileNotFoundError:
                return []

        below = self._path.rstrip("/") + "/"
        return [name[name.index(below) + len(below) :] for name in tried(f"{self._url} cannot be listed", listed) if below in name]

    def remove(self, name: str) -> None:
        """Remove an object."""
        tried(f"{self._url}/{name} cannot be removed", lambda: self._system.rm_file(f"{self._path}/{name}"))

    def workshop(self) -> str:
        """Return a directory of this machine, which goes with this."""
        return self._files.name

    def publish(self, file: str, name: str) -> None:
        """Send a file. The same bytes under the same name, however often: an answer that was lost does no harm."""
        tried(f"{self._url}/{name} cannot be written", lambda: self._system.put_file(file, f"{self._path}/{name}"))
        os.unlink(file)
