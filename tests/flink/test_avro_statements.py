"""Topics with Avro as text of Flink SQL."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from streamdsl import Topology, TopologyError, col, kafka
from tests.flink.texts import statements

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
UTC_MS = pa.timestamp("ms", tz="UTC")


def sink(fields: list[dict[str, Any]], **more: Any) -> Any:
    schema = json.dumps({"type": "record", "name": "Row", "fields": fields})
    return kafka("out", format="avro", registry="http://r:8081", subject_schema=schema, broker="b:1", **more)


def source(schema: Any, **more: Any) -> Any:
    return kafka("in", schema, format="avro", registry="http://r:8081", broker="b:1", **more)


def written(type_: Any, avro: Any, **more: Any) -> str:
    topology = Topology("t")
    schema = pa.schema([("k", pa.string()), ("x", type_)])
    rows = topology.stream(kafka("in", schema, broker="b:1"), name="rows")
    rows.to(sink([{"name": "x", "type": avro}, {"name": "k", "type": ["null", "string"]}], **more), name="out")
    job = topology.to_flink()
    return next(one.text for one in job.statements if one.name == "out") + "\n" + job.inserts[0].text


def test_columns_are_read_as_wide_as_avro_has_them_and_typed_in_a_view() -> None:
    schema = pa.schema([("i", pa.int32()), ("f", pa.float32()), ("at", UTC_MS), ("u", pa.timestamp("us", tz="UTC")), ("s", pa.string())])
    topology = Topology("t")
    rows = topology.stream(source(schema), timestamp="at", name="rows")
    rows.filter(col("i") > 1).to(kafka("o", broker="b:1"))
    table, view = (statements(topology)[name] for name in ("rows", "rows_typed"))
    for line in ("`i` BIGINT", "`f` DOUBLE", "`at` TIMESTAMP(3)", "`u` BIGINT", "`s` STRING"):
        assert f"  {line},\n" in table
    assert "`_time` AS CAST(`at` AS TIMESTAMP_LTZ(3))" in table and "'value.format' = 'avro-confluent'" in table
    for line in ("CAST(`f` AS FLOAT) AS `f`", "CAST(`at` AS TIMESTAMP_LTZ(3)) AS `at`", "AS TIMESTAMP_LTZ(6)) AS `u`"):
        assert line in view
    assert "CASE WHEN `i` BETWEEN -2147483648 AND 2147483647 THEN CAST(`i` AS INT)" in view


def test_columns_that_are_the_same_need_no_view() -> None:
    topology = Topology("t")
    topology.stream(source({"i": int, "s": str, "x": float}), name="rows").to(kafka("o", broker="b:1"))
    assert "rows_typed" not in statements(topology)


def test_what_is_read_otherwise_is_said() -> None:
    topology = Topology("t")
    rows = topology.stream(source(pa.schema([("p", pa.decimal128(9, 2)), ("at", UTC_MS)])), name="rows")
    rows.to(kafka("o", broker="b:1"))
    said = " ".join(topology.to_flink().differences)
    assert "Decimals in the Avro of 'rows'" in said and "Times in the Avro of 'rows'" in said and "Enums, fixed and unions" in said


def test_options_of_a_registry_are_said_not_shown() -> None:
    topology = Topology("t")
    registry = {"url": "http://r:8081", "basic.auth.user.info": "me:secret"}
    topology.stream(kafka("in", {"i": int}, format="avro", registry=registry, broker="b:1")).to(kafka("o", broker="b:1"))
    job = topology.to_flink()
    assert "secret" not in str(job)
    assert any("basic.auth.user.info" in said for said in job.differences)


def test_a_sink_has_the_columns_of_its_schema() -> None:
    text = written(pa.list_(pa.int64()), {"type": "array", "items": "long"}, key="k")
    assert "`x` ARRAY<BIGINT NOT NULL> NOT NULL,\n  `k` STRING" in text
    assert "'key.fields' = 'k'" in text and "'value.avro-confluent.schema' = '{" in text and "SELECT `x`, `k`" in text


def test_a_field_that_the_rows_do_not_have_takes_its_default() -> None:
    topology = Topology("t")
    fields = [
        {"name": "a", "type": ["null", "string"], "default": None},
        {"name": "b", "type": "int", "default": 7},
        {"name": "c", "type": "string", "default": "it's"},
        {"name": "i", "type": "long"},
    ]
    topology.stream(kafka("in", {"i": int, "more": str}, broker="b:1"), name="rows").to(sink(fields), name="out")
    assert "SELECT CAST(NULL AS STRING), CAST(7 AS INT), 'it''s', `i`, `_time`\n" in topology.to_flink().inserts[0].text


def test_keys_outside_of_the_schema_stay_outside_of_the_value() -> None:
    topology = Topology("t")
    rows = topology.table(kafka("in", {"id": int, "n": int}, broker="b:1"), key="id", timestamp="n")
    rows.to(sink([{"name": "n", "type": "long"}]), name="out")
    text = statements(topology)["out"]
    assert "'value.fields-include' = 'EXCEPT_KEY'" in text and "`id` BIGINT NOT NULL,\n  `n` BIGINT NOT NULL,\n  PRIMARY KEY" in text


@pytest.mark.parametrize(
    ("type_", "avro", "sql"),
    [
        (pa.int16(), "int", "INT NOT NULL"),
        (pa.int32(), ["null", "double"], "DOUBLE"),
        (pa.float64(), "float", "FLOAT NOT NULL"),
        (UTC_MS, ["null", MILLIS], "TIMESTAMP(3)"),
        (pa.date32(), {"type": "int", "logicalType": "date"}, "DATE NOT NULL"),
        (pa.decimal128(6, 2), {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}, "DECIMAL(9, 3) NOT NULL"),
        (pa.binary(), "bytes", "BYTES NOT NULL"),
        (pa.string(), {"type": "string", "logicalType": "uuid"}, "STRING NOT NULL"),
        (pa.map_(pa.string(), pa.bool_()), {"type": "map", "values": "boolean"}, "MAP<STRING NOT NULL, BOOLEAN NOT NULL> NOT NULL"),
        (
            pa.struct([("a", pa.int64()), ("at", UTC_MS)]),
            ["null", {"type": "record", "name": "In", "fields": [{"name": "a", "type": "long"}, {"name": "at", "type": ["null", MILLIS]}]}],
            "ROW<`a` BIGINT NOT NULL, `at` TIMESTAMP(3)>",
        ),
    ],
)
def test_types_of_a_schema(type_: pa.DataType, avro: Any, sql: str) -> None:
    assert f"  `x` {sql},\n" in written(type_, avro)


@pytest.mark.parametrize(
    ("type_", "avro", "said"),
    [
        (pa.timestamp("us", tz="UTC"), {"type": "long", "logicalType": "timestamp-micros"}, "timestamp-micros: Flink does not write it"),
        (pa.string(), {"type": "enum", "name": "E", "symbols": ["A"]}, "enum: Flink does not write it"),
        (pa.binary(), {"type": "fixed", "name": "F", "size": 4}, "fixed: Flink does not write it"),
        (pa.int64(), "int", "int for values of int64"),
        (pa.string(), "long", "long for values of string"),
        (UTC_MS, "long", "long for values of timestamp"),
        (pa.int64(), ["null", "long", "string"], "a union of several types"),
        (
            pa.decimal128(12, 2),
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
            "decimal of 9 digits, 2 of them behind the point for values of",
        ),
        (pa.list_(pa.string()), {"type": "array", "items": "long"}, "long for values of string"),
        (
            pa.struct([("a", pa.int64()), ("b", pa.int64())]),
            {"type": "record", "name": "In", "fields": [{"name": "b", "type": "long"}, {"name": "a", "type": "long"}]},
            "record of other fields, or of another order",
        ),
        (pa.int64(), "Other", "the type 'Other'"),
    ],
)
def test_schemas_that_flink_cannot_write_are_refused(type_: pa.DataType, avro: Any, said: str) -> None:
    with pytest.raises(TopologyError, match=r"the field 'x' of the Avro schema of 'out': ") as error:
        written(type_, avro)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"format": "avro", "registry": "http://r:8081"}, "written as Avro without a schema"),
        ({"format": "avro", "registry": "http://r:8081", "subject_schema": '"string"'}, "is none of a record"),
    ],
)
def test_a_sink_needs_the_schema_of_a_record(more: dict[str, Any], said: str) -> None:
    topology = Topology("t")
    topology.stream(kafka("in", {"i": int}, broker="b:1")).to(kafka("out", broker="b:1", **more))
    with pytest.raises(TopologyError, match=said):
        topology.to_flink()


@pytest.mark.parametrize("type_", [pa.timestamp("ns", tz="UTC"), pa.timestamp("s", tz="UTC"), pa.list_(pa.int16())])
def test_columns_that_flink_reads_otherwise_are_refused(type_: pa.DataType) -> None:
    topology = Topology("t")
    topology.stream(source(pa.schema([("x", type_)]))).to(kafka("out", broker="b:1"))
    with pytest.raises(TopologyError, match=r"the column 'x' .* of Avro"):
        topology.to_flink()
