"""`files(...)`: what a user writes to read or write files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Union, cast

from streamdsl.connectors.base import Json, Sink, SinkWriter, Source, SplitReader
from streamdsl.connectors.files.columnar_reader import ArrowReader, ParquetReader
from streamdsl.connectors.files.listing import CODECS, Format, delimiter_of, expanded, format_of, is_url, paths_of
from streamdsl.connectors.files.open_files import unopened
from streamdsl.connectors.files.part_writer import PartWriter
from streamdsl.connectors.files.partitioned_writer import LocalPlace, PartitionedWriter
from streamdsl.connectors.files.partitions import PERIODS, Partitions
from streamdsl.connectors.files.places import Place, listed
from streamdsl.connectors.files.text_reader import TextReader
from streamdsl.connectors.files.text_writer import TextWriter
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.schema import Schema

__all__ = ["Files", "files"]

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

_BLOCK_BYTES: Final = 1 << 20
_LEAST_BLOCK_BYTES: Final = 1 << 14
#: Of each split a block is in memory: many files have smaller ones.
_BLOCKS_BYTES: Final = 1 << 27
_RATED_BLOCK_BYTES: Final = 1 << 16
_RECORD_BYTES: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class Files(Source, Sink):
    """Files as a source and as a sink; made by `files`."""

    paths: tuple[str, ...]
    schema: Schema
    format: Format
    name: str
    errors: Any = None
    rate: float | None = None
    max_record_bytes: int = _RECORD_BYTES
    changes: bool = False
    keys: tuple[str, ...] = ()
    time: str | None = None
    partition_by: tuple[str, ...] = ()
    partition_time: str | None = None
    delimiter: str = ","

    # The files as they were found at a start, which finds them once.
    found: list[tuple[str, ...]] | None = None

    bounded = True
    gathers = True
    upserts = False
    locates_rows = True
    delivery = "exactly_once"

    def with_schema(self, schema: Any) -> Files:
        """Return the same files with the columns of `schema`."""
        return replace(self, schema=Schema.of(schema))

    def configured(self, config: Any, job: str) -> Files:
        """Return the same files; those of patterns are looked for once."""
        return replace(self, found=[])

    def of_table(self, keys: Sequence[str], time: str | None) -> Files:
        """Return the same files, whose removed rows are those of these keys."""
        return replace(self, keys=tuple(keys), time=time)

    @property
    def position_form(self) -> str:  # type: ignore[override]
        """What a position is of."""
        return f"{'change events in ' if self.changes else ''}{self.format} files"

    # As a source ------------------------------------------------------------------------------------------------

    def splits(self) -> Sequence[str]:
        """Return the files, those of a pattern or a directory in sorted order, each once.

        Raises
        ------
        ConnectorError
            A file does not exist, nothing matches a pattern, or a directory cannot be read.
        """
        if self.found is None:
            return expanded(self.paths, self.format)
        if not self.found:
            self.found.append(expanded(self.paths, self.format))
        return self.found[0]

    def would_read(self, file: str) -> bool:
        """Return whether a path or a pattern stands for `file`."""
        place = Place(file, "json")
        return any(place.is_read_by(path, self.format) for path in self.paths)

    def has_more(self, split: str, position: Json) -> bool:
        """Return whether a file has grown behind `position`, where it had ended."""
        return os.stat(split).st_size != size_at(position)

    def has_new(self, positions: Mapping[str, Json]) -> bool:
        """Return whether there are other files, or more in these. Files that were taken away since are no matter."""
        found = expanded(self.paths, self.format, present=False)
        return any(name not in positions or self.has_more(name, positions[name]) for name in found)

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Open one file.

        Raises
        ------
        ConnectorError
            It cannot be read, lacks a column that is not optional, or is not the file the position was taken in.
        """
        return self.open_splits({split: position}, columns, own_time=False)[split]

    def open_splits(self, positions: Mapping[str, Json], columns: Sequence[str], *, own_time: bool) -> Mapping[str, SplitReader]:
        """Open several files; of them 64 at most are open at once."""
        if not self.schema:
            raise ConnectorError(f"files({self.name!r}) has no schema", remedy="give files(..., schema=...)")
        names = self.splits()
        partitions = {name: number for number, name in enumerate(names)}
        readers: dict[str, SplitReader] = {}
        try:
            for split, position in positions.items():
                if split not in partitions:
                    raise ConnectorError(f"{split} is not one of the files {', '.join(self.paths)}")
                readers[split] = self._open(split, partitions[split], position, columns, len(names))
        except BaseException:
            for reader in readers.values():
                reader.close()
            raise
        return readers

    def _open(self, split: str, partition: int, position: Json, columns: Sequence[str], files: int, place: str = "") -> SplitReader:
        try:
            if self.format == "arrow":
                return ArrowReader(split, partition, self.schema, columns, position, place)
            if self.format == "parquet":
                return ParquetReader(split, partition, self.schema, columns, position, place)
            most = _BLOCK_BYTES if self.rate is None else _RATED_BLOCK_BYTES
            return TextReader(
                split,
                partition,
                self.schema,
                columns,
                position,
                is_csv=self.format == "csv",
                block_bytes=max(min(most, _BLOCKS_BYTES // files), _LEAST_BLOCK_BYTES),
                limit=self.max_record_bytes,
                delimiter=self.delimiter,
                changes=(self.keys, self.time) if self.changes else None,
            )
        except OSError as error:
            raise unopened(split, error) from error

    # As a sink --------------------------------------------------------------------------------------------------

    def check(self, schema: Schema, keys: Sequence[str]) -> None:
        """Refuse several files, compressed ones, and change events."""
        if self.changes:
            raise TopologyError("files(format='debezium-json') is a sink", remedy="change events are read only: leave format= out")
        if len(self.paths) != 1:
            raise TopologyError(f"a sink is one file, not {', '.join(self.paths)}")
        self._check_partitions(schema)
        path = self.paths[0]
        if path.lower().endswith(CODECS):
            plain = os.path.splitext(path)[0]
            raise TopologyError(
                f"{path}: a sink does not write compressed text", remedy=f"write {plain} and compress it afterwards, or write Parquet"
            )

    @property
    def partitions(self) -> Partitions:
        """How a sink spreads rows over directories."""
        return Partitions(self.partition_by, self.partition_time)

    def _check_partitions(self, schema: Schema) -> None:
        if not self.partitions:
            return
        if self.format not in ("parquet", "arrow"):
            raise TopologyError(f"{self.paths[0]}: partition_by= and partition_time= are for Parquet and Arrow", remedy="write Parquet")
        self.partitions.check(self.paths[0], schema.visible())

    def probe(self, written: Schema | None = None, keys: Sequence[str] = ()) -> Iterator[str]:
        """Look whether there are files to read, or a directory to write to."""
        if written is None:
            names = self.splits()
            yield f"{self.name}: {len(names):,} files to read"
            return
        path = os.path.abspath(self.paths[0])
        above = path
        while not os.path.exists(above):
            above = os.path.dirname(above)
        if not os.path.isdir(os.path.dirname(path)) and self.format not in ("parquet", "arrow"):
            raise _not_writable(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
        if not os.access(above, os.W_OK):
            raise _not_writable(path, PermissionError(errno.EACCES, f"{above}: {os.strerror(errno.EACCES)}"))
        yield f"{path} can be written"

    def overwrites(self, source: Source) -> str:
        """Return the file of `source` that this sink would write, "" if there is none."""
        if not isinstance(source, Files) or len(self.paths) != 1:
            return ""
        place = Place(self.paths[0], self.format)
        found = place.among(listed(source.splits))
        return found or next((path for path in source.paths if place.is_read_by(path, source.format)), "")

    def collides(self, other: Sink) -> str:
        """Return what this sink and `other` would both write, "" if there is nothing."""
        if not isinstance(other, Files) or len(self.paths) != 1 or len(other.paths) != 1:
            return ""
        return other.paths[0] if Place(self.paths[0], self.format).collides(Place(other.paths[0], other.format)) else ""

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Open the file for writing; what stands behind `state` is removed.

        Raises
        ------
        ConnectorError
            It cannot be written, or is not as it was at the checkpoint.
        """
        self.check(schema, keys)
        path = self.paths[0]
        try:
            if self.partitions:
                os.makedirs(path, exist_ok=True)
                return PartitionedWriter(path, LocalPlace(path), self.format, schema.visible(), self.partitions, task, state)
            if self.format in ("parquet", "arrow"):
                return PartWriter(path, self.format, schema.visible(), task, state)
            return TextWriter(path, self.format, schema.visible(), state, self.delimiter)
        except OSError as error:
            raise _not_writable(path, error) from error


def size_at(position: Json) -> int:
    """Return how large a file was on the disk whose end is `position`."""
    start = cast(Mapping[str, Any], cast(Mapping[str, Any], position or {}).get("start") or {"bytes": 0})
    return int(start.get("packed", start["bytes"]))


def _not_writable(path: str, error: OSError) -> ConnectorError:
    folder = os.path.dirname(os.path.abspath(path))
    reason = error.strerror or str(error)
    remedy = "check the path and its permissions"
    if error.errno == errno.EISDIR:
        reason, remedy = "it is a directory", "name a file in it"
    elif not os.path.isdir(folder):
        reason, remedy = f"there is no directory {folder}", "make it first"
    return ConnectorError(f"{path} cannot be opened for writing: {reason} (working directory {os.getcwd()})", remedy=remedy)


def files(
    pattern_or_paths: Path | Iterable[Path],
    schema: Any = None,
    format: str | None = None,
    *,
    name: str | None = None,
    errors: Any = None,
    rate: float | None = None,
    max_record_bytes: int = _RECORD_BYTES,
    partition_by: str | Sequence[str] = (),
    partition_time: Literal["1d", "1h"] | None = None,
    delimiter: str | None = None,
) -> Files:
    """Read or write files: CSV, JSON lines, Parquet, Arrow IPC.

    Parameters
    ----------
    pattern_or_paths : path, glob pattern, or several
        As a source each file is a split. A path that exists is taken as it is, also with brackets in it; else it is a pattern. A
        directory stands for the files in it with an ending of the format (not those that begin with a point or an underscore). Text
        that is compressed (.gz, .bz2, .xz, .zst, .lz4) is read as well. As a sink it is, as it is written, one file (CSV, JSON
        lines) or a directory of part files, one per checkpoint (Parquet, Arrow). ``~`` is the home directory. URLs (``s3://…``, what
        fsspec speaks to) are objects: those that are read are copied here first; Parquet and Arrow are written.
    schema : dataclass, pyarrow.Schema or mapping, optional
        Columns of a source; each file has them, but those that may be null or have a default. A sink takes the columns of the stream.
    format : {"csv", "json", "parquet", "arrow", "debezium-json"}, optional
        Default: from the suffix (.csv .tsv; .jsonl .json .ndjson; .parquet; .arrow .feather .ipc). ``"debezium-json"``: change events in
        JSON lines, for `Topology.table`.
    name : str, optional
        Default: the pattern.
    errors : "fail", "skip" or dead_letter(sink)
        What becomes of records that cannot be decoded.
    rate : float, optional
        Records a second, over all files.
    max_record_bytes : int
        A longer CSV or JSON record is a bad record.
    partition_by : str or sequence of str
        Columns by whose values a sink of Parquet or Arrow makes directories, ``country=CL/…``. A source finds such directories by
        itself, and reads their columns from their names.
    partition_time : "1d" | "1h", optional
        The same by event time, in UTC: ``date=2024-05-01/…``, and for hours ``hour=13/…`` in it.
    delimiter : str, optional
        What stands between the fields of CSV: ``";"``, ``"|"``, ``"\\t"``. Default: a comma; in files that end with .tsv a tab.

    Raises
    ------
    TopologyError
        No path, or a suffix, format or delimiter that is not known.

    Examples
    --------
    >>> files("orders-*.csv", {"id": "int64", "amount": "float64"}).format
    'csv'
    """
    texts = paths_of(pattern_or_paths)
    if isinstance(errors, str) and errors not in ("fail", "skip"):
        raise TopologyError(f"files(errors={errors!r}) is unknown", remedy='use "fail", "skip" or dead_letter(sink)')
    if rate is not None and not rate > 0:
        raise TopologyError(f"files(rate={rate!r}): a rate is above 0; None is as fast as possible")
    if partition_time not in (None, *PERIODS):
        raise TopologyError(f"files(partition_time={partition_time!r}) is unknown", remedy=f"known: {', '.join(PERIODS)}")
    changes = format == "debezium-json"
    made = Files
    if is_url(texts[0]):
        from streamdsl.connectors.files.objects import ObjectFiles

        made = ObjectFiles
    known = format_of(texts, "json" if changes else format)
    return made(
        paths=texts,
        schema=Schema() if schema is None else Schema.of(schema),
        format=known,
        delimiter=delimiter_of(texts, known, delimiter),
        changes=changes,
        name=name or ",".join(texts),
        errors=errors,
        rate=rate,
        max_record_bytes=max_record_bytes,
        partition_by=(partition_by,) if isinstance(partition_by, str) else tuple(partition_by),
        partition_time=partition_time,
    )
