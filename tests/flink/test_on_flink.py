"""What runs here runs on Flink: the same rows."""

from __future__ import annotations

import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamdsl import ConnectorError, Topology, coalesce, col, files, format, kafka, lit, memory, when
from streamdsl.flink.gateway import Gateway
from tests.flink import cases
from tests.flink.avro_topics import check_avro
from tests.flink.cluster import Cluster
from tests.flink.compare import alike, on_flink, run_here, run_on_flink, tables_here, tables_on_flink, written_json
from tests.flink.expressions import differences, rows, run_batch
from tests.kafka.broker import Broker


def test_streams_of_many_kinds_in_one_statement_set(flink: Cluster, tmp_path: Path) -> None:
    topology = Topology("guide")
    a, b = cases.streams(topology)
    for name, build in cases.STREAMS.items():
        build(a, b).to(memory(name))
    sources = cases.inputs(tmp_path)
    here = run_here(topology, sources, tuple(cases.STREAMS))
    there = run_on_flink(flink.gateway, topology, sources, tuple(cases.STREAMS), tmp_path, parallelism=1)
    for name in cases.STREAMS:
        assert here[name], name
        alike(here[name], there[name])


@pytest.mark.parametrize("name", ["regrouped"])
def test_tables(flink: Cluster, tmp_path: Path, name: str) -> None:
    topology = Topology(name)
    table = cases.TABLES[name](*cases.streams(topology))
    table.to(kafka("out", broker="127.0.0.1:1"), name="out")
    written = {source: path for source, path in cases.inputs(tmp_path).items() if source in topology.sources()}
    alike(tables_here(topology, written, table), tables_on_flink(flink.gateway, topology, written, table))


def test_the_fraud_example(flink: Cluster, tmp_path: Path) -> None:
    sources = {"transactions": cases.transactions(tmp_path, 8_000)}
    here = run_here(cases.fraud(), sources, ("alerts",))["alerts"]
    there = run_on_flink(flink.gateway, cases.fraud(), sources, ("alerts",), tmp_path, parallelism=3)["alerts"]
    assert {row["rule"] for row in here} >= {"AMOUNT_ANOMALY", "GEO_IMPOSSIBLE"}
    alike(here, there)


def test_random_expressions(flink: Cluster, tmp_path: Path) -> None:
    found = run_batch(flink.gateway, random.randrange(10**6), 60, tmp_path)
    assert not found.different
    assert found.equal > found.refused


def test_expressions_whose_answers_differed(flink: Cluster, tmp_path: Path) -> None:
    zero = col("x") * 0.0
    small = lit(1000).replace({1: 2}).cast(pa.int16(), strict=False)
    made = {
        "root": lit(1.0) / (col("x") * 0.0 - 0.0).sqrt(),
        "root_of_less": (col("x") - 1e9).sqrt(),
        "sign": format("{:.2f}", zero.sign()),
        "text": lit("").is_not_null() & (col("t") > " -7 "),
        "replaced": small,
        "chosen": when(col("b")).then(small).otherwise(col("i")),
        "either": coalesce(col("n").cast(pa.int16(), strict=False), col("j")),
    }
    assert differences(made, rows(random.Random(3)), flink.gateway, tmp_path / "made") == {}


def test_a_record_that_fails_here_fails_there(flink: Cluster, tmp_path: Path) -> None:
    topology = Topology("too-much")
    topology.stream(memory("n", schema={"i": int})).select(twice=col("i") * 2).to(memory("out"))
    source = written_json(tmp_path / "n.jsonl", [{"i": 2**62}])
    with Gateway(flink.gateway) as gateway:
        job = gateway.submit(on_flink(topology, {"n": source}, {"out": tmp_path / "out"}))
        with pytest.raises(ConnectorError, match=r"too-much.*failed on Flink: For input string: '9223372036854775808'"):
            gateway.wait(job, timeout_s=60)


def test_decimals_of_parquet(flink: Cluster, tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.int64()), ("few", pa.decimal128(7, 2)), ("some", pa.decimal128(15, 3)), ("many", pa.decimal128(30, 1))])
    values = ["-99999.99", None, "0.05"]
    rows = [
        {"id": n, **{name: v and Decimal(v).quantize(Decimal(1).scaleb(-s)) for name, s in (("few", 2), ("some", 3), ("many", 1))}}
        for n, v in enumerate(values)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "rows.parquet")
    topology = Topology("decimals")
    made = topology.stream(files(str(tmp_path / "rows.parquet"), schema, format="parquet"), name="rows")
    made.with_columns(twice=col("few") * 2).to(files(str(tmp_path / "out"), format="parquet"), name="out")
    with Gateway(flink.gateway) as gateway:
        gateway.wait(gateway.submit(topology.to_flink()), timeout_s=120)
    found = [
        row for path in sorted((tmp_path / "out").iterdir()) if not path.name.startswith(".") for row in pq.read_table(path).to_pylist()
    ]
    wanted = [{**row, "twice": row["few"] and row["few"] * 2} for row in rows]
    assert sorted(found, key=lambda row: row["id"]) == wanted


def test_avro_from_topic_to_topic(flink: Cluster) -> None:
    with Broker() as broker:
        assert check_avro(flink.gateway, broker, 40, ("rows",)) > 20


def test_the_command_submits_a_job(flink: Cluster, tmp_path: Path) -> None:
    source = written_json(tmp_path / "n.jsonl", [{"i": 1}, {"i": 5}])
    module = tmp_path / "app.py"
    module.write_text(
        "from streamdsl import Topology, col, files\n"
        "topology = Topology('small')\n"
        f"topology.stream(files({str(source)!r}, {{'i': int}})).filter(col('i') > 2).to(files({str(tmp_path / 'out.jsonl')!r}))\n"
    )
    command = [sys.executable, "-m", "streamdsl", "-A", f"{module}:topology", "flink", "--submit", flink.gateway]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "FINISHED" in done.stdout
    assert [path.read_text() for path in (tmp_path / "out.jsonl").iterdir() if not path.name.startswith(".")] == ['{"i":5}\n']


def test_a_gateway_that_is_not_there_is_told_of() -> None:
    with pytest.raises(ConnectorError, match="cannot be reached"):
        Gateway("http://127.0.0.1:1")
