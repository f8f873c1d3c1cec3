"""Topics with Protobuf on Flink: their statements, and the functions that make rows of values and back."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from streamdsl import DataError, Topology, TopologyError, col, kafka
from streamdsl.flink.job import FlinkJob
from streamdsl.flink.project import write_project
from streamdsl.flink.python import values
from streamdsl.flink.python.function import PythonValues
from streamdsl.flink.python.values import Decoding, Encoding
from tests.flink import protobuf_app
from tests.kafka.registry import Registry

UTC_MS = pa.timestamp("ms", tz="UTC")
FEW = pa.schema([pa.field("id", pa.int64(), nullable=False), ("at", pa.int64()), ("x", pa.float64()), ("moment", UTC_MS)])
#: The same as a message has it: no time is one of its numbers.
NUMBERS = FEW.set(3, pa.field("moment", pa.int64()))
SECRET = {"url": "http://r:8081", "basic.auth.user.info": "me:secret"}
CALL = "`rows_rows_0`(`_value`, `_partition`, `_offset`)"


def topic(name: str, schema: Any = None, *, message: str = "Row", registry: Any = "http://r:8081", **more: Any) -> Any:
    given = {"format": "protobuf", "registry": registry, "message": protobuf_app.MESSAGES[message], "broker": "b:1"}
    return kafka(name, schema, **{**given, **more})


def job(source: Any, sink: Any = None, errors: Any = None, **more: Any) -> FlinkJob:
    topology = Topology("t")
    topology.stream(source, name="rows", errors=errors, **more).to(sink or kafka("out", broker="b:1"), name="out", errors="fail")
    return topology.to_flink()


def texts(made: FlinkJob) -> dict[str, str]:
    return {one.name: one.text for one in made.statements if one.kind != "insert"}


def function(made: FlinkJob) -> PythonValues:
    (found,) = made.functions
    assert isinstance(found, PythonValues)
    return found


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as started:
        yield started


def test_a_time_in_the_value_is_a_column_of_the_table() -> None:
    made = texts(job(topic("in", FEW), timestamp="at", disorder="1s"))
    assert made["rows_rows_0"] == "CREATE TEMPORARY FUNCTION `rows_rows_0` AS 'streamdsl_functions.rows_rows_0' LANGUAGE PYTHON"
    assert f"  `_row` AS {CALL},\n  `_time` AS TO_TIMESTAMP_LTZ({CALL}.`at`, 3),\n  WATERMARK FOR `_time`" in made["rows"]
    # Flink casts other types, and would then call the function twice.
    assert "`_partition` INT NOT NULL METADATA" in made["rows"] and "`_offset` BIGINT NOT NULL METADATA" in made["rows"]
    assert "'value.format' = 'raw'" in made["rows"] and "watermark.idle-timeout" not in made["rows"]
    assert made["rows_typed"].endswith("  TO_TIMESTAMP_LTZ(S.`_row`.`moment`, 3) AS `moment`,\n  `_time`\nFROM `rows` AS S")
    assert made["table.exec.source.idle-timeout"].endswith("'5000 ms'")


def test_the_records_own_time_leaves_the_watermarks_to_the_source() -> None:
    made = texts(job(topic("in", FEW)))
    assert "`_row`" not in made["rows"] and "`_time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL" in made["rows"]
    assert "'scan.watermark.idle-timeout' = '5000 ms'" in made["rows"] and "table.exec.source.idle-timeout" not in made
    assert f"FROM `rows` AS S, LATERAL TABLE({CALL}) AS F(`id`, `at`, `x`, `moment`)" in made["rows_typed"]


def test_two_sources_wait_for_idle_partitions_as_long_as_the_longer_one() -> None:
    topology = Topology("t")
    for name, idle in (("a", "3s"), ("b", "9s"), ("c", "1s")):
        topology.stream(topic(name, FEW, idle_timeout=idle), timestamp="at", name=name).to(
            kafka(f"{name}-out", broker="b:1"), name=f"{name}-o"
        )
    assert texts(topology.to_flink())["table.exec.source.idle-timeout"].endswith("'9000 ms'")


def test_only_columns_that_are_read_are_decoded() -> None:
    topology = Topology("t")
    rows = topology.stream(topic("in", FEW), name="rows", timestamp="at").select("id", place=col("_partition"))
    rows.to(kafka("out", broker="b:1"), name="out")
    made = topology.to_flink()
    assert function(made).columns.names == ("id", "at")
    assert "CAST(`_partition` AS BIGINT) AS `_partition`" in texts(made)["rows_typed"]


def test_bad_values_that_are_skipped_have_a_time_and_no_row() -> None:
    made = texts(job(topic("in", FEW), timestamp="at", errors="skip"))
    assert f"COALESCE(TO_TIMESTAMP_LTZ({CALL}.`at`, 3), TO_TIMESTAMP_LTZ(0, 3))" in made["rows"]
    assert made["rows_typed"].endswith("WHERE S.`_row` IS NOT NULL")
    assert "WHERE" not in texts(job(topic("in", FEW), timestamp="at"))["rows_typed"]


def test_a_sink_writes_one_column_of_bytes_beside_its_key() -> None:
    made = job(kafka("in", {"id": int, "moment": UTC_MS}, broker="b:1"), topic("out", key="id"))
    table = texts(made)["out"]
    assert "  `id` BIGINT,\n  `_value` BYTES,\n" in table
    assert "'value.format' = 'raw'" in table and "'key.fields' = 'id'" in table and "'value.fields-include' = 'EXCEPT_KEY'" in table
    (insert,) = made.inserts
    assert "SELECT `id`, `out_values_1`(`rows`.`id`, (EXTRACT(EPOCH FROM `rows`.`moment`) * 1000" in insert.text.replace("\n  ", " ")


def test_a_table_is_written_by_its_key() -> None:
    topology = Topology("t")
    topology.table(topic("in", FEW), key="id", timestamp="at", name="rows").to(topic("out"), name="out")
    made = topology.to_flink()
    table = texts(made)["out"]
    assert "'connector' = 'upsert-kafka'" in table and "  `id` BIGINT NOT NULL,\n  `_value` BYTES,\n  PRIMARY KEY (`id`)" in table
    read = made.functions[0]
    assert isinstance(read, PythonValues) and read.of_table


def test_floats_of_protobuf_may_be_no_numbers() -> None:
    topology = Topology("t")
    rows = topology.stream(topic("in", FEW), name="rows")
    rows.filter(col("x") > 1).to(kafka("out", broker="b:1"), name="out")
    assert "NaN" in next(text for name, text in texts(topology.to_flink()).items() if name.startswith("filter"))


def test_no_secret_of_a_registry_is_in_the_statements() -> None:
    made = job(topic("in", FEW, registry=SECRET), topic("out", registry=SECRET))
    assert "secret" not in str(made) and "r:8081" not in str(made)


def test_what_differs_is_said() -> None:
    said = " ".join(job(topic("in", FEW), timestamp="at", errors="skip").differences)
    for wanted in ("Watermarks of 'rows' are those of a task", "the registry of 'rows' does not answer", "first value that is no Protobuf"):
        assert wanted in said
    assert "must not be null" not in said
    assert "those of a task" not in " ".join(job(topic("in", FEW)).differences)


@pytest.mark.parametrize(
    ("source", "sink", "said"),
    [
        (topic("in", FEW, message="Row", registry=None), None, "has Protobuf without registry="),
        (kafka("in", FEW, format="protobuf", registry="http://r:1", broker="b:1"), None, "has Protobuf without message="),
        (topic("in", {"t": pa.timestamp("us", tz="UTC")}), None, r"the column 't' \(timestamp\[us, tz=UTC\]\) of Protobuf"),
        (kafka("in", {"t": list[datetime.date]}, broker="b:1"), topic("out"), r"the column 't' .* of Protobuf"),
    ],
)
def test_what_cannot_be_is_refused_by_name(source: Any, sink: Any, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        job(source, sink)


def test_a_project_with_protobuf_has_what_reads_it(tmp_path: Any) -> None:
    made = job(topic("in", FEW), topic("out"))
    write_project(made, tmp_path, protobuf_app)
    assert "rocksdict 'confluent-kafka[protobuf,schemaregistry]'" in (tmp_path / "Dockerfile").read_text()
    assert "confluent-kafka[protobuf" in (tmp_path / "README.md").read_text()
    assert "#   rows_rows_0: rows\n" in (tmp_path / "python" / "streamdsl_functions.py").read_text()


# The functions themselves --------------------------------------------------------------------------------------------


def pair(registry: Registry, name: str, schema: Any = FEW, **more: Any) -> tuple[Encoding, Decoding]:
    """Return what writes a topic, and what reads it."""
    given = NUMBERS if schema is FEW else schema
    writes = function(job(kafka("in", given, broker="b:1"), topic(name, registry=registry.url)))
    return Encoding(writes), Decoding(function(job(topic(name, schema, registry=registry.url), **more)))


def test_values_go_there_and_back(registry: Registry) -> None:
    write, read = pair(
        registry, "back", {"id": int, "x": float | None, "b": bytes | None, "ns": list[int], "m": dict[str, int], "k": str | None}
    )
    row = (7, -0.5, b"\0\xff", [1, 2], {"a": 3}, "ß")
    assert read(write(*row), 0, 0) == row
    assert read(write(1, None, None, [], {}, None), 0, 1) == (1, None, None, [], {}, None)
    assert registry.versions["back-value"], "the schema is registered as the runtime's sink does"


def test_a_function_reads_what_the_runtime_writes_and_back(registry: Registry) -> None:
    """Times and unsigned numbers travel as other types; the value is the same."""
    schema = {"id": int, "u": pa.uint64(), "moment": pa.int64()}
    write, _ = pair(registry, "same", schema)
    ours = topic("same", registry=registry.url).value_serializer()
    columns = pa.schema([("id", pa.int64()), ("u", pa.uint64()), ("moment", pa.int64())])
    rows = pa.RecordBatch.from_pylist([{"id": 1, "u": 2**64 - 1, "moment": -5}], columns)
    assert ours.values(rows) == [write(1, str(2**64 - 1), -5)]
    timed = function(job(topic("same", {"u": pa.uint64(), "moment": UTC_MS}, registry=registry.url)))
    assert Decoding(timed)(ours.values(rows)[0], 0, 0) == (str(2**64 - 1), -5)


def test_a_bad_value_ends_the_job_with_its_place(registry: Registry) -> None:
    _, read = pair(registry, "bad")
    with pytest.raises(
        DataError, match=r"a record cannot be read: 'no Protobuf' \(operator=rows, topic=bad, partition=2, offset=17, reason="
    ):
        read(b"no Protobuf", 2, 17)
    with pytest.raises(DataError, match=r"null .*tombstone"):
        read(None, 2, 18)


def test_a_bad_value_that_is_skipped_gives_no_row(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    write, read = pair(registry, "skipped", errors="skip")
    good = write(1, 2, None, None)
    assert [read(value, 0, place) for place, value in enumerate((b"no", None, good, b""))] == [None, None, (1, 2, None, None), None]
    assert [
        one.getMessage().count("at skipped, partition 0, offset 0: 'no'") for one in caplog.records if "skipped" in one.getMessage()
    ] == [1]


def test_a_tombstone_of_a_table_gives_no_row(registry: Registry) -> None:
    topology = Topology("t")
    table = topology.table(topic("table", FEW, registry=registry.url), key="id", timestamp="at", name="rows")
    table.to(kafka("out", broker="b:1"), name="out")
    read = Decoding(function(topology.to_flink()))
    assert read(None, 0, 0) is None
    with pytest.raises(DataError):
        read(b"no Protobuf", 0, 1)


def test_a_row_without_an_event_time_is_a_bad_one(registry: Registry) -> None:
    write, read = pair(registry, "timeless", FEW, timestamp="moment")
    with pytest.raises(DataError, match="the record has no event time"):
        read(write(1, 2, None, None), 0, 0)
    assert read(write(1, 2, None, 5), 0, 1) == (1, 2, None, 5)


def test_a_value_waits_until_its_registry_answers(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, read = pair(registry, "away")
    value, answer, slept = write(1, 2, None, None), Registry.answer, []

    def comes_back(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            monkeypatch.setattr(Registry, "answer", answer)

    monkeypatch.setattr(Registry, "answer", lambda self, method, path, body: None)
    monkeypatch.setattr(values.time, "sleep", comes_back)
    assert read(value, 0, 0) == (1, 2, None, None)
    assert len(slept) == 2
    assert sum("does not answer yet" in one.getMessage() for one in caplog.records) == 1


def test_a_row_that_fits_no_message_is_told(registry: Registry) -> None:
    write = Encoding(function(job(kafka("in", {"nope": int}, broker="b:1"), topic("unfit", registry=registry.url))))
    with pytest.raises(DataError, match=r"cannot be written to 'unfit' as protobuf: .*nope"):
        write(1)
