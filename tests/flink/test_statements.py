"""Topologies as text of Flink SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from streamdsl import (
    Expr,
    Processor,
    Topology,
    TopologyError,
    col,
    count,
    dead_letter,
    event_time,
    expanding,
    files,
    format,
    kafka,
    lit,
    memory,
    row,
    session,
    tumbling,
    when,
)
from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.cli.app import run
from streamdsl.flink.expressions import written
from streamdsl.flink.functions import OPERATIONS
from streamdsl.flink.patterns import java_pattern
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import Relation
from streamdsl.logical.expression import Typed
from streamdsl.logical.functions import FUNCTIONS
from streamdsl.schema import Schema
from tests.flink.texts import ORDER, orders, statements


def refused(topology: Topology) -> str:
    with pytest.raises(TopologyError) as error:
        topology.to_flink()
    return str(error.value)


def test_a_topology_is_a_script_that_reads_like_it() -> None:
    topology = Topology("large-orders")
    large = orders(topology).filter(col("amount") > 100).select("id", cents=(col("amount") * 100).cast(int))
    large.to(kafka("large", broker="b:1", timestamps="arrival"))
    assert str(topology.to_flink()).partition("\n\nSET ")[2] == SCRIPT.strip()


SCRIPT = """
'pipeline.name' = 'large-orders';
SET 'execution.runtime-mode' = 'streaming';
SET 'table.local-time-zone' = 'UTC';
SET 'table.exec.sink.not-null-enforcer' = 'ERROR';

