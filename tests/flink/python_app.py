"""A topology of Python functions of all kinds, for the comparison with PyFlink. Its files lie in the directory STREAMDSL_PYTHON_APP."""

import datetime
import os
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl import Topology, col, count, files, tumbling

DIRECTORY = os.environ.get("STREAMDSL_PYTHON_APP", "/tmp")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("s", pa.string()),
        ("x", pa.float64()),
        ("at", pa.int64()),
        ("m", pa.timestamp("ms", tz="UTC")),
        ("d", pa.date32()),
        ("p", pa.decimal128(12, 2)),
        ("l", pa.list_(pa.int64())),
        ("b", pa.bool_()),
        ("n", pa.int32()),
        ("st", pa.struct([("a", pa.int64()), ("t", pa.string())])),
    ]
)


@dataclass
class Word:
    """A row of words."""

    id: int
    word: str
    length: int


def all_types(row: Any) -> dict[str, Any]:
    """Every type there and back, and what the function saw."""
    return {
        "id": row.id,
        "s": row.s and row.s[::-1].upper(),
        "d": row.d and row.d + datetime.timedelta(days=1),
        "m": row.m and row.m + datetime.timedelta(milliseconds=1),
        "p": row.p and -row.p,
        "x": row.x and row.x / 3,
        "l": row.l and [*reversed(row.l), None],
        "b": None if row.b is None else not row.b,
        "n": row.n,
        "st": row.st and {"a": row.st["a"], "t": f"{row.st['t']}ü"},
        "seen": repr(dict(row)),
    }


def words(row: Any) -> Any:
    """Any number of rows."""
    for word in (row.s or "").split():
        yield Word(row.id, word, len(word))


def positive(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Fewer rows than came."""
    batch = batch.select(["id", "x"]).append_column("_row", pa.array(range(batch.num_rows)))
    return batch.filter(pc.fill_null(pc.greater(batch["x"], 0), False))


def strict(row: Any) -> dict[str, Any]:
    """Refuse rows without a number."""
    return {"id": row.id, "inverse": 1 / row.n}


OUT = pa.schema([*(SCHEMA.field(name) for name in ("id", "s", "d", "m", "p", "x", "l", "b", "n", "st")), ("seen", pa.string())])
topology = Topology("python-there")
rows = topology.stream(files(f"{DIRECTORY}/rows.jsonl", SCHEMA), timestamp="at", disorder="1s")
found = {
    "all_types": rows.map(all_types, schema=OUT),
    "words": rows.flat_map(words, schema=Word),
    "even": rows.filter(lambda row: row.id % 2 == 0).select("id", "s"),
    "guarded": rows.filter(col("n") > 0).filter(lambda row: 100 // row.n > 3).peek(lambda row: row.id).select("id", "n"),
    "positive": rows.map_batches(positive, schema={"id": int, "x": float}),
    "strict": rows.map(strict, schema={"id": int, "inverse": float}, errors="skip"),
    "windows": rows.flat_map(words, schema=Word).key_by("word").window(tumbling("5s")).aggregate(n=count(), most=col("length").max()),
}
branches = rows.branch(many=lambda row: (row.x or 0) > 5, none=lambda row: row.n is None)
found |= {name: stream.select("id", "x") for name, stream in branches.items()}
for name, stream in found.items():
    stream.to(files(f"{DIRECTORY}/{name}.rows", format="json"), name=name)
