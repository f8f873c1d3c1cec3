"""Expressions, aggregates, frames, windows and schemas are values: they can be copied and pickled; NumPy's numbers are numbers."""

import copy
import dataclasses
import datetime
import pickle

import pytest

from streamdsl import (
    Aggregate,
    Config,
    Field,
    Schema,
    Topology,
    TopologyError,
    col,
    count,
    event_time,
    expanding,
    format,
    haversine_km,
    hopping,
    lit,
    memory,
    rolling,
    tumbling,
    when,
)
from streamdsl.durations import parse_duration
from tests.dsl.fakes import payments, refused

EXPRESSIONS = {
    "column": col("a"),
    "constant": lit(1.5),
    "null": lit(None),
    "moment": lit(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
    "call": (col("a") + 1 > 2) & ~col("b").is_null(),
    "alias": (col("a") * 2).alias("double"),
    "cast": col("a").cast("timestamp"),
    "is_in": col("a").is_in([1, 2.5, True]),
    "replace": col("a").replace_strict({1: "one", None: "none"}, default=col("b")),
    "when": when(col("a") > 1).then(col("b")).otherwise(None),
    "format": format("{:.2f}", col("a")),
    "time": event_time().dt.truncate("1h"),
    "haversine": haversine_km(col("a"), 1, 2, 3),
    "aggregate": col("a").sum().filter(col("b") > 1).over(rolling("5m")) / count(),
    "top_k": col("a").top_k(3, by="b"),
    "own": Aggregate(int, max, type=int)("a"),
    "lag": col("a") - col("a").lag(),
}
OTHERS = {
    "when": when(col("a") > 1).then(1),
    "own": Aggregate(int, max, type=int),
    "rolling": rolling("5m", exclude_current=True),
    "expanding": expanding(),
    "tumbling": tumbling("5m", offset="1m"),
    "hopping": hopping("5m", "1m"),
    "schema": Schema.of({"a": int, "b": "timestamp"}),
    "field": Field("a", Schema.of({"a": list[int]}).field("a").type),
    "str": col("a").str,
    "dt": col("a").dt,
}
COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda value: pickle.loads(pickle.dumps(value))}  # noqa: S301


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_copies_of_expressions(name, way):
    expr = EXPRESSIONS[name]
    made = COPIES[way](expr)
    assert repr(made) == repr(expr)
    assert made.node == expr.node
    assert hash(made) == hash(expr)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", OTHERS)
def test_copies_of_other_values(name, way):
    made = COPIES[way](OTHERS[name])
    assert type(made) is type(OTHERS[name])
    assert repr(made) == repr(OTHERS[name])


@dataclasses.dataclass
class Rule:
    condition: object
    rows: list


def test_rules_that_hold_expressions():
    rule = Rule(col("a") > 1, [{"a": 1}, {"a": 2}])
    for condition in (dataclasses.asdict(rule)["condition"], copy.deepcopy(rule).condition, COPIES["pickle"](rule).condition):
        rows = Topology("t").stream(memory("m", schema={"a": int}, rows=rule.rows))
        assert rows.filter(condition).collect().column("a").to_pylist() == [2]


def test_equal_expressions_are_told_from_others():
    assert (col("a") + 1).node == (col("a") + 1).node
    for a, b in [
        (col("a") + 1, col("a") + 1.0),
        (col("a").is_in([1]), col("a").is_in([True])),
        (col("a").sum(), col("a").sum().filter(col("b"))),
        (col("a").max_by("b"), col("a").max().filter(col("b"))),
        (col("a").std(ddof=1), col("a").std(ddof=0)),
        (lit(0.0), lit(-0.0)),
    ]:
        assert a.node != b.node


