"""The whole comparison: ``python -m tests.flink.campaign [--expressions N] [--seed N] [--only PART …]``.

Parts: nexmark (every query that SQL can say), streams (the fraud example, what the guide shows, chains of steps, late rows),
tables, odd (rows before 1970, of many scripts, none at all), kafka (the fraud example from topic to topic, exactly once, with a
TaskManager killed on the way; a job that moves there and back; Avro; change events; metadata; a savepoint), python (functions, with
PyFlink in an environment of its own, made on first use), protobuf (topics, with PyFlink too; mistakes planted in their statements),
planted (mistakes of the translation, which must be found), expressions (random ones: equal, or refused by name).
`make test` has a part of most.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from examples.fraud.records import Transaction
from examples.nexmark.generator import generate
from examples.nexmark.queries import QUERIES
from examples.nexmark.queries import topology as nexmark
from streamdsl import ConnectorError, Expr, Table, Topology, TopologyError, coalesce, col, greatest, kafka, least, memory
from streamdsl.cli.target import located
from streamdsl.flink.functions import OPERATIONS
from streamdsl.flink.functions.kind import Operation
from streamdsl.flink.gateway import Gateway
from streamdsl.flink.job import Statement
from streamdsl.flink.project import write_project
from streamdsl.flink.values import Value
from tests.flink import cases, odd_cases
from tests.flink.avro_topics import check_avro
from tests.flink.cluster import Cluster
from tests.flink.compare import alike, on_flink, read_json, run_here, run_on_flink, tables_here, tables_on_flink, written_json
from tests.flink.expressions import Found, differences, rows, run_batch
from tests.flink.protobuf_topics import check_protobuf
from tests.flink.pyflink import pyflink, run_program
from tests.flink.topics import check_changes, check_metadata, check_moved, check_savepoint
from tests.kafka.broker import Broker
from tests.kafka.topics import consume_all, create_topic, produce

PARTS = ("nexmark", "streams", "tables", "odd", "kafka", "python", "protobuf", "planted", "expressions")
#: What Flink cannot show: the changes of a table as rows of a stream.
REFUSED = {"q19"}
#: Expressions of a seed.
BATCH = 200


def check_nexmark(flink: Cluster, directory: Path) -> None:
    """Compare every query, or see it refused."""
    events = {name: written_json(directory / f"{name}.jsonl", table.to_pylist()) for name, table in generate(3_000, rate=50)}
    for query in QUERIES:
        topology, result = nexmark(query)
        used = {name: path for name, path in events.items() if name in topology.sources()}
        if query in REFUSED:
            result.to(kafka("out", broker="b:1"), name="out")
            try:
                topology.to_flink(bind={name: kafka(name, topology.sources()[name].schema, broker="b:1") for name in used})
            except TopologyError as error:
                print(f"nexmark {query}: refused by name: {error.message[:100]}…", flush=True)
                continue
            raise AssertionError(f"{query} is no longer refused: compare it")
        if isinstance(result, Table):
            result.to(kafka("out", broker="b:1"), name="out")
            found = tables_here(topology, used, result)
            alike(found, tables_on_flink(flink.gateway, topology, used, result))
        else:
            result.to(memory("out"))
            found = run_here(topology, used, ("out",))["out"]
            alike(found, run_on_flink(flink.gateway, topology, used, ("out",), directory / query)["out"])
        print(f"nexmark {query}: {len(found)} rows alike", flush=True)


def check_tables(flink: Cluster, directory: Path) -> None:
    """Compare the tables of the guide."""
    written = cases.inputs(directory)
    for name, build in cases.TABLES.items():
        topology = Topology(name)
        table = build(*cases.streams(topology))
        table.to(kafka("out", broker="b:1"), name="out")
        used = {source: path for source, path in written.items() if source in topology.sources()}
        found = tables_here(topology, used, table)
        alike(found, tables_on_flink(flink.gateway, topology, used, table))
        print(f"table {name}: {len(found)} rows alike", flush=True)


def check_streams(flink: Cluster, directory: Path) -> None:
    """Compare the fraud example, and the windows, frames and joins of the guide."""
    sources = {"transactions": cases.transactions(directory, 30_000)}
    here = run_here(cases.fraud(), sources, ("alerts",))["alerts"]
    alike(here, run_on_flink(flink.gateway, cases.fraud(), sources, ("alerts",), directory / "fraud")["alerts"])
    print(f"fraud: {len(here)} alerts alike", flush=True)
    written = cases.inputs(directory)
    topology = Topology("guide")
    sides = cases.streams(topology)
    for name, build in cases.STREAMS.items():
        build(*sides).to(memory(name))
    found = run_here(topology, written, tuple(cases.STREAMS))
    there = run_on_flink(flink.gateway, topology, written, tuple(cases.STREAMS), directory / "guide")
    for name in cases.STREAMS:
        alike(found[name], there[name])
        print(f"stream {name}: {len(found[name])} rows alike", flush=True)


def check_chains(flink: Cluster, directory: Path) -> None:
    """Compare chains of steps, and windows over late rows."""
    written = cases.inputs(directory)
    for name, build in cases.CHAINS.items():
        topology = Topology(name)
        build(*cases.streams(topology)).to(memory("out"))
        used = {source: path for source, path in written.items() if source in topology.sources()}
        found = run_here(topology, used, ("out",))["out"]
        alike(found, run_on_flink(flink.gateway, topology, used, ("out",), directory / name)["out"])
        print(f"chain {name}: {len(found)} rows alike", flush=True)
    used = {"a": cases.shuffled(written["a"])}
    for name, late in cases.LATE.items():
        topology = Topology(name)
        late(cases.late(topology)).to(memory("out"))
        found = run_here(topology, used, ("out",))["out"]
        with Gateway(flink.gateway) as gateway:
            for option, value in (("parallelism.default", "1"), ("pipeline.auto-watermark-interval", "0 ms")):
                gateway.run(Statement("set", option, f"SET '{option}' = '{value}'"))
            gateway.wait(gateway.submit(on_flink(topology, used, {"out": directory / name})), timeout_s=180)
        alike(found, read_json(directory / name))
        print(f"late {name}: {len(found)} rows alike", flush=True)


def check_odd(flink: Cluster, directory: Path) -> None:
    """Compare pipelines over awkward rows, and over none."""
    odd, later = odd_cases.ODD, odd_cases.LATER
    for name, builds, count, start in (("odd", odd, 240, 0), ("later", later, 240, 1_700_000_000_000), ("empty", {**odd, **later}, 0, 0)):
        (directory / name).mkdir()
        written = odd_cases.inputs(directory / name, count, start)
        topology = Topology(name)
        sides = odd_cases.streams(topology)
        for case, build in builds.items():
            build(*sides).to(memory(case))
        here = run_here(topology, written, tuple(builds))
        there = run_on_flink(flink.gateway, topology, written, tuple(builds), directory / name)
        for case in builds:
            assert here[case] or not count, case
            alike(here[case], there[case])
            print(f"{name} {case}: {len(here[case])} rows alike", flush=True)


def check_kafka(flink: Cluster, directory: Path, most: int = 60_000) -> None:
    """Compare the fraud example from topic to topic, while a TaskManager dies."""
    written = cases.transactions(directory, most)
    here = run_here(cases.fraud(), {"transactions": written}, ("alerts",))["alerts"]
    with Broker() as broker:
        for topic in ("transactions", "alerts"):
            create_topic(broker.bootstrap, topic, 3)
        lines = written.read_text().splitlines()
        rows = [(json.loads(line)["account_number"].encode(), line.encode()) for line in lines]
        sources = {"transactions": kafka("transactions", Transaction, broker=broker.bootstrap, max_ahead=None, idle_timeout=None)}
        sinks = {"alerts": kafka("alerts", broker=broker.bootstrap, key="account_number", timestamps="arrival")}
        with Gateway(flink.gateway) as gateway:
            job = gateway.submit(cases.fraud().to_flink(bind={**sources, **sinks}))
            gateway.wait(job, until=("RUNNING",), timeout_s=60)
            produce(broker.bootstrap, "transactions", rows[: most // 2])
            time.sleep(5)
            flink.kill_task_manager(0)
            flink.start_task_manager()
            produce(broker.bootstrap, "transactions", rows[most // 2 :])
            # Times far ahead let all others be complete; the account is nobody's.
            end = {**json.loads(lines[-1]), "account_number": "end", "event_time": json.loads(lines[-1])["event_time"] + 10**7}
            _wait_for(broker, len(here), lambda: produce(broker.bootstrap, "transactions", _ends(end)))
            found = _alerts(broker)
            gateway.run(Statement("set", "stop", f"STOP JOB '{job.id}'"))
    alike(here, [row for row in found if row["account_number"] != "end"])
    print(f"kafka: {len(here)} alerts alike, exactly once, with a TaskManager killed", flush=True)
    with Broker() as broker:
        print(f"kafka: {check_moved(flink.gateway, broker, directory)} rows of a job that moved there and back", flush=True)
        print(f"kafka: {check_avro(flink.gateway, broker)} rows of Avro alike, with the same schemas", flush=True)
        print(f"kafka: {check_changes(flink.gateway, broker)} rows of change events alike", flush=True)
        print(f"kafka: {check_metadata(flink.gateway, broker)} records with headers, to topics that rows name, alike", flush=True)
        print(f"kafka: {check_savepoint(flink.gateway, broker, directory)} rows of a job that went on from its savepoint", flush=True)


def _ends(end: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(f"end-{number}".encode(), json.dumps({**end, "account_number": "end"}).encode()) for number in range(12)]


def _wait_for(broker: Broker, count: int, push: Any) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        push()
        time.sleep(3)
        if len(_alerts(broker)) >= count:
            time.sleep(3)
            return
    raise AssertionError(f"{len(_alerts(broker))} of {count} alerts have come")


def _alerts(broker: Broker) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in consume_all(broker.bootstrap, "alerts")]


def check_python(directory: Path) -> None:
    """Compare Python functions of all kinds, and see the error of one that fails."""
    os.environ["STREAMDSL_PYTHON_APP"] = str(directory)
    given = [{**row, "s": row["s"] and f"{row['s']} ende", "at": row["id"] * 700 - 5_000} for row in rows(random.Random(5))]
    extra = [{"l": [row["id"], None], "st": {"a": row["i"], "t": row["t"]}} for row in given]
    columns = ("id", "s", "x", "at", "m", "d", "p", "b", "n")
    written_json(directory / "rows.jsonl", [{name: row[name] for name in columns} | more for row, more in zip(given, extra, strict=True)])
    app = importlib.import_module("tests.flink.python_app")
    here = run_here(app.topology, {f"{directory}/rows.jsonl": directory / "rows.jsonl"}, tuple(app.found))
    with Cluster(python=pyflink()) as flink, Gateway(flink.gateway) as gateway:
        gateway.run(Statement("set", "parallelism", "SET 'parallelism.default' = '2'"))
        job = app.topology.to_flink()
        write_project(job, directory / "project", app)
        gateway.wait(gateway.submit(job, python_files=str(directory / "project" / "python")), timeout_s=600)
        for name in app.found:
            assert here[name], name
            alike(here[name], read_json(directory / f"{name}.rows"))
            print(f"python {name}: {len(here[name])} rows alike", flush=True)
        check_python_error(flink, directory)
        check_processor(flink, directory)


def check_processor(flink: Cluster, directory: Path) -> None:
    """Compare a processor with state, timers and a second output, in a program of PyFlink."""
    app = importlib.import_module("tests.flink.processor_app")
    path = written_json(directory / "moves.jsonl", app.rows(random.Random(4), 400))
    here = run_here(app.topology, {str(path): path}, ("made", "big", "later"))
    write_project(app.topology.to_flink(), directory / "program", app)
    run_program(directory / "program" / "python" / "job.py", flink, directory)
    for name, found in here.items():
        assert found, name
        alike(found, read_json(directory / f"{name}.rows"))
        print(f"python processor {name}: {len(found)} rows alike", flush=True)


FAILING = """
from streamdsl import Topology, files
topology = Topology("failing")
rows = topology.stream(files({source!r}, {{"id": int}}))
rows.map(lambda row: {{"id": 1 // row.id}}, schema={{"id": int}}).to(files({sink!r}, format="json"))
"""


def check_python_error(flink: Cluster, directory: Path) -> None:
    """See the error of a function, with its row."""
    (directory / "failing_app.py").write_text(FAILING.format(source=str(directory / "rows.jsonl"), sink=str(directory / "failed")))
    topology, module, attribute = located(f"{directory / 'failing_app.py'}:topology")
    job = topology.to_flink()
    write_project(job, directory / "failing", module, attribute)
    try:
        with Gateway(flink.gateway) as gateway:
            gateway.wait(gateway.submit(job, python_files=str(directory / "failing" / "python")), timeout_s=600)
    except ConnectorError as error:
        wanted = "map.<lambda>: the function failed: ZeroDivisionError: integer division or modulo by zero; row {'id': 0}"
        assert wanted in error.message, error.message
        print("python: the error names function and row", flush=True)
    else:
        raise AssertionError("a function that fails did not end the job")


def check_expressions(flink: Cluster, directory: Path, count: int, seed: int) -> None:
    """Compare so many random expressions."""
    found = Found()
    for batch in range(seed, seed + -(-count // BATCH)):
        one = run_batch(flink.gateway, batch, BATCH, directory)
        found.equal, found.refused = found.equal + one.equal, found.refused + one.refused
        found.different += one.different
        for said in one.different:
            print(f"expressions: seed {batch}: not equal: {said}", flush=True)
        print(f"expressions: seed {batch}: {found.equal} equal, {found.refused} refused by name", flush=True)
        for path in directory.glob(f"expressions-{batch}-*"):
            shutil.rmtree(path)
    if found.different:
        sys.exit(f"expressions: {len(found.different)} are not equal")


def _wrong(text: str, type_: pa.DataType) -> Operation:
    return lambda node, args: Value(text.format(*(arg.inner for arg in args)), type_)


#: Mistakes of a translation, each with an expression that shows it.
PLANTED: dict[str, tuple[Operation, Expr]] = {
    "floordiv": (_wrong("{} / NULLIF({}, 0)", pa.int64()), col("n") // 7),
    "mod": (_wrong("MOD({}, {})", pa.int64()), col("n") % 7),
    "div": (_wrong("CAST({} AS DOUBLE) / {}", pa.float64()), col("n") / col("n").sign()),
    "least": (_wrong("GREATEST({}, {})", pa.int64()), least(col("n"), 3)),
    "str_head": (_wrong("RIGHT({}, 1)", pa.string()), col("s").str.head(1)),
    "not": (_wrong("({} IS NOT TRUE)", pa.bool_()), ~col("b")),
    "dt_year": (_wrong("EXTRACT(YEAR FROM {})", pa.int64()), col("m").dt.year()),
    "str_split_part": (_wrong("SPLIT_INDEX({}, '-', 1)", pa.string()), col("s").str.split_part("-", 1)),
    "greatest": (_wrong("LEAST({}, {})", pa.int64()), greatest(col("i"), col("j"))),
    "coalesce": (_wrong("COALESCE({1}, {0})", pa.int64()), coalesce(col("i"), col("j"))),
    "and": (_wrong("({} OR {})", pa.bool_()), col("b") & (col("n") > 0)),
    "concat": (_wrong("COALESCE({}, '') || {}", pa.string()), col("s") + col("t")),
    "round": (_wrong("ROUND({}, 2)", pa.float64()), col("x").round(2)),
    "dec_round": (_wrong("CAST(ROUND({}, 1) AS DECIMAL(12, 1))", pa.decimal128(12, 1)), col("p").round(1)),
    "dec_floor": (_wrong("CAST(TRUNCATE({}, 0) AS DECIMAL(11, 0))", pa.decimal128(11, 0)), col("p").floor()),
    "parse_i64": (_wrong("TRY_CAST({} AS BIGINT)", pa.int64()), col("s").cast(int, strict=False)),
    "str_contains": (_wrong("(LOCATE({1}, {0}) = 1)", pa.bool_()), col("s").str.contains(col("t"), literal=True)),
    "str_ends_with": (_wrong("(LOCATE({1}, {0}) > 0)", pa.bool_()), col("s").str.ends_with("b")),
    "str_pad_start": (_wrong("LPAD({}, 2, '*')", pa.string()), col("s").str.pad_start(2, "*")),
    "str_strip_chars": (_wrong("TRIM({})", pa.string()), col("s").str.strip_chars()),
    "str_slice": (_wrong("SUBSTRING({} FROM 2)", pa.string()), col("s").str.slice(2)),
    "str_replace": (_wrong("REPLACE({}, {}, {})", pa.string()), col("s").str.replace("-", "+", literal=True)),
    "list_get": (_wrong("{}[1]", pa.string()), col("s").str.split("-").list.get(1, null_on_oob=True)),
    "dt_strftime": (_wrong("DATE_FORMAT(TO_TIMESTAMP_LTZ({}, 3), 'hh:mm')", pa.string()), col("m").dt.strftime("%H:%M")),
    "dt_weekday": (_wrong("EXTRACT(DOW FROM {})", pa.int64()), col("m").dt.weekday()),
    "dt_ordinal_day": (_wrong("EXTRACT(DAY FROM {})", pa.int64()), col("m").dt.ordinal_day()),
    "dt_is_leap_year": (_wrong("(MOD(EXTRACT(YEAR FROM {}), 4) = 0)", pa.bool_()), col("m").dt.is_leap_year()),
}


def check_planted(flink: Cluster, directory: Path) -> None:
    """See each planted mistake found."""
    right = {name: OPERATIONS[name] for name in PLANTED}
    made = {name: expression for name, (_, expression) in PLANTED.items()}
    assert not differences(made, rows(random.Random(1)), flink.gateway, directory / "unplanted")
    try:
        OPERATIONS.update({name: mistake for name, (mistake, _) in PLANTED.items()})
        found = differences(made, rows(random.Random(1)), flink.gateway, directory / "planted")
    finally:
        OPERATIONS.update(right)
    for name in PLANTED:
        assert name in found, f"the mistake in {name} was not found"
        print(f"planted {name}: found", flush=True)


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expressions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary, Cluster() as flink:
        directory = Path(temporary)
        if "nexmark" in asked.only:
            check_nexmark(flink, directory)
        if "streams" in asked.only:
            check_streams(flink, directory)
            check_chains(flink, directory)
        if "tables" in asked.only:
            check_tables(flink, directory)
        if "odd" in asked.only:
            check_odd(flink, directory)
        if "kafka" in asked.only:
            check_kafka(flink, directory)
        if "python" in asked.only:
            check_python(directory)
        if "protobuf" in asked.only:
            check_protobuf(directory)
        if "planted" in asked.only:
            check_planted(flink, directory)
        if "expressions" in asked.only:
            check_expressions(flink, directory, asked.expressions, asked.seed)


if __name__ == "__main__":
    main()
