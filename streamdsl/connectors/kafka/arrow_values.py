"""Values that are streams of Arrow IPC."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from streamdsl.connectors.kafka.ipc_bounds import check_expanded, check_stream
from streamdsl.connectors.kafka.values import Rows, ValueDecoder, without_columns
from streamdsl.formats.conform import conform, empty_rows
from streamdsl.formats.units import FirstNumbers
from streamdsl.schema import Field

__all__ = ["ArrowValues"]


class ArrowValues(ValueDecoder):
    """An IPC stream a value, with any number of rows within the bounds of `ipc_bounds`."""

    def __init__(self, fields: Sequence[Field], limit: int, topic: str) -> None:
        super().__init__(fields, limit)
        self._first_numbers = FirstNumbers(fields, f"topic {topic!r}")

    def decode_present(self, values: list[bytes]) -> Rows:
        """Read each stream; what it holds is checked before it is used."""
        bad: dict[int, str] = {}
        parts: list[pa.RecordBatch] = []
        of: list[int] = []
        for index, value in enumerate(values):
            try:
                rows = self._read(value)
                found, _, wrong = conform(rows, self.fields, self._first_numbers)
            except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, NotImplementedError) as error:
                bad[index] = f"not an Arrow IPC stream: {error}"
                continue
            if wrong:
                bad[index] = next(iter(wrong.values()))
                continue
            parts.append(found)
            of.extend([index] * found.num_rows)
        if not parts:
            return Rows(empty_rows(self.fields), of, bad)
        if not self.fields:
            return Rows(without_columns(len(of)), of, bad)
        return Rows(pa.Table.from_batches(parts).combine_chunks().to_batches(max_chunksize=None)[0] if of else parts[0], of, bad)

    def _read(self, value: bytes) -> pa.RecordBatch:
        data = pa.py_buffer(value)
        check_stream(data)
        wanted = {field.name for field in self.fields}
        with pa.ipc.open_stream(data) as stream:
            names = stream.schema.names
            table = stream.read_all()
        for field in self.fields:
            if field.required and field.name not in names:
                raise ValueError(f"field {field.name!r} is missing, but must not be null")
        table.validate(full=True)
        read = table.select([name for name in dict.fromkeys(names) if name in wanted and names.count(name) == 1])
        for name in wanted:
            if names.count(name) > 1:
                raise ValueError(f"field {name!r} is there {names.count(name)} times")
        for batch in read.to_batches():
            check_expanded(batch)
        if not read.num_columns:
            return without_columns(table.num_rows)
        batches = read.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=read.schema)