def test_streams_and_tables_have_no_other_attributes():
    stream = payments()[1]
    keyed = stream.key_by("account")
    for owner in (stream, keyed, keyed.window(expanding()), keyed.window(tumbling("1m")), keyed.count()):
        for name in ("joined", "where", "nothing", "__length_hint__", "_nothing"):
            assert not hasattr(owner, name)
            assert getattr(owner, name, 7) == 7
        assert repr(copy.copy(owner)) == repr(owner)
    assert not hasattr(stream, "aggregate")
    assert not hasattr(keyed.count(), "flat_map")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("group_by", "key_by"),
        ("groupby", "key_by"),
        ("keyBy", "key_by"),
        ("where", "filter"),
        ("assign", "with_columns"),
        ("withColumn", "with_columns"),
        ("pipe", "@operator"),
        ("leftJoin", "join"),
        ("to_topic", "kafka("),
        ("print", "console()"),
        ("flatMap", "flat_map"),
        ("add_sink", "to(sink)"),
        ("union", "merge"),
        ("filtr", "'filter'"),
        ("with_column", "with_columns"),
        ("aggregate", "key_by"),
        ("coProcess", "connect"),
        ("suppress", 'emit="close"'),
        ("rebalance", "broadcast=True"),
        ("reduceByKey", "reduce(function)"),
        ("uid", "name="),
        ("assignTimestampsAndWatermarks", "timestamp="),
        ("toTable", "to_table"),
    ],
)
def test_verbs_of_other_libraries(name, word):
    with refused(name, word):
        getattr(payments()[1], name)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("from_kafka", "stream(kafka("),
        ("fromElements", "memory("),
        ("read_csv", "files("),
        ("globalTable", "broadcast=True"),
        ("timer", 'every("10s")'),
        ("execute", "run()"),
        ("map", "stream(source)"),
        ("steam", "'stream'"),
    ],
)
def test_beginnings_of_other_libraries(name, word):
    topology = Topology("t")
    assert not hasattr(topology, name)
    with refused(name, word):
        getattr(topology, name)


@pytest.mark.parametrize(
    ("name", "word"), [("toStream", "to_stream"), ("fk_join", 'on="column"'), ("where", "filter"), ("groupBy", "group_by")]
)
def test_verbs_of_tables(name, word):
    with refused(name, word):
        getattr(payments()[1].key_by("account").count(), name)


class Scalar:
    """What NumPy's scalars look like to us."""

    ndim = 0

    class dtype:
        kind = "i"

    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value

    def __index__(self):
        return self.value.__index__()


@pytest.mark.parametrize("make", [Scalar, lambda value: pytest.importorskip("numpy").asarray(value)[()]], ids=["alike", "numpy"])
def test_numbers_of_numpy(make):
    two, yes = make(2), make(True)
    assert repr(col("a") > two) == 'col("a") > 2'
    assert repr(col("a") + make(0.5)) == 'col("a") + 0.5'
    assert repr(lit(yes)) == "True"
    assert repr(col("a") == yes) == 'col("a") == True'
    assert repr((col("a") > 1) & yes) == '(col("a") > 1) & True'
    assert repr(col("a").is_between(make(1), two)) == '(col("a") >= 1) & (col("a") <= 2)'
    assert repr(col("a").is_in([make(1), two])) == 'is_in(col("a"), (1, 2))'
    assert repr(col("a").fill_null(two)) == 'coalesce(col("a"), 2)'
    assert repr(col("a").replace({two: make(5)})) == repr(col("a").replace({2: 5}))
    assert repr(when(col("a") > two).then(two).otherwise(make(3))) == 'when(col("a") > 2, 2, 3)'
    assert repr(col("a").top_k(two)) == repr(col("a").top_k(2))
    assert repr(col("a").lag(two)) == repr(col("a").lag(2))
    assert repr(col("a").std(ddof=make(1))) == repr(col("a").std(ddof=1))
    assert repr(col("a").round(two)) == repr(col("a").round(2))
    assert repr(col("a").str.slice(make(1), two)) == repr(col("a").str.slice(1, 2))
    assert repr(col("a").str.split_part("/", two)) == repr(col("a").str.split_part("/", 2))
    assert repr(col("a").str.extract("(a)(b)", two)) == repr(col("a").str.extract("(a)(b)", 2))
    assert parse_duration(make(1500)) == 1500
    assert rolling(make(1500)) == rolling(1500)
    config = Config(parallelism=two, batch_rows=make(512), checkpoint_interval=make(250), state_memory=make(1 << 20))
    assert config == Config(parallelism=2, batch_rows=512, checkpoint_interval=250, state_memory=1 << 20)
    with pytest.raises(TopologyError):
        col("a").top_k(make(0))


def test_moments_of_numpy():
    numpy = pytest.importorskip("numpy")
    moment = lit(numpy.datetime64("2026-01-01T00:00:00.123456789")).node.value
    assert moment == datetime.datetime(2026, 1, 1, 0, 0, 0, 123456)
    assert parse_duration(numpy.timedelta64(5, "s")) == 5000
