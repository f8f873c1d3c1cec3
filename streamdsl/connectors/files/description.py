"""`files(...)`: what a user writes to read or write files."""

from __future__ import annotations

import glob
import os
import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Union

from streamdsl.connectors.base import Json, Sink, SinkWriter, Source, SplitReader
from streamdsl.connectors.files.columnar_reader import ArrowReader, ParquetReader
from streamdsl.connectors.files.part_writer import PartWriter, part_names
from streamdsl.connectors.files.text_reader import TextReader
from streamdsl.connectors.files.text_writer import TextWriter
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.schema import Schema

__all__ = ["Files", "files"]

Format = Literal["csv", "json", "parquet", "arrow"]
Path = Union[str, "os.PathLike[str]"]

_SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_FORMATS: Final = ("csv", "json", "parquet", "arrow")
_BLOCK_BYTES: Final = 1 << 20
_RATED_BLOCK_BYTES: Final = 1 << 16
_RECORD_BYTES: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class Files(Source, Sink):
    """Files as a source and as a sink; made by `files`."""

    paths: tuple[str, ...]
    schema: Schema
    format: Format
    name: str
    errors: Any = "fail"
    rate: float | None = None
    max_record_bytes: int = _RECORD_BYTES

    bounded = True
    gathers = True
    delivery = "exactly_once"

    def with_schema(self, schema: Any) -> Files:
        """Return the same files with the columns of `schema`."""
        return replace(self, schema=Schema.of(schema))

    def splits(self) -> Sequence[str]:
        """Return the files, those of a pattern in sorted order; a directory stands for the parts in it.

        Raises
        ------
        ConnectorError
            A file does not exist, or nothing matches a pattern.
        """
        found: list[str] = []
        for path in self.paths:
            found.extend(self._matching(path))
        return tuple(dict.fromkeys(found))

    def _matching(self, path: str) -> list[str]:
        if os.path.isdir(path):
            matches = [os.path.join(path, name) for name in part_names(path)]
        elif os.path.exists(path):
            matches = [path]
        else:
            matches = sorted(found for found in glob.glob(path, recursive=True) if not os.path.isdir(found))
        if not matches:
            raise ConnectorError(
                f"no file matches {path!r} (working directory {os.getcwd()})",
                remedy="check the path; relative paths start from the working directory",
            )
        for found in matches:
            if not os.path.isfile(found):
                raise ConnectorError(f"{found} is not a regular file", remedy="a source must be able to seek in it")
        return matches

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Open one file.

        Raises
        ------
        ConnectorError
            It cannot be read, lacks a column that must not be null, or is not the file the position was taken in.
        """
        if not self.schema:
            raise ConnectorError(f"files({self.name!r}) has no schema", remedy="give files(..., schema=...)")
        try:
            partition = list(self.splits()).index(split)
        except ValueError:
            raise ConnectorError(f"{split} is not one of the files {', '.join(self.paths)}") from None
        try:
            if self.format == "arrow":
                return ArrowReader(split, partition, self.schema, columns, position)
            if self.format == "parquet":
                return ParquetReader(split, partition, self.schema, columns, position)
            return TextReader(
                split,
                partition,
                self.schema,
                columns,
                position,
                is_csv=self.format == "csv",
                block_bytes=_BLOCK_BYTES if self.rate is None else _RATED_BLOCK_BYTES,
                limit=self.max_record_bytes,
            )
        except OSError as error:
            raise ConnectorError(f"{split} cannot be opened: {error.strerror or error}") from error

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Open the file for writing; what stands behind `state` is removed.

        Raises
        ------
        ConnectorError
            It cannot be written, or is shorter than it was at the checkpoint.
        """
        if len(self.paths) != 1 or glob.has_magic(self.paths[0]):
            raise ConnectorError(f"a sink is one file, not {', '.join(self.paths)}")
        path = self.paths[0]
        try:
            if self.format in ("parquet", "arrow"):
                return PartWriter(path, self.format == "parquet", schema.visible(), task, state)
            return TextWriter(path, self.format == "csv", schema.visible(), state)
        except OSError as error:
            raise ConnectorError(
                f"{path} cannot be opened for writing: {error.strerror or error} (working directory {os.getcwd()})",
                remedy="check the directory and its permissions",
            ) from error


def files(
    pattern_or_paths: Path | Iterable[Path],
    schema: Any = None,
    format: str | None = None,
    *,
    name: str | None = None,
    errors: Any = "fail",
    rate: float | None = None,
    max_record_bytes: int = _RECORD_BYTES,
) -> Files:
    """Read or write files: CSV, JSON lines, Parquet, Arrow IPC.

    Parameters
    ----------
    pattern_or_paths : path, glob pattern, or several
        As a source each file is a split. As a sink it is one file (CSV, JSON lines) or a directory of part files, one
        per checkpoint (Parquet, Arrow).
    schema : dataclass, pyarrow.Schema or mapping, optional
        Columns of a source; a sink takes the columns of the stream.
    format : {"csv", "json", "parquet", "arrow"}, optional
        Default: from the suffix (.csv; .jsonl .json .ndjson; .parquet; .arrow .feather .ipc).
    name : str, optional
        Default: the pattern.
    errors : "fail", "skip" or dead_letter(sink)
        What becomes of records that cannot be decoded.
    rate : float, optional
        Records a second, over all files.
    max_record_bytes : int
        A longer CSV or JSON record is a bad record.

    Raises
    ------
    TopologyError
        No path, or a suffix or format that is not known.

    Examples
    --------
    >>> files("orders-*.csv", {"id": "int64", "amount": "float64"}).format
    'csv'
    """
    paths = (pattern_or_paths,) if isinstance(pattern_or_paths, (str, os.PathLike)) else tuple(pattern_or_paths)
    texts = tuple(os.fspath(path) for path in paths)
    if not texts or not all(texts):
        raise TopologyError("files() needs a path")
    if isinstance(errors, str) and errors not in ("fail", "skip"):
        raise TopologyError(f"files(errors={errors!r}) is unknown", remedy='use "fail", "skip" or dead_letter(sink)')
    if rate is not None and not rate > 0:
        raise TopologyError(f"files(rate={rate!r}): a rate is above 0; None is as fast as possible")
    return Files(
        paths=texts,
        schema=Schema() if schema is None else Schema.of(schema),
        format=_format(texts, format),
        name=name or ",".join(texts),
        errors=errors,
        rate=rate,
        max_record_bytes=max_record_bytes,
    )


def _format(paths: Sequence[str], given: str | None) -> Format:
    if given is not None:
        for known in _FORMATS:
            if given in (known, f"{known}l") or _SUFFIXES.get(f".{given}") == known:
                return known
        raise TopologyError(f"files(format={given!r}) is unknown", remedy=f"known: {', '.join(_FORMATS)}")
    formats = {_SUFFIXES.get(pathlib.PurePath(path).suffix.lower()) for path in paths}
    if len(formats) > 1:
        raise TopologyError(f"files of several formats: {', '.join(paths)}", remedy="make one source per format and merge the streams")
    (found,) = formats
    if found is None:
        raise TopologyError(f"the suffix of {paths[0]!r} does not tell the format", remedy=f"give format=: {', '.join(_FORMATS)}")
    return found
