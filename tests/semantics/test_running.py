"""Running: whole runs, stop and drain, collect and head, bind, names, the plan in words."""

import datetime
import decimal
import threading
import time
from dataclasses import dataclass

import pyarrow as pa
import pytest

from streamdsl import (
    Config,
    Processor,
    Topology,
    TopologyError,
    col,
    count,
    dead_letter,
    expanding,
    files,
    lit,
    memory,
    operator,
    rolling,
    tumbling,
)
from streamdsl.errors import DataError
from streamdsl.testing import TopologyTestDriver
from tests.semantics.jobs import at

ROWS = [{"k": "ab"[i % 2], "t": i * 100, "n": i} for i in range(100)]
SCHEMA = {"k": str | None, "t": int, "n": int | None}


def windows(rows=ROWS):
    topology = Topology("job")
    stream = topology.stream(memory("in", schema=SCHEMA, rows=rows), timestamp="t", name="numbers")
    stream.key_by("k").window(tumbling("1s")).aggregate(n=count(), total=col("n").sum()).to(memory("out"), name="totals")
    return topology


def expected(rows=ROWS):
    found = {}
    for row in rows:
        n, total = found.get((row["t"] // 1_000, row["k"]), (0, 0))
        found[row["t"] // 1_000, row["k"]] = (n + 1, total + row["n"])
    return sorted((at(start * 1_000), k, n, total) for (start, k), (n, total) in found.items())


def shown(rows):
    return sorted((row["window_start"], row["k"], row["n"], row["total"]) for row in rows)


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_run_goes_to_the_end_of_its_input(parallelism):
    out = memory("x")
    windows().run(Config(parallelism=parallelism), bind={"totals": out})
    assert shown(out.rows()) == expected()


def test_the_same_topology_runs_twice_and_in_the_driver():
    topology = windows()
    for _ in range(2):
        out = memory("x")
        topology.run(bind={"totals": out})
        assert shown(out.rows()) == expected()
    job = TopologyTestDriver(topology)
    job.send_batch("numbers", ROWS)
    job.end()
    assert shown(job.read("totals")) == expected()


def test_what_is_behind_a_name_can_be_exchanged(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("k,t,n\n" + "".join(f"{row['k']},{row['t']},{row['n']}\n" for row in ROWS))
    out = tmp_path / "out.jsonl"
    windows(rows=[]).run(bind={"numbers": files(str(path)), "totals": files(str(out))})
    assert len(out.read_text().splitlines()) == len(expected())
    with pytest.raises(TopologyError, match="'numbers'"):
        windows().run(bind={"number": memory("x")})
    with pytest.raises(TopologyError, match="sink"):
        windows().run(bind={"totals": 3})
    with pytest.raises(TopologyError, match="'n'"):
        windows().run(bind={"numbers": memory("x", schema={"k": str, "t": int})})


def test_collect_and_head_run_a_part():
    topology = Topology("job")
    rows = topology.stream(memory("in", schema=SCHEMA, rows=ROWS), timestamp="t")
    rows.to(memory("never"))
    table = rows.filter(col("n") >= 98).select("k", twice=col("n") * 2).collect()
    assert isinstance(table, pa.Table)
    assert table.to_pylist() == [{"k": "a", "twice": 196}, {"k": "b", "twice": 198}]
    assert rows.head(3).column("n").to_pylist() == [0, 1, 2]
    assert rows.head().num_rows == 10
    changes = rows.key_by("k").count().collect().to_pylist()
    assert changes[-1] == {"k": "b", "count": 50, "op": "replace"}
    assert rows.filter(col("n") > 1_000).collect().schema.names == ["k", "t", "n"]
    assert rows.collect(bind={"in": memory("other", rows=ROWS[:2])}).num_rows == 2


def test_a_bound_source_without_a_schema_takes_that_of_the_topology():
    stream = Topology("job").stream(memory("in", schema={"n": "int8", "s": str | None}))
    found = stream.collect(bind={"in": memory("other", rows=[{"n": 1}])})
    assert (found.to_pylist(), found.schema.field("n").type) == ([{"n": 1, "s": None}], pa.int8())
    with pytest.raises(TopologyError, match="schema="):
        Topology("job").stream(files("in.csv"))


def json_lines(path):
    path.write_text("".join(f'{{"k": "{row["k"]}", "t": {row["t"]}, "n": {row["n"]}}}\n' for row in ROWS))
    return str(path)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_stop_leaves_windows_open_and_a_later_run_goes_on(tmp_path):
    path, out = json_lines(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    config = Config(state_dir=tmp_path / "state")
    slow = {"numbers": files(path, rate=50), "totals": files(str(out))}
    run = windows(rows=[]).start(config, bind=slow)
    until(lambda: run.metrics()["sinks"]["totals"] > 0)
    run.stop()
    run.wait()
    assert 0 < len(out.read_text().splitlines()) < len(expected())
    windows(rows=[]).run(config, bind={"numbers": files(path), "totals": files(str(out))})
    found = files(str(out), schema={"k": str, "window_start": datetime.datetime, "window_end": datetime.datetime, "n": int, "total": int})
    assert shown(Topology("check").stream(found).collect().to_pylist()) == expected()


def test_drain_closes_windows(tmp_path):
    out = memory("x")
    run = windows().start(bind={"numbers": files(json_lines(tmp_path / "in.jsonl"), rate=50), "totals": out})
    until(lambda: run.metrics()["tasks"][0]["processed"] > 0)
    run.drain()
    run.wait()
    found = shown(out.rows())
    assert 0 < sum(n for _, _, n, _ in found) < len(ROWS)


@dataclass
class Typed:
    i8: int
    text: str
    maybe: str | None
    price: decimal.Decimal
    day: datetime.date
    when: datetime.datetime
    raw: bytes
    tags: list[int]
    ok: bool = True


def test_every_type_passes_through_unchanged():
    row = Typed(1, "ñ", None, decimal.Decimal("1.200000000"), datetime.date(1969, 12, 31), at(-1), b"\x00\xff", [1, 2])
    for schema, rows in ((Typed, [row]), (Typed, [vars(row)])):
        stream = Topology("job").stream(memory("in", schema=schema, rows=rows))
        assert stream.collect().to_pylist() == [vars(row)]
        assert [field.nullable for field in stream.schema.fields] == [False, False, True, *[False] * 6]


def test_narrow_and_nested_types_keep_their_type():
    schema = pa.schema(
        [
            ("i8", pa.int8()),
            ("u16", pa.uint16()),
            ("u64", pa.uint64()),
            ("f32", pa.float32()),
            ("us", pa.timestamp("us")),
            ("ls", pa.large_string()),
            ("st", pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))])),
            ("d", pa.decimal128(5, 2)),
        ]
    )
    rows = [
        {
            "i8": -128,
            "u16": 65_535,
            "u64": 2**64 - 1,
            "f32": 0.1,
            "us": datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999),
            "ls": "x",
            "st": {"a": 1, "b": ["x", None]},
            "d": decimal.Decimal("-123.45"),
        },
        dict.fromkeys(schema.names),
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    found = (
        Topology("job")
        .stream(memory("in", schema=schema, rows=batch))
        .key_by("i8")
        .with_columns(before=col("i8").lag(), high=col("u64").max().over(expanding()))
        .collect()
    )
    assert found.schema.field("i8").type == found.schema.field("before").type == pa.int8()
    assert found.schema.field("high").type == pa.uint64()
    # The row without a key is dropped.
    assert found.drop(["before", "high"]).to_pylist() == batch.to_pylist()[:1]
    assert found.drop(["before", "high"]).schema.types == schema.types


def test_clashes_of_names_are_errors():
    topology = Topology("job")
    rows = topology.stream(memory("in", schema=SCHEMA), timestamp="t")
    with pytest.raises(TopologyError, match="'in'"):
        topology.stream(memory("in", schema=SCHEMA))
    rows.to(memory("out"))
    with pytest.raises(TopologyError, match="'out'"):
        rows.to(memory("out"))
    keyed = rows.key_by("k")
    keyed.count(name="same").to(memory("one"))
    keyed.aggregate(n=col("n").sum(), name="same").to(memory("two"))
    with pytest.raises(TopologyError, match="'same'"):
        topology.explain()


def test_two_operators_of_one_automatic_name_clash_and_name_mends_it():
    def topology(**name):
        made = Topology("job")
        keyed = made.stream(memory("in", schema=SCHEMA)).key_by("k")
        keyed.filter(col("n") > 0).aggregate(total=col("n").sum()).to(memory("one"))
        keyed.filter(col("n") < 0).aggregate(total=col("n").sum(), **name).to(memory("two"))
        return made

    with pytest.raises(TopologyError, match="name="):
        topology().explain()
    assert "negative" in topology(name="negative").explain()


def test_strict_names_insist_on_every_name():
    topology = windows()
    with pytest.raises(TopologyError, match="name="):
        topology.run(Config(strict_names=True))
    with pytest.raises(TopologyError, match="name="):
        TopologyTestDriver(topology, strict_names=True)
    named = Topology("job")
    named.stream(memory("in", schema=SCHEMA)).key_by("k").count(name="n").to(memory("out"))
    TopologyTestDriver(named, strict_names=True)


@operator
def busy(rows, *, limit=2):
    return rows.with_columns(recent=count()).filter(col("recent") >= limit)


def test_an_operator_may_be_used_twice_under_two_names():
    topology = Topology("job")
    keyed = topology.stream(memory("in", schema=SCHEMA), timestamp="t").key_by("k")
    keyed.window(rolling("1s")).process(busy(), name="fast").to(memory("fast"))
    keyed.window(rolling("1h")).process(busy(limit=3), name="slow").to(memory("slow"))
    job = TopologyTestDriver(topology)
    job.send_batch("in", ROWS[:6])
    assert (len(job.read("fast")), len(job.read("slow"))) == (4, 2)
    assert job.state("fast") == {"a": {"recent": 3}, "b": {"recent": 3}}


def test_the_plan_shows_four_forms():
    plan = windows().explain()
    assert [line for line in plan.splitlines() if line.startswith("==")] == [
        "== as typed ==",
        "== logical ==",
        "== optimised ==",
        "== physical ==",
    ]
    for word in ("tumbling", "numbers", "totals", "key_by"):
        assert word in plan


def test_source_errors_fail_skip_or_become_dead_letters(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("k,n\na,1\nb,two\nc,3\n")

    def topology(**options):
        made = Topology("job")
        made.stream(files(str(path), schema={"k": str, "n": int}), name="in", **options).to(memory("out"), name="out")
        return made

    with pytest.raises(DataError) as raised:
        topology().run()
    assert (raised.value.field, raised.value.offset) == ("n", 1)
    assert "two" in str(raised.value)
    out = memory("x")
    topology(errors="skip").run(bind={"out": out})
    assert [row["n"] for row in out.rows()] == [1, 3]
    dead = memory("dead")
    topology(errors=dead_letter(dead, name="letters")).run(bind={"out": memory("y"), "letters": dead})
    [letter] = dead.rows()
    assert (letter["value"], letter["offset"], letter["topic"]) == (b"b,two", 1, str(path))


def test_the_driver_refuses_what_does_not_fit():
    job = TopologyTestDriver(windows())
    for row, said in [({"k": "a", "t": 1, "m": 1}, "'m'"), ({"k": "a", "t": "soon", "n": 1}, "soon"), (3, "dict")]:
        with pytest.raises(DataError, match=said):
            job.send("numbers", row)
    for name in ("number", "totals"):
        with pytest.raises(Exception, match="numbers"):
            job.send(name, ROWS[0])
    with pytest.raises(Exception, match="totals"):
        job.read("total")
    with pytest.raises(Exception, match="no operator"):
        job.state("nothing")


def test_the_driver_takes_rows_of_any_shape():
    @dataclass
    class Row:
        k: str
        t: int
        n: int | None = None

    job = TopologyTestDriver(windows())
    job.send("numbers", Row("a", 0, 5))
    job.send_batch("numbers", pa.Table.from_pylist([{"k": "a", "t": 1, "n": 6}]))
    job.send_batch("numbers", pa.RecordBatch.from_pylist([{"t": 2, "k": "a", "n": 7}]))
    job.send_batch("numbers", [{"k": "a", "t": 3}])
    job.send_batch("numbers", [])
    job.end("numbers")
    assert [(row["n"], row["total"]) for row in job.read("totals")] == [(4, 18)]
    assert job.read("totals") == []


def test_what_no_checkpoint_covers_is_lost_and_read_again():
    topology = Topology("job")
    topology.stream(memory("in", schema=SCHEMA), timestamp="t").key_by("k").count().to(memory("out"))
    job = TopologyTestDriver(topology)
    job.send("in", ROWS[0])
    assert job.checkpoint() == 1
    job.send("in", ROWS[2])
    assert [row["count"] for row in job.read("out")] == [1, 2]
    job.crash_and_restore(parallelism=3)
    job.send("in", ROWS[4])
    assert [row["count"] for row in job.read("out")] == [3]


def test_processors_are_opened_and_closed_once_in_each_task():
    calls = []

    class Counts(Processor):
        output = {"k": str}

        def open(self, ctx):
            calls.append("open")

        def process(self, row, ctx):
            return {"k": row.k}

        def close(self):
            calls.append("close")

    topology = Topology("job")
    topology.stream(memory("in", schema=SCHEMA, rows=ROWS)).key_by("k").process(Counts).to(memory("out"))
    topology.run(Config(parallelism=3))
    assert (calls.count("open"), calls.count("close")) == (3, 3)


def test_a_run_from_another_thread():
    out = memory("x")
    thread = threading.Thread(target=lambda: windows().run(bind={"totals": out}))
    thread.start()
    thread.join(30)
    assert shown(out.rows()) == expected()


def test_a_constant_stream_of_literals():
    stream = Topology("job").stream(memory("in", schema=SCHEMA, rows=ROWS[:2]))
    assert (
        stream.select(one=lit(1), text=lit("x"), none=lit(None).cast(float), day=lit(datetime.date(2020, 1, 1))).collect().to_pylist()
        == [{"one": 1, "text": "x", "none": None, "day": datetime.date(2020, 1, 1)}] * 2
    )
