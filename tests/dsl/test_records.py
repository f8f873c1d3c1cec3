"""Schemas and rows of other libraries' classes and frames."""

from __future__ import annotations

import datetime
import decimal
from typing import NamedTuple, TypedDict

import attrs
import duckdb
import msgspec
import polars
import pyarrow as pa
import pydantic
import pytest

from streamdsl import Schema, Topology, TopologyError, col, memory


class Model(pydantic.BaseModel):
    a: int
    b: str | None
    c: float = 1.5
    d: list[int] = []
    e: datetime.date = datetime.date(2024, 2, 29)
    f: decimal.Decimal = decimal.Decimal("1.25")


@attrs.define
class Attrs:
    a: int
    b: str | None
    c: float = 1.5
    d: list[int] = attrs.field(factory=list)
    e: datetime.date = datetime.date(2024, 2, 29)
    f: decimal.Decimal = decimal.Decimal("1.25")


class Struct(msgspec.Struct):
    a: int
    b: str | None
    c: float = 1.5
    d: list[int] = []
    e: datetime.date = datetime.date(2024, 2, 29)
    f: decimal.Decimal = decimal.Decimal("1.25")


CLASSES = (Model, Attrs, Struct)


@pytest.mark.parametrize("made", CLASSES)
def test_a_class_of_records_is_a_schema_with_its_defaults(made):
    schema = Schema.of(made)
    assert str(schema) == (
        "a: int64 not null, b: string, c: double not null, d: list<item: int64> not null, e: date32[day] not null, "
        "f: decimal128(38, 9) not null"
    )
    assert [field.default for field in schema.fields[2:]] == [1.5, [], datetime.date(2024, 2, 29), decimal.Decimal("1.25")]


@pytest.mark.parametrize("made", CLASSES)
def test_its_instances_are_rows(made):
    rows = [made(a=1, b=None), made(a=2, b="x", c=0.5, d=[1])]
    topology = Topology("t")
    out = memory("out")
    topology.stream(memory("in", rows=rows)).filter(col("a") > 0).to(out)
    topology.run()
    assert [(row["a"], row["b"], row["c"], row["d"]) for row in out.rows()] == [(1, None, 1.5, []), (2, "x", 0.5, [1])]
    assert memory("in", made, [{"a": 3, "b": None}]).given.to_pylist()[0]["c"] == 1.5


def test_classes_may_hold_one_another():
    class Inner(msgspec.Struct):
        x: int

    class Outer(pydantic.BaseModel, arbitrary_types_allowed=True):
        inner: Inner | None = None

    Outer.__annotations__["inner"] = Inner | None
    assert str(Schema.of({"inner": Inner}).fields[0].type) == "struct<x: int64 not null>"


def test_a_default_that_does_not_fit_is_refused():
    class Wrong(msgspec.Struct):
        a: int = "one"  # type: ignore[assignment]

    with pytest.raises(TopologyError, match="column 'a': its default 'one' is not int64"):
        Schema.of(Wrong)


class Pair(NamedTuple):
    a: int
    b: str | None = None


class Typed(TypedDict):
    a: int
    b: str | None


def test_the_standard_library_s_classes_are_schemas_and_rows():
    assert str(Schema.of(Pair)) == str(Schema.of(Typed)) == "a: int64 not null, b: string"
    assert memory("in", Pair, [Pair(1), Pair(2, "x")]).given.to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_a_schema_of_polars_is_a_schema():
    frame = polars.DataFrame({"a": [1], "b": ["x"], "c": [[1]], "d": [{"x": 1.0}], "e": [datetime.datetime(2024, 1, 1)]})
    wanted = "a: int64, b: string, c: list<item: int64>, d: struct<x: double>, e: timestamp[us]"
    assert str(Schema.of(frame.schema)) == str(Schema.of(frame)) == str(Schema.of(frame.lazy())) == wanted
    assert str(Schema.of({"a": polars.Int32, "b": polars.String()})) == "a: int32 not null, b: string not null"


def frames():
    rows = {"a": [1, 2, 3], "b": ["x", None, "z"]}
    frame = polars.DataFrame(rows)
    yield "polars", frame
    yield "lazy", frame.lazy()
    yield "arrow", pa.table(rows)
    yield "reader", pa.table(rows).to_reader()
    yield "duckdb", duckdb.connect().sql("select * from (values (1, 'x'), (2, null), (3, 'z')) t(a, b)")
    yield "capsule", Capsule(pa.table(rows))


class Capsule:
    """A frame of a library that nobody knows."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_a_frame_of_any_library_is_rows():
    for name, frame in frames():
        topology = Topology("t")
        out = memory("out")
        topology.stream(memory("in", rows=frame)).select("a", twice=col("a") * 2, b=col("b")).to(out)
        topology.run()
        assert [tuple(row.values()) for row in out.rows()] == [(1, 2, "x"), (2, 4, None), (3, 6, "z")], name


def test_what_is_no_frame_is_named():
    with pytest.raises(TopologyError, match="row 0 is 5"):
        memory("in", {"a": int}, [5])
    with pytest.raises(TopologyError, match="does not become a table"):
        memory("in", rows=polars.Series("a", [1]).to_arrow())


def test_a_bounded_stream_is_a_frame():
    topology = Topology("t")
    stream = topology.stream(memory("in", rows=[{"a": 1}, {"a": 2}])).with_columns(b=col("a") * 10)
    assert polars.DataFrame(stream).rows() == [(1, 10), (2, 20)]
    assert pa.table(stream).to_pylist() == [{"a": 1, "b": 10}, {"a": 2, "b": 20}]
    counted = stream.key_by("a").count()
    assert pa.table(counted).num_rows == 2


def test_a_stream_without_an_end_is_no_frame():
    pytest.importorskip("confluent_kafka")
    from streamdsl import kafka

    topology = Topology("t")
    stream = topology.stream(kafka("in", {"a": int}))
    with pytest.raises(TopologyError, match="no end"):
        pa.table(stream)
    assert "no end" in stream._repr_html_() and "<td>a</td>" in stream._repr_html_()


def test_notebooks_show_what_things_are():
    topology = Topology("<shop>")
    stream = topology.stream(memory("in", rows=[{"a": 1, "b": "<x>"}]))
    table = stream.key_by("a").count(name="counts")
    table.to(memory("out"))
    assert "<td>a</td>" in stream._repr_html_() and "&lt;x&gt;" in stream._repr_html_() and "<x>" not in stream._repr_html_()
    assert topology._repr_html_().startswith("<svg") and "<shop>" not in topology._repr_html_()
    assert "counts" in table._repr_html_() or "a" in table._repr_html_()
    run = topology.run()
    assert "records in" in run._repr_html_() and "&lt;shop&gt;" in run._repr_html_()


def test_a_stream_that_fails_is_shown_without_rows():
    topology = Topology("t")

    def fails(row):
        raise ValueError("no")

    stream = topology.stream(memory("in", rows=[{"a": 1}])).map(fails, schema={"b": int})
    assert "<td>b</td>" in stream._repr_html_() and "ValueError" in stream._repr_html_()
