"""Writes a table exactly once: files at each snapshot, and a commit in the table's log once the checkpoint has completed.

The commit has the number of its checkpoint as the version of an application id. So a start knows whether it has been made, and makes it
if not: the state of the checkpoint names the files.
"""

from __future__ import annotations

import contextlib
import datetime
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.delta.clients import append, asked, check_rows, created, delta_types, file_system, opened
from streamdsl.errors import ConnectorError, DataError
from streamdsl.schema import Schema

if TYPE_CHECKING:
    from streamdsl.connectors.delta.description import Delta

__all__ = ["DeltaWriter"]

_GROUP_ROWS: Final = 65_536
#: Files that are open at a time, each of one partition: the largest is closed where another one is needed.
_OPEN_FILES: Final = 64


class DeltaWriter(SinkWriter):
    """One task writes all rows: one commit a checkpoint."""

    def __init__(self, described: Delta, schema: Schema, state: Json) -> None:
        self._doing = f"writing the table {described.uri}"
        self._schema = delta_types(schema.fields, self._doing)
        at = cast(Mapping[str, Any], state or {"app": "", "checkpoint": 0, "pending": []})
        # A beginning of its own has commits of its own: numbers of checkpoints begin anew.
        self._app = at["app"] or f"streamdsl/{described.job}/{described.name}/{uuid.uuid4().hex[:12]}"
        self._pending: list[dict[str, Any]] = [dict(file) for file in at["pending"]]
        self._files: dict[tuple[str | None, ...], _File] = {}
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._broken = False
        table = opened(described.uri, described.options, self._doing)
        if table is None:
            if state is not None:
                raise ConnectorError(
                    f"{self._doing}: it is gone, and checkpoint {at['checkpoint']} has written to it",
                    remedy="bring it back; or begin anew with an empty state directory",
                )
            table = created(described.uri, described.options, self._schema, described.partition_by, self._doing)
        self._table = table
        self._system = file_system(described.uri, described.options)
        self._partitions = self._checked(described)
        if state is not None:
            self._go_on(int(at["checkpoint"]))

    def _checked(self, described: Delta) -> tuple[str, ...]:
        """Return the columns that the table is partitioned by; refuse one that has others than the stream."""
        check_rows(self._table, self._schema, self._doing)
        columns = tuple(self._table.metadata().partition_columns)
        if described.partition_by and columns != described.partition_by:
            raise ConnectorError(
                f"{self._doing}: it is partitioned by {', '.join(columns) or 'nothing'}, and partition_by= names "
                f"{', '.join(described.partition_by)}",
                remedy="leave partition_by= out: a table that is there keeps its own",
            )
        return columns

    def _go_on(self, checkpoint: int) -> None:
        """Commit what the last checkpoint has, if its worker died before it could."""
        done = asked(self._doing, self._committed)
        if done > checkpoint:
            raise ConnectorError(
                f"{self._doing}: it has checkpoint {done} of this job, and the state directory goes on from {checkpoint}: "
                "what came between would be there twice",
                remedy="name the state directory that the job had; or take the table back, DeltaTable.restore(version), and begin with an "
                "empty one",
            )
        self._commit(checkpoint)
        self._pending = []

    def _committed(self) -> int:
        """Return the checkpoint that was committed last, by whoever goes on with this beginning."""
        self._table.update_incremental()
        version = self._table.transaction_version(self._app)
        return 0 if version is None else int(version)

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Take rows."""
        if not rows.num_rows:
            return
        self._check_whole()
        try:
            columns = [rows.column(field.name).cast(field.type) for field in self._schema]
        except pa.ArrowInvalid as error:
            raise DataError(f"{self._doing}: {error}", remedy="cast the column before the sink, to what a table can hold") from None
        self._refuse_empty(columns)
        self._waiting.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._waiting_rows += rows.num_rows
        if self._waiting_rows >= _GROUP_ROWS:
            self._write_group()

    def _refuse_empty(self, columns: list[pa.Array]) -> None:
        """Refuse empty texts as values of partitions: the table would give nulls back."""
        for name in self._partitions:
            column = columns[self._schema.get_field_index(name)]
            if pa.types.is_string(column.type) and pc.any(pc.equal(column, "")).as_py():
                raise DataError(
                    f"{self._doing}: it is partitioned by {name!r}, where an empty text is a null",
                    remedy=f"give it another value before the sink, or do not partition by {name!r}",
                )

    def _write_group(self) -> None:
        if not self._waiting:
            return
        rows = pa.Table.from_batches(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        for values, part in self._parted(rows):
            self._put(lambda values=values, part=part: self._file_of(values).write(part))  # type: ignore[misc]

    def _put(self, work: Callable[[], None]) -> None:
        """Write to a file. One that fails has lost rows: only a new start has them again."""
        try:
            asked(self._doing, work, lasting=True)
        except ConnectorError:
            self._broken = True
            raise

    def _check_whole(self) -> None:
        if self._broken:
            raise ConnectorError(
                f"{self._doing}: rows could not be written before", remedy="the run starts again", lasting=True, recoverable=True
            )

    def _parted(self, rows: pa.Table) -> Iterator[tuple[tuple[str | None, ...], pa.Table]]:
        """Yield rows by the values of the partition columns, which files do not have."""
        if not self._partitions:
            yield (), rows
            return
        kept = [name for name in rows.schema.names if name not in self._partitions]
        keys = rows.select(list(self._partitions))
        for values in keys.group_by(list(self._partitions)).aggregate([]).to_pylist():
            here = pa.repeat(True, rows.num_rows)
            for name in self._partitions:
                column, value = rows.column(name), values[name]
                same = pc.is_null(column) if value is None else pc.fill_null(pc.equal(column, pa.scalar(value, column.type)), False)
                here = pc.and_(here, same)
            yield tuple(_text(values[name]) for name in self._partitions), rows.filter(here).select(kept)

    def _file_of(self, values: tuple[str | None, ...]) -> _File:
        file = self._files.get(values)
        if file is None:
            if len(self._files) >= _OPEN_FILES:
                largest = max(self._files, key=lambda one: self._files[one].rows)
                self._finish(largest)
            file = self._files[values] = _File(self._system)
        return file

    def _finish(self, values: tuple[str | None, ...]) -> None:
        file = self._files.pop(values)
        named = dict(zip(self._partitions, values, strict=True))
        self._pending.append({**file.finish(), "values": named, "at_ms": int(time.time() * 1000), "checkpoint": None})

    def snapshot(self, checkpoint_id: int) -> Json:
        """Finish the files of the rows so far; the table does not know them yet."""
        self._check_whole()
        self._write_group()
        for values in list(self._files):
            self._put(lambda values=values: self._finish(values))  # type: ignore[misc]
        for file in self._pending:
            file["checkpoint"] = file["checkpoint"] or checkpoint_id
        return {"app": self._app, "checkpoint": checkpoint_id, "pending": [dict(file) for file in self._pending]}

    def commit(self, checkpoint_id: int) -> None:
        """Have the table know the files of a checkpoint, in one commit."""
        self._commit(checkpoint_id)
        self._pending = [file for file in self._pending if file["checkpoint"] is None or file["checkpoint"] > checkpoint_id]

    def _commit(self, checkpoint_id: int) -> None:
        files = [file for file in self._pending if file["checkpoint"] is not None and file["checkpoint"] <= checkpoint_id]

        def commit() -> None:
            if self._committed() < checkpoint_id:
                append(self._table, files, self._app, checkpoint_id)

        if files:
            # An answer that was lost does no harm: whoever asks again finds the number.
            asked(f"{self._doing}, checkpoint {checkpoint_id}", commit, passes=True)

    def close(self) -> None:
        """Remove the files that no checkpoint has taken."""
        for file in self._files.values():
            file.abandon()
        self._files = {}


class _File:
    """A file of Parquet that is written; its name is its own, whatever else is written there."""

    def __init__(self, system: Any) -> None:
        self._system = system
        self.path = f"part-{uuid.uuid4().hex}.parquet"
        self.rows = 0
        self._stream: Any = None
        self._writer: Any = None

    def write(self, rows: pa.Table) -> None:
        import pyarrow.parquet as parquet  # noqa: PLR0402

        if self._writer is None:
            self._stream = self._system.open_output_stream(self.path)
            self._writer = parquet.ParquetWriter(self._stream, rows.schema)
        self._writer.write_table(rows)
        self.rows += rows.num_rows

    def finish(self) -> dict[str, Any]:
        """Close it, and return what the table's log says of it."""
        self._writer.close()
        self._stream.close()
        return {"path": self.path, "size": self._system.get_file_info(self.path).size, "rows": self.rows}

    def abandon(self) -> None:
        """Take it away. What cannot be is left to VACUUM, which removes what no commit names."""
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
                self._stream.close()
                self._system.delete_file(self.path)


def _text(value: Any) -> str | None:
    """Return a partition's value as the log has it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime.date) else str(value)