-- source: orders (id, amount, at)
CREATE TEMPORARY TABLE `orders` (
  `id` BIGINT,
  `customer` STRING,
  `amount` DOUBLE,
  `at` TIMESTAMP_LTZ(3),
  `_time` AS `at`,
  WATERMARK FOR `_time` AS `_time` - INTERVAL '0 00:00:05.001' DAY TO SECOND(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'orders',
  'properties.bootstrap.servers' = 'b:1',
  'properties.group.id' = 'large-orders-flink',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'value.format' = 'json',
  'value.json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '5000 ms'
);

-- filter: amount > 100.0
CREATE TEMPORARY VIEW `filter_1` AS
SELECT `id`, `amount`, `at`, `_time`
FROM `orders`
WHERE `amount` > 100.0E0;

-- project: id; cents = cast_i64(amount * 100.0, True)
CREATE TEMPORARY VIEW `project_2` AS
SELECT
  `id`,
  CASE WHEN (`amount` * 100.0E0) >= -9.223372036854775808E18 AND (`amount` * 100.0E0) < 9.223372036854775808E18 THEN \
CAST(`amount` * 100.0E0 AS BIGINT) WHEN (`amount` * 100.0E0) IS NOT NULL THEN \
CAST('no whole number of 64 bits: ' || CAST(`amount` * 100.0E0 AS STRING) AS BIGINT) END AS `cents`,
  `_time`
FROM `filter_1`;

-- sink: large (id, cents)
CREATE TEMPORARY TABLE `large` (
  `id` BIGINT,
  `cents` BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = 'large',
  'properties.bootstrap.servers' = 'b:1',
  'value.format' = 'json',
  'value.json.timestamp-format.standard' = 'ISO-8601',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'large-orders-large',
  'properties.transaction.timeout.ms' = '900000'
);

-- sink: large (id, cents)
INSERT INTO `large`
SELECT `id`, `cents`
FROM `project_2`;
"""


def test_every_function_is_written_or_refused_by_name() -> None:
    assert not set(FUNCTIONS) - set(OPERATIONS), "say what they are in Flink: streamdsl/flink/functions"


def test_an_operation_without_a_translation_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"new_thing\(\)"):
        written(Typed("new_thing", pa.int64()), Relation("rows"), Schema())


def test_the_place_of_an_item_is_its_ordinality() -> None:
    topology = Topology("t")
    schema = {"id": int, "l": pa.list_(pa.struct([("a", pa.int64())]))}
    rows = topology.stream(kafka("rows", schema, broker="b:1"), name="rows")
    rows.explode("l", index="place").select("id", "place", a=col("l").struct.field("a")).to(kafka("o", broker="b:1"))
    text = str(topology.to_flink())
    assert "ELSE '' END, ',')) WITH ORDINALITY AS `_items` (`_item`, `_place`)" in text
    assert "S.`l`[`_place`] AS `l`" in text and "CAST(`_place` - 1 AS BIGINT) AS `place`" in text


def test_headers_and_topics_of_records_are_metadata() -> None:
    topology = Topology("t")
    sink = kafka("others", broker="b:1", headers=("id", "customer"), topic_from="place", timestamps="arrival")
    orders(topology).select("id", "customer", "amount", place=col("customer")).to(sink, name="out")
    job = topology.to_flink()
    table = statements(topology)["out"]
    assert "'topic-pattern' = '.*'" in table and "`_topic` STRING METADATA FROM 'topic'" in table
    assert "`_headers` MAP<STRING, BYTES> METADATA FROM 'headers'" in table and "`place`" not in table
    insert = job.statements[-1].text
    assert "MAP['id', CAST(CAST(`id` AS STRING) AS BYTES), 'customer', CAST(`customer` AS BYTES)]" in insert
    assert "COALESCE(`place`, 'others')" in insert


def test_joins_with_tables_that_are_kept_in_other_ways_are_temporal_joins() -> None:
    for options in ({}, {"versioned": "1h"}, {"broadcast": True}):
        topology = Topology("t")
        source = kafka("people", {"customer": str, "name": str, "since": int}, broker="b:1")
        people = topology.table(source, key="customer", timestamp="since", name="people", **options)
        orders(topology).join(people, on="customer", name="both").to(kafka("o", broker="b:1"))
        assert "FOR SYSTEM_TIME AS OF L.`_time` AS R" in statements(topology)["both"]


def test_rows_without_a_key_are_left_out_by_keyed_steps() -> None:
    topology = Topology("t")
    rows = topology.stream(kafka("o", pa.schema([("k", pa.string()), ("n", pa.int64())]), broker="b:1"), name="o")
    rows.key_by("k").aggregate(total=col("n").sum(), name="totals").to(kafka("t", broker="b:1"))
    assert "WHERE `k` IS NOT NULL" in statements(topology)["totals"]


def test_joins() -> None:
    topology = Topology("t")
    left = orders(topology)
    right = topology.stream(kafka("paid", {"id": int, "paid": float, "when": "timestamp"}, broker="b:1"), timestamp="when", name="paid")
    left.join(right, on="id", before="0s", after="10m", name="paid orders").to(kafka("a", broker="b:1"))
    left.join_asof(right, by="id", tolerance="1m", name="latest").to(kafka("b", broker="b:1"))
    left.join(right, on="id", within=None, name="whenever").to(kafka("c", broker="b:1"))
    found = statements(topology)
    assert "R.`_time` BETWEEN L.`_time` AND L.`_time` + INTERVAL '10' MINUTE" in found["paid_orders"]
    assert "R.`_time` AS `_time`" in found["paid_orders"]
    assert "FOR SYSTEM_TIME AS OF L.`_time` AS R" in found["latest"]
    assert "CASE WHEN R.`_time` >= L.`_time` - INTERVAL '1' MINUTE THEN R.`paid` END AS `paid`" in found["latest"]
    assert "JOIN `paid` AS R\nON L.`id` = R.`id`" in found["whenever"]


def test_a_join_that_loses_the_watermarks_is_told_of_where_they_are_needed() -> None:
    topology = Topology("t")
    left = orders(topology)
    right = topology.stream(kafka("paid", {"id": int, "when": "timestamp"}, broker="b:1"), timestamp="when", name="paid")
    both = left.join(right, on="id", within="1m").key_by("customer").window(tumbling("1m")).count()
    both.to(kafka("a", broker="b:1"))
    assert "has lost its watermarks in a join" in refused(topology) and "before=0 or after=0" in refused(topology)


def test_whole_numbers_that_may_overflow_are_checked() -> None:
    topology = Topology("t")
    rows = topology.stream(kafka("n", pa.schema([("a", pa.int64()), ("b", pa.int32())]), broker="b:1"), name="n")
    rows.select(large=col("a") + col("a"), small=col("b") + 1, wide=col("b") * col("b")).to(kafka("o", broker="b:1"))
    text = statements(topology)["project_1"]
    assert "CAST(TRIM(CAST(CAST(`a` AS DECIMAL(19, 0)) + CAST(`a` AS DECIMAL(19, 0)) AS STRING)) AS BIGINT) AS `large`" in text
    assert "CAST(`b` AS BIGINT) + 1 AS `small`" in text
    assert "CAST(`b` AS BIGINT) * CAST(`b` AS BIGINT) AS `wide`" in text


def test_a_value_that_the_plan_knows_as_a_narrower_one_is_cast() -> None:
    topology = Topology("t")
    rows = topology.stream(kafka("n", {"a": int}, broker="b:1"), name="n")
    rows.select(sign=col("a").sign().cast("int16", strict=False)).to(kafka("o", broker="b:1"))
    assert "THEN CAST(SIGN(`a`) AS SMALLINT) ELSE" in statements(topology)["project_1"]


def test_comparisons_of_what_may_be_nan_know_it() -> None:
    topology = Topology("t")
    orders(topology).filter(col("amount").log() > 3).to(kafka("o", broker="b:1"))
    assert "WHEN CAST(LN(`amount`) AS STRING) = 'NaN' THEN TRUE" in statements(topology)["filter_1"]


class Twice(Processor):
    output = {"id": int}

    def process(self, row: Any, ctx: Any) -> Any:
        return {"id": row.id * 2}


class Batches(Processor):
    output = {"id": int}

    def process_batch(self, batch: pa.RecordBatch, ctx: Any) -> Any:
        return None


class Windows(Processor):
    output = {"id": int}

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        return None


@pytest.mark.parametrize(
    ("build", "name", "remedy"),
    [
        (lambda s: s.key_by("customer").process(Batches()), "Batches.process_batch", "write process(row, ctx)"),
        (lambda s: s.key_by("customer").window(tumbling("1m")).process(Windows()), "Windows.process_window", "hand its topic to Flink"),
        (lambda s: s.key_by("customer").process(Twice(), errors="skip"), "errors=skip", 'errors="fail"'),
        (lambda s: s.key_by("customer").window(tumbling("1m"), emit="update").count(), "emit=update", 'emit="close"'),
        (
            lambda s: s.key_by("customer").window(session("2m")).aggregate(a=col("id").first()),
            "first() in session",
            "min_by(event_time())",
        ),
        (lambda s: s.key_by("customer").window(tumbling("1h", offset="1s")).count(), "would pass 3600 windows", "into 1000 parts or fewer"),
        (lambda s: s.key_by("customer").window(tumbling("1d", tz="America/Lima")).count(), "time zone", "UTC"),
        (lambda s: s.select(t=col("customer").str.to_titlecase()), "str.to_titlecase()", "no function"),
        (lambda s: s.filter(col("customer").str.contains(r"(?i)a")), "(?i", "classes"),
        (lambda s: s.select(t=col("amount").round(9)), "round(9)", "round to 0 to 7 digits"),
        (lambda s: s.key_by("customer").window(tumbling("1m")).aggregate(best=row().max_by("amount")), "row()", "no function"),
        (
            lambda s: s.key_by("customer").window(session("1m")).aggregate(n=count(), best=col("id").max_by("amount")),
            "max_by in a session beside other aggregates",
            "a window of its own",
        ),
        (lambda s: s.key_by("customer").deduplicate(within="1m"), "deduplicate(within 1m)", "write a Processor"),
        (lambda s: s.with_columns(n=(col("id") + 1), errors="skip"), "errors=skip", "filter such records"),
        (lambda s: s.key_by("customer").count().to_stream(), "to_stream()", "table.to(sink)"),
        (lambda s: s.select(t=format("{:e}", col("amount"))), "{:e}", "{:.2f}"),
    ],
)
def test_what_has_no_equal_is_refused_by_name(build: Any, name: str, remedy: str) -> None:
    topology = Topology("t")
    build(orders(topology)).to(kafka("o", broker="b:1"))
    text = refused(topology)
    assert name in text and remedy in text and "cannot run on Flink" in text


def test_all_that_is_refused_is_told_at_once() -> None:
    topology = Topology("t")
    rows = orders(topology)
    rows.key_by("customer").window(tumbling("1h", offset="1s")).count().to(memory("out"))
    rows.select(t=col("customer").str.to_titlecase()).to(kafka("o", broker="b:1"))
    text = refused(topology)
    assert "1. " in text and "2. " in text and "3. " in text and "memory(...)" in text


def test_dead_letters_are_refused() -> None:
    topology = Topology("t")
    orders(topology, errors=dead_letter(kafka("bad", broker="b:1"))).to(kafka("o", broker="b:1"))
    assert "dead letters" in refused(topology)


def test_files() -> None:
    topology = Topology("t")
    rows = topology.stream(files("/data/orders-*.csv", ORDER), timestamp="at", name="orders")
    rows.filter(col("amount") > 1).to(files("/out/large.jsonl"), name="large")
    found = statements(topology)
    assert "'source.path.regex-pattern' = '.*/orders\\-[^/]*\\.csv'" in found["orders"] and "`amount` STRING" in found["orders"]
    assert "CAST(`amount` AS DOUBLE) AS `amount`" in found["orders_typed"]
    assert "WHERE NOT (`id` IS NOT DISTINCT FROM 'id'" in found["orders_typed"]
    assert "'path' = '/out/large.jsonl'" in found["large"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lit(-0.0), "-0.0 as a constant"),
        (lit(-0.5).ceil(), "ceil(-0.5): numbers made of constants alone"),
        (col("id") / lit(-1.0).sqrt().log(), "sqrt(-1.0): numbers made of constants alone"),
        (col("id") / lit("ab").str.slice(-2).cast(int), "numbers made of constants alone"),
    ],
)
def test_what_the_planner_would_compute_otherwise_is_refused(made: Expr, said: str) -> None:
    topology = Topology("t")
    orders(topology).select(v=made).to(kafka("o", broker="b:1"))
    assert said in refused(topology)


def test_csv_has_its_delimiter_on_flink() -> None:
    topology = Topology("t")
    rows = topology.stream(files("/data/orders.csv", ORDER, delimiter=";"), timestamp="at", name="orders")
    rows.to(files("/data/out.tsv"), name="out")
    found = {one.name: one.text for one in topology.to_flink().statements if one.kind == "table"}
    assert "'csv.field-delimiter' = ';'" in found["orders"] and "'csv.field-delimiter' = '\t'" in found["out"]


def test_parquet_needs_hadoop_and_the_clock_of_utc() -> None:
    topology = Topology("t")
    topology.stream(files("/data/orders.parquet", ORDER, format="parquet"), name="orders").to(
        files("/out/all", format="parquet"), name="all"
    )
    job = topology.to_flink()
    found = statements(topology)
    assert "'parquet.utc-timezone' = 'true'" in found["orders"] and "'parquet.write.int64.timestamp' = 'true'" in found["all"]
    assert "org.apache.hadoop:hadoop-client-runtime:3.3.6" in job.connectors
    assert any("Times before 1970 in the Parquet files" in said for said in job.differences)
    topology = Topology("t")
    schema = pa.schema([("p", pa.decimal128(12, 2)), ("q", pa.decimal128(30, 1))])
    topology.stream(files("/data/a.parquet", schema, format="parquet"), name="a").to(kafka("o", broker="b:1"))
    found = statements(topology)
    assert "`p` DECIMAL(38, 2),\n  `q` DECIMAL(30, 1)" in found["a"] and "CAST(`p` AS DECIMAL(12, 2))" in found["a_typed"]
    topology = Topology("t")
    schema = pa.schema([("p", pa.list_(pa.decimal128(12, 2)))])
    topology.stream(files("/data/a.parquet", schema, format="parquet")).to(kafka("o", broker="b:1"))
    assert "with decimals inside of another type" in refused(topology)


def test_files_that_are_read_in_windows_need_no_positions() -> None:
    topology = Topology("t")
    rows = topology.stream(files("/data/orders.jsonl", ORDER), timestamp="at", name="orders").key_by("customer")
    rows.window(tumbling("1m")).count().to(kafka("o", broker="b:1"))
    rows.with_columns(n=count().over(expanding())).to(kafka("p", broker="b:1"))
    assert "_offset" not in str(topology.to_flink())


def test_hidden_columns_of_a_topic() -> None:
    topology = Topology("t")
    orders(topology).select("id", at=event_time(), place=col("_offset"), key=col("_key")).to(kafka("o", broker="b:1"))
    text = statements(topology)["orders"]
    assert "`_offset` BIGINT METADATA FROM 'offset' VIRTUAL" in text and "'key.fields' = '_key'" in text


def test_names_and_texts_cannot_leave_their_quotes() -> None:
    topology = Topology("it's; DROP")
    rows = topology.stream(kafka("o", {"a`b": "string"}, broker="b:1"), name="o`; DROP TABLE x")
    rows.filter(col("a`b") == "'; DROP TABLE x --").to(kafka("p", broker="b:1"))
    script = str(topology.to_flink())
    assert "'it''s; DROP'" in script and "`a``b` = '''; DROP TABLE x --'" in script


def test_choices_share_what_is_large() -> None:
    topology = Topology("t")
    heavy = when(col("amount") > 1).then(col("amount") * 2).when(col("amount") > 5).then(col("amount") * 3).otherwise(0.0)
    orders(topology).select(a=heavy + 1, b=heavy + 2).to(kafka("o", broker="b:1"))
    text = statements(topology)["project_1"]
    assert "`_part_1` + 1.0E0 AS `a`" in text and text.count("WHEN `amount` > 5") == 1


def test_importing_the_library_imports_nothing_of_it() -> None:
    import subprocess
    import sys

    script = "import streamdsl, sys; assert not [m for m in sys.modules if m.startswith('streamdsl.flink')]"
    subprocess.run([sys.executable, "-c", script], check=True)


APP = """
from streamdsl import Topology, col, kafka
topology = Topology("large-orders")
orders = topology.stream(kafka("orders", {"id": int, "amount": float}))
orders.filter(col("amount") > 1000).to(kafka("large-orders"))
"""


def test_the_command_prints_it_or_writes_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "large_orders_app.py").write_text(APP)
    target = f"{tmp_path / 'large_orders_app.py'}:topology"
    assert run(["-A", target, "flink"]) == 0
    printed = capsys.readouterr().out
    assert "CREATE TEMPORARY VIEW `filter_1`" in printed
    assert run(["-A", target, "flink", "--output", str(tmp_path / "project")]) == 0
    assert (tmp_path / "project" / "job.sql").read_text() == printed
    compose = yaml.safe_load((tmp_path / "project" / "compose.yml").read_text())
    assert set(compose["services"]) == {"jobmanager", "taskmanager", "gateway"}
    assert "flink-sql-connector-kafka-5.0.0-2.2.jar" in (tmp_path / "project" / "Dockerfile").read_text()
    readme = (tmp_path / "project" / "README.md").read_text()
    assert "streamdsl -A large_orders_app:topology flink --submit http://localhost:8083" in readme
    assert "./job.sql:/opt/flink/job.sql:ro" in compose["services"]["gateway"]["volumes"]
    assert "chown flink:flink /checkpoints" in (tmp_path / "project" / "Dockerfile").read_text()
    assert "flink-sql-connector-kafka:5.0.0-2.2" in readme and "Where Flink answers otherwise" in readme


def test_options_of_a_job_that_is_not_submitted_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-A", "x:y", "flink", "--savepoint", "/s"]) == 2
    assert "--submit" in capsys.readouterr().err


def test_change_events_are_a_table_with_a_key() -> None:
    topology = Topology("t")
    customers = topology.table(kafka("customers", {"id": int, "city": str}, format="debezium-json", broker="b:1"), key="id", name="all")
    customers.group_by("city").count().to(kafka("cities", broker="b:1"))
    job = topology.to_flink()
    table = next(one.text for one in job.statements if one.kind == "table")
    assert "PRIMARY KEY (`id`) NOT ENFORCED" in table and "'value.format' = 'debezium-json'" in table
    assert "SET 'table.exec.source.cdc-events-duplicate' = 'true';" in str(job)
    assert "_deleted" not in str(job).replace("+ _deleted", "")
    assert any("REPLICA IDENTITY FULL" in said for said in job.differences)


def test_a_source_begins_at_the_offsets_that_are_given() -> None:
    topology = Topology("t")
    orders(topology).to(kafka("o", broker="b:1"))
    text = str(topology.to_flink(offsets={"orders": {1: 7, 0: 4210}}))
    assert "'scan.startup.mode' = 'specific-offsets'" in text
    assert "'scan.startup.specific-offsets' = 'partition:0,offset:4210;partition:1,offset:7'" in text
    with pytest.raises(TopologyError, match=r"'order' is no source of a topic"):
        topology.to_flink(offsets={"order": {0: 1}})


def test_operators_between_words_of_a_function_have_brackets() -> None:
    topology = Topology("t")
    padded = col("customer").str.pad_end(4)
    orders(topology).select(
        a=col("customer").str.contains(padded, literal=True),
        b=padded.str.contains("x", literal=True),
        c=padded.str.slice(1, 2),
        d=padded.str.replace("a", padded, literal=True),
    ).to(kafka("o", broker="b:1"))
    text = statements(topology)["select_1" if "select_1" in statements(topology) else "project_1"]
    for word in (
        " IN `customer` ||",
        "POSITION(`customer` ||",
        "SUBSTRING(`customer` ||",
    ):
        assert word not in text


def test_the_command_begins_where_a_checkpoint_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "moving_to_flink.py").write_text(APP)
    state = tmp_path / "state"
    (state / "checkpoints").mkdir(parents=True)
    (state / "job.json").write_text('{"job": "large-orders"}')
    position = {"topic": "id-of-the-topic", "until": None}
    splits = {f"orders/{number}": {"position": {**position, "offset": 40 + number}} for number in (1, 0)}
    splits["orders/2"] = {"position": {**position, "offset": "beginning"}}
    _write_manifest(state, {"orders": splits, "others": {"a.jsonl": {"position": 7}}})
    target = f"{tmp_path / 'moving_to_flink.py'}:topology"
    assert run(["-A", target, "flink", "--from", str(state)]) == 0
    assert "'scan.startup.specific-offsets' = 'partition:0,offset:40;partition:1,offset:41'" in capsys.readouterr().out
    splits["orders/0"]["position"]["skip"] = 3
    _write_manifest(state, {"orders": splits})
    assert run(["-A", target, "flink", "--from", str(state)]) != 0
    assert "orders/0 stands in the middle of the record at offset 40" in capsys.readouterr().err
    (state / "job.json").write_text('{"job": "other"}')
    assert run(["-A", target, "flink", "--from", str(state)]) == 2
    assert "is the state directory of 'other', not of 'large-orders'" in capsys.readouterr().err


def _write_manifest(state: Path, sources: dict[str, Any]) -> None:
    storage = DirectoryStorage(state / "checkpoints")
    storage.remove(1)
    storage.begin(1)
    storage.publish(1, Manifest(job="large-orders", checkpoint_id=1, finished=False, shards=128, sources=sources).encode())


@pytest.mark.parametrize(
    ("pattern", "java"),
    [
        (r"a+", "a+"),
        (r"^a.$", "(?d)^a.$"),
        (r"\w+", r"[\p{L}\p{N}_]+"),
        (r"[^\w-]", r"(?d)[^\p{L}\p{N}_-]"),
        (r"\W", r"[^\p{L}\p{N}_]"),
        (r"\d\.\s", r"(?d)\p{Nd}\.[\p{IsWhite_Space}\x1c-\x1f]"),
        (r"[\s\\]", r"[\p{IsWhite_Space}\x1c-\x1f\\]"),
        (r"\[\w]", r"\[[\p{L}\p{N}_]]"),
        (r"\bx", r"(?:(?<=[\p{L}\p{N}_])(?![\p{L}\p{N}_])|(?<![\p{L}\p{N}_])(?=[\p{L}\p{N}_]))x"),
    ],
)
def test_patterns_mean_the_same_letters_to_java(pattern: str, java: str) -> None:
    assert java_pattern(pattern) == java


@pytest.mark.parametrize("pattern", [r"[\W]", r"[\S]", r"(?i)a", r"a(?<=b)", r"[a&b]", r"x{,2}"])
def test_patterns_that_java_reads_otherwise_are_refused(pattern: str) -> None:
    with pytest.raises(Refused, match="is read otherwise by Java"):
        java_pattern(pattern)
