"""Tables from change events of Debezium, and from topics with tombstones: what of a record is the row, and what becomes of it."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Config, Topology, TopologyError, col, dead_letter, files, kafka, memory
from streamdsl._native.serdes.change_events import row_of_event
from streamdsl.connectors.kafka.values import decoder_of, readable_fields
from streamdsl.formats.changes import key_row
from tests.joins.test_tables import applied

CUSTOMERS = {"id": int, "name": str, "city": str | None, "at": int}


def event(op, before=None, after=None, *, envelope=False, **more):
    body = {"before": before, "after": after, "source": {"table": 'a "quoted" {name}', "ts_ms": 5}, "op": op, "ts_ms": 7, **more}
    return json.dumps({"schema": {"type": "struct", "fields": [{"field": "op"}]}, "payload": body} if envelope else body)


def row(number, name="Ada", city="Lima", at=1):
    return {"id": number, "name": name, "city": city, "at": at}


def table_of(tmp_path, lines, **options):
    path = tmp_path / "changes.jsonl"
    path.write_text("\n".join(lines) + "\n")
    topology = Topology("t")
    return topology.table(files(path, CUSTOMERS, format="debezium-json", **options), key="id", timestamp="at")


@pytest.mark.parametrize("envelope", [False, True])
def test_changes_of_a_file_make_the_table(tmp_path, envelope):
    lines = [
        event("r", None, row(1), envelope=envelope),
        event("c", None, row(2, at=2), envelope=envelope),
        event("u", row(1), row(1, city=None, at=3), envelope=envelope),
        event("d", row(2, at=2), None, envelope=envelope),
        event("c", None, row(3, at=4), envelope=envelope),
        # Without REPLICA IDENTITY FULL what stood there is known by its key alone.
        event("d", {"id": 3, "name": None, "city": None, "at": None}, None, envelope=envelope),
        event("d", {"id": 9}, None, envelope=envelope),
    ]
    changes = table_of(tmp_path, lines).collect().to_pylist()
    ops = [("add", 1), ("add", 2), ("replace", 1), ("withdraw", 2), ("add", 3), ("withdraw", 3)]
    assert [(one["op"], one["id"]) for one in changes] == ops
    assert applied(changes) == {(1,): row(1, city=None, at=3)}


def test_a_row_of_nulls_is_a_row(tmp_path):
    path = tmp_path / "changes.jsonl"
    path.write_text(event("c", None, {"id": 1, "city": None}) + "\n")
    table = Topology("t").table(files(path, {"id": int, "city": str | None}, format="debezium-json"), key="id")
    assert table.collect().to_pylist() == [{"id": 1, "city": None, "op": "add"}]


ROWS = st.lists(st.tuples(st.integers(0, 3), st.none() | st.sampled_from("xyz"), st.booleans()), max_size=15)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.booleans(), st.sampled_from([1, 2]))
def test_what_is_joined_and_grouped_is_the_table(tmp_path_factory, moves, envelope, parallelism):
    """At the end a table is what its events say, and so is every table made of it."""
    state, lines = {}, []
    for at, (number, city, full) in enumerate(moves):
        if city is None and number in state:
            before = state.pop(number)
            lines.append(event("d", before if full else {"id": number}, None, envelope=envelope))
        elif city is not None:
            after = row(number, city=city, at=at)
            lines.append(event("u" if number in state else "c", state.get(number), after, envelope=envelope))
            state[number] = after
    table = table_of(tmp_path_factory.mktemp("events"), lines)
    counted = table.group_by("city").count().collect(Config(parallelism=parallelism)).to_pylist()
    cities = [one["city"] for one in state.values()]
    assert {key[0]: one["count"] for key, one in applied(counted, ("city",)).items()} == {city: cities.count(city) for city in cities}
    assert applied(table.filter(col("city") != "x").collect().to_pylist()) == {
        (number,): one for number, one in state.items() if one["city"] != "x"
    }


BAD = [
    ('{"id": 1}', "it has no member op"),
    ("[1]", "not a JSON object"),
    ('{"op": "c", "after"', "not a JSON object"),
    (event("c"), "without a row after it"),
    (event("t"), "a truncate event"),
    (event("m"), "a message event"),
    (event("x", None, row(1)), "op 'x' is unknown"),
    (event("d"), "without a row"),
    ('{"schema": {}, "payload": null}', "the payload is null"),
    (event("c", None, {**row(1), "id": "one"}), "id"),
    (event("c", None, {"id": 1, "at": 1}), "name"),
    (event("d", {"name": "Ada"}), "id"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_bad_events_are_told(tmp_path, line, reason):
    lines = [event("c", None, row(1)), line, event("c", None, row(2))]
    letters = memory("letters")
    table = table_of(tmp_path, lines, errors=dead_letter(letters))
    out = memory("out")
    table.to_stream().to(out)
    table._topology.run()
    assert [one["id"] for one in out.rows()] == [1, 2]
    assert [(reason in one["error"], one["offset"], one["value"].decode()) for one in letters.rows()] == [(True, 1, line)]


def test_events_are_read_as_a_table_alone(tmp_path):
    source = files(tmp_path / "changes.jsonl", CUSTOMERS, format="debezium-json")
    with pytest.raises(TopologyError, match=r"are changes of a table, not rows\n.*topology.table"):
        Topology("t").stream(source)
    with pytest.raises(TopologyError, match="are changes of a table"):
        Topology("t").stream(kafka("customers", CUSTOMERS, format="debezium-json"))
    topology = Topology("t")
    rows = topology.stream(memory("rows", CUSTOMERS))
    with pytest.raises(TopologyError, match="change events are read only"):
        rows.to(kafka("out", format="debezium-json"))
    with pytest.raises(TopologyError, match="change events are read only"):
        rows.to(source)
    with pytest.raises(TopologyError, match="debezium-json"):
        files(tmp_path / "x.jsonl", CUSTOMERS, format="debezium")


def test_a_bound_file_stands_in_for_the_topic(tmp_path):
    path = tmp_path / "changes.jsonl"
    path.write_text(event("c", None, row(1)) + "\n" + event("d", row(1)) + "\n")
    topology = Topology("t")
    topology.table(kafka("customers", CUSTOMERS, format="debezium-json"), key="id", timestamp="at").to_stream().to(memory("out"))
    out = memory("out")
    topology.run(bind={"customers": files(path, CUSTOMERS, format="debezium-json"), "out": out})
    assert [one["op"] for one in out.rows()] == ["add", "withdraw"]
    with pytest.raises(TopologyError, match="are changes of a table"):
        other = Topology("u")
        other.stream(memory("rows", CUSTOMERS)).to(memory("out"))
        other.run(bind={"rows": files(path, CUSTOMERS, format="debezium-json")})


# Values of a topic, beside their keys --------------------------------------------------------------------------------------


def decoded(values, keys, *, format="json", schema=None, of=("id",), time=None):
    topic = kafka("t", schema or {"id": int, "city": str}, format=format).of_table(of, time)
    known = readable_fields(topic)
    columns = [*topic.schema.names, "_deleted"]
    found = decoder_of(topic, [known[name] for name in columns]).decode_keyed(values, keys)
    rows = found.rows.to_pylist()
    assert found.of is None or len(found.of) == len(rows)
    return rows, found.bad


def test_tombstones_of_a_compacted_topic_take_the_row_of_their_key_away():
    values = [b'{"id": 1, "city": "Lima"}', None, b"{", None, b'{"id": 3, "city": "Lima"}']
    rows, bad = decoded(values, [b"1", b"1", b"2", b"x", b"3"])
    assert [(one["id"], one["_deleted"]) for one in rows] == [(1, None), (1, True), (3, None)]
    assert set(bad) == {2, 3}


@pytest.mark.parametrize(
    ("key", "names", "expected"),
    [
        (b"a7", ("id",), {"id": "a7"}),
        (b"7", ("id",), {"id": 7}),
        (b'{"id": 7}', ("id",), {"id": 7}),
        (b'{"schema": {"fields": []}, "payload": {"id": 7, "more": 1}}', ("id",), {"id": 7}),
        (b'{"k": 7}', ("id",), {"id": 7}),
        (b'{"a": 1, "b": "x"}', ("a", "b"), {"a": 1, "b": "x"}),
        (None, ("id",), "without a key"),
        (b"\xff", ("id",), "not UTF-8"),
        (b'{"a": 1, "c": 2}', ("a", "b"), "has no b"),
        (b"7", ("a", "b"), "is not an object with a, b"),
        (b"\0\0\0\0\7\6abc", ("id",), "begins with a zero byte"),
        (b"[" * 100_000, ("a", "b"), "is not an object with a, b"),
        (b'{"id":' * 100_000, ("a", "b"), "is not an object with a, b"),
        (b"1" * 10_000, ("a", "b"), "is not an object with a, b"),
    ],
)
def test_keys_of_tombstones(key, names, expected):
    found = key_row(key, names)
    assert expected in found if isinstance(expected, str) else json.loads(found) == expected


def test_keys_of_text_stay_text():
    schema = {"id": str, "city": str}
    rows, bad = decoded([None, None, None], [b"7", b"a", b'"quoted"'], schema=schema)
    assert ([one["id"] for one in rows], bad) == (["7", "a", '"quoted"'], {})


def test_events_of_a_topic_and_the_tombstones_behind_them():
    values = [
        event("c", None, {"id": 1, "city": "Lima"}).encode(),
        event("d").encode(),
        None,
        b'{"schema": 1, "payload": null}',
    ]
    rows, bad = decoded(values, [b'{"id": 1}'] * 4, format="debezium-json")
    assert ([(one["id"], one["_deleted"]) for one in rows], bad) == ([(1, False), (1, True), (1, True), (1, True)], {})


def test_a_removal_without_time_has_that_of_the_record_before():
    schema = pa.schema([("id", pa.int64()), ("at", pa.timestamp("ms", tz="UTC")), ("x", pa.decimal128(9, 2)), ("l", pa.list_(pa.string()))])
    values = [None, b'{"id": 1, "at": 5, "x": "1.5", "l": ["a"]}', None]
    rows, _ = decoded(values, [b"1"] * 3, schema=schema, time="at")
    assert [one["at"].timestamp() for one in rows] == [0, 0.005, 0.005]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]":,\\ opaftercudp1', max_size=60).map(str.encode))
def test_whatever_stands_there_is_an_event_or_a_reason(value):
    what, found = row_of_event(value)
    assert isinstance(found, str) if what == "" else found is None or isinstance(found, bytes)
    if what and found is not None:
        assert found.startswith(b"{")
        assert found in value
