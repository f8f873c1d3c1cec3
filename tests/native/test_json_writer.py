"""Rows as JSON lines."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.serdes.json_writer import json_lines
from tests.native.cases import record_batches


def read(record_batch: pa.RecordBatch) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in json_lines(record_batch).decode().split("\n")[:-1]]


def expected(value: Any) -> Any:
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return names[repr(value)] if isinstance(value, float) and not math.isfinite(value) else value


@settings(deadline=None)
@given(record_batch=record_batches())
def test_canonical_columns(record_batch: pa.RecordBatch) -> None:
    rows = [{name: expected(value) for name, value in row.items()} for row in record_batch.to_pylist()]
    found = read(record_batch)
    assert repr(found) == repr(rows)


@given(st.lists(st.text(st.characters(codec="utf-8", min_codepoint=0), max_size=30)), st.text(max_size=5))
def test_any_text_and_any_name(texts: list[str], name: str) -> None:
    assert read(pa.record_batch([pa.array(texts, pa.string())], [name])) == [{name: text} for text in texts]


def test_every_character_at_every_place() -> None:
    texts = [before * "x" + chr(c) + (9 - before) * "y" for c in (*range(128), 0xE9, 0x20AC, 0x1F600) for before in range(10)]
    assert [row["t"] for row in read(pa.record_batch({"t": texts}))] == texts


def test_logical_types() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)
    record_batch = pa.record_batch(
        {
            "ms": pa.array([moment, None], pa.timestamp("ms", "UTC")),
            "us": pa.array([moment, None], pa.timestamp("us")),
            "day": pa.array([moment.date(), None]),
            "i8": pa.array([-5, None], pa.int8()),
            "f32": pa.array([1.5, math.nan], pa.float32()),
            "dec": pa.array([Decimal("12.50"), None], pa.decimal128(9, 2)),
            "bin": pa.array([b"\xff\x00", None]),
            "dict": pa.array(["x", None]).dictionary_encode(),
            "large": pa.array(["é", None], pa.large_string()),
            "nested": pa.array(
                [{"l": [1, None], "t": moment, "f": math.inf}, None],
                pa.struct([("l", pa.list_(pa.int64())), ("t", pa.timestamp("ms")), ("f", pa.float64())]),
            ),
            "map": pa.array([[("k", Decimal("1.5"))], None], pa.map_(pa.string(), pa.decimal128(3, 1))),
            "none": pa.array([None, None], pa.null()),
        }
    )
    first, second = read(record_batch)
    assert first == {
        "ms": "2026-01-02T03:04:05.678Z",
        "us": "2026-01-02T03:04:05.678000Z",
        "day": "2026-01-02",
        "i8": -5,
        "f32": 1.5,
        "dec": "12.50",
        "bin": "/wA=",
        "dict": "x",
        "large": "é",
        "nested": {"l": [1, None], "t": "2026-01-02T03:04:05.678Z", "f": "Infinity"},
        "map": {"k": "1.5"},
        "none": None,
    }
    assert second.pop("f32") == "NaN"
    assert set(second.values()) == {None}


def test_order_of_keys_and_empty_batches() -> None:
    assert json_lines(pa.record_batch({"b": [1], "a": [True]})) == b'{"b":1,"a":true}\n'
    assert json_lines(pa.record_batch({"b": pa.array([], pa.int64())})) == b""
