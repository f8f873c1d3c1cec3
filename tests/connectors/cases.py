"""The connectors under test, each behind the same two functions: give rows to a source, read back what a sink wrote."""

from __future__ import annotations

import datetime
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from deltalake import write_deltalake

from streamdsl.connectors.base import END, Chunk, Json, Rejected, Sink, Source
from streamdsl.connectors.delta import delta
from streamdsl.connectors.files import files
from streamdsl.connectors.files.part_writer import part_names
from streamdsl.connectors.memory import memory
from streamdsl.schema import Field, Schema

UTC = datetime.UTC

SCHEMA = Schema(
    (
        Field("id", pa.int64(), nullable=False),
        Field("name", pa.string()),
        Field("amount", pa.float64()),
        Field("at", pa.timestamp("ms", tz="UTC")),
        Field("day", pa.date32()),
        Field("ok", pa.bool_()),
    )
)

TEXTS = ["plain", None, "", 'a "quoted" one', "comma, inside", "two\nlines", "cr\r\nlf", "Ñandú – 雪", "tab\t", "\\back", "x" * 300, '"']


def table(count: int = 40, start: int = 0) -> pa.Table:
    """Return rows of every kind."""
    rows = [
        {
            "id": i,
            "name": TEXTS[i % len(TEXTS)],
            "amount": None if i % 7 == 3 else i / 8,
            "at": datetime.datetime(2024, 3, 1, 12, tzinfo=UTC) + datetime.timedelta(milliseconds=i * 1001),
            "day": datetime.date(2024, 3, 1) + datetime.timedelta(days=i),
            "ok": None if i % 5 == 4 else i % 2 == 0,
        }
        for i in range(start, start + count)
    ]
    return pa.Table.from_pylist(rows, SCHEMA.to_arrow())


def json_text(rows: pa.Table) -> str:
    """Return rows as JSON lines, as another program would write them."""
    return "".join(json.dumps(row, default=lambda v: v.isoformat()) + "\n" for row in rows.to_pylist())


def _csv(directory: pathlib.Path, rows: pa.Table) -> Source:
    pyarrow.csv.write_csv(rows, directory / "in.csv")
    return files(directory / "in.csv", SCHEMA)


def _crlf_csv(directory: pathlib.Path, rows: pa.Table) -> Source:
    lines = ["\ufeffid,name,amount,at,day,ok"]
    for row in rows.to_pylist():
        values = [row["id"], row["name"], row["amount"], row["at"].isoformat(), row["day"], row["ok"]]
        quoted = ["" if v is None else '"' + str(v).replace('"', '""') + '"' for v in values]
        lines.append(",".join(quoted))
    (directory / "in.csv").write_bytes("\r\n\r\n".join(lines).encode())
    return files(directory / "in.csv", SCHEMA)


def _json(directory: pathlib.Path, rows: pa.Table) -> Source:
    (directory / "in.jsonl").write_text(json_text(rows))
    return files(directory / "in.jsonl", SCHEMA)


def _loose_json(directory: pathlib.Path, rows: pa.Table) -> Source:
    text = json_text(rows).replace("\n", "\r\n \r\n\r\n").replace('{"id"', '  {"other": [{"deep": null}], "id"')
    (directory / "in.ndjson").write_bytes(("\ufeff" + text.rstrip()).encode())
    return files(str(directory / "in.nd*"), SCHEMA, "json")


def _parquet(directory: pathlib.Path, rows: pa.Table) -> Source:
    pq.write_table(rows, directory / "in.parquet", row_group_size=11)
    return files(directory / "in.parquet", SCHEMA)


def _arrow_file(directory: pathlib.Path, rows: pa.Table) -> Source:
    with pa.ipc.new_file(str(directory / "in.arrow"), rows.schema) as writer:
        writer.write_table(rows, max_chunksize=9)
    return files(directory / "in.arrow", SCHEMA)


def _arrow_stream(directory: pathlib.Path, rows: pa.Table) -> Source:
    with pa.ipc.new_stream(str(directory / "in.ipc"), rows.schema) as writer:
        writer.write_table(rows, max_chunksize=9)
    return files(directory / "in.ipc", SCHEMA)


def _memory(directory: pathlib.Path, rows: pa.Table) -> Source:
    return memory("given", SCHEMA, rows)


def _delta(directory: pathlib.Path, rows: pa.Table) -> Source:
    for at in range(0, max(rows.num_rows, 1), 11):
        write_deltalake(directory / "lake", rows.slice(at, 11), mode="append")
        time.sleep(0.002)  # files are read in the order of their time
    return delta(directory / "lake", SCHEMA)


SOURCES: dict[str, Callable[[pathlib.Path, pa.Table], Source]] = {
    "csv": _csv,
    "csv with BOM, CRLF, blank lines, all quoted": _crlf_csv,
    "json": _json,
    "json with BOM, CRLF, blank lines, more keys": _loose_json,
    "parquet": _parquet,
    "arrow file": _arrow_file,
    "arrow stream": _arrow_stream,
    "memory": _memory,
    "delta": _delta,
}

SINKS: dict[str, Callable[[pathlib.Path], Sink]] = {
    "csv": lambda directory: files(directory / "out.csv"),
    "json": lambda directory: files(directory / "out.jsonl"),
    "parquet": lambda directory: files(directory / "out.parquet"),
    "arrow": lambda directory: files(directory / "out.arrow"),
    "parquet by partition": lambda directory: files(directory / "parts.parquet", partition_by=["ok", "day"]),
    "parquet by time": lambda directory: files(directory / "parts.parquet", partition_time="1h"),
    "memory": lambda directory: memory("collected", SCHEMA),
}


def written(sink: Any) -> list[dict[str, Any]]:
    """Return what stands in a sink, read by another program's means where there is one."""
    if not hasattr(sink, "paths"):
        return sink.rows()
    path = pathlib.Path(sink.paths[0])
    if sink.partitions:
        source = sink.with_schema(SCHEMA)
        names = source.splits() if any(path.rglob("*.parquet")) else ()
        found = [row for name in names for chunk in read_all(source, split=name)[0] for row in chunk]
        return sorted(found, key=lambda row: row["id"])
    if path.is_dir():
        read = pq.read_table if path.suffix == ".parquet" else lambda file: pa.ipc.open_file(str(file)).read_all()
        return [row for name in part_names(str(path)) for row in read(path / name).to_pylist()]
    return [row for chunk in read_all(sink.with_schema(SCHEMA))[0] for row in chunk]


def read_all(
    source: Source,
    columns: Sequence[str] = SCHEMA.names,
    sizes: Sequence[int] = (1000,),
    position: Json = None,
    split: str | None = None,
) -> tuple[list[list[dict[str, Any]]], list[Rejected]]:
    """Read a split to its end; return the rows of each chunk, and the rejected records."""
    reader = source.open_split(split or source.splits()[0], position, columns)
    chunks: list[list[dict[str, Any]]] = []
    rejected: list[Rejected] = []
    while (chunk := reader.read(sizes[len(chunks) % len(sizes)])) is not END:
        assert isinstance(chunk, Chunk)
        assert tuple(chunk.rows.schema.names) == tuple(columns)
        chunks.append(chunk.rows.to_pylist())
        rejected.extend(chunk.rejected)
    reader.close()
    return chunks, rejected
