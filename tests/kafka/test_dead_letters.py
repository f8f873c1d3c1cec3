"""Records that cannot be decoded and rows that a function refuses: the run fails, skips them, or writes them to a topic of their own."""

from __future__ import annotations

import json
import time

import pytest

from streamdsl import DataError, Topology, UserCodeError, col, dead_letter, kafka
from tests.kafka.topics import consume_all, produce, wait_until_settled

SCHEMA = {"id": "int64", "account": "string | None", "amount": "float64 | None"}
#: What is wrong, and what is said of it.
BAD = {
    b"\x00\xff no JSON": "invalid UTF-8 at byte 1",
    b'{"id": "seven"}': "field 'id': 'seven' is not int64",
    b'{"id": 7, "amount"': "not valid JSON",
    b"[1, 2]": "not a JSON object",
    b"": "not a JSON object",
}


@pytest.fixture
def letters(source):
    return f"{source}-dead"


def good(number):
    return f"a{number % 7}", json.dumps({"id": number, "account": f"a{number % 7}", "amount": number / 4})


def copied(source, sink, errors, *, of_stream=False, **more):
    topology = Topology(f"job-{source}")
    described = kafka(source, SCHEMA, until="latest", **({} if of_stream else {"errors": errors}), **more)
    rows = topology.stream(described, name="in", errors=errors if of_stream else None)
    rows.to(kafka(sink, partitions=2, key="account"), name="out")
    return topology


def halved(source, sink, policy, *, selected=False, **more):
    """Rows through a function that refuses every fifth."""

    def half(row):
        if row.id % 5 == 3:
            raise ValueError(f"no half of {row.id}")
        return {"id": row.id, "amount": row.amount / 2}

    topology = Topology(f"job-{source}")
    rows = topology.stream(kafka(source, SCHEMA, until="latest", **more), name="in")
    if selected:
        rows = rows.select("id", "amount")
    rows.map(half, schema={"id": "int64", "amount": "float64"}, errors=policy).to(kafka(sink, partitions=2), name="out")
    return topology


def ids(broker, topic, isolation="read_committed"):
    return sorted(json.loads(record.value)["id"] for record in consume_all(broker.bootstrap, topic, isolation))


def told(record):
    """Return the headers of a dead letter without their prefix."""
    assert all(name.startswith("streamdsl.") for name, _ in record.headers)
    return {name.removeprefix("streamdsl."): value.decode() for name, value in record.headers}


@pytest.mark.parametrize("of_stream", [False, True])
def test_what_cannot_be_decoded_goes_on_as_it_came(broker, source, sink, letters, config, of_stream):
    produce(broker.bootstrap, source, [*map(good, range(50)), *((f"k{n}", raw) for n, raw in enumerate(BAD)), *map(good, range(50, 60))])
    run = copied(source, sink, dead_letter(kafka(letters, partitions=1)), of_stream=of_stream).run(config())
    assert run.finished
    assert ids(broker, sink) == list(range(60))
    came = {record.value: record for record in consume_all(broker.bootstrap, source)}
    found = consume_all(broker.bootstrap, letters)
    assert sorted(record.value for record in found) == sorted(BAD)
    for record in found:
        facts, origin = told(record), came[record.value]
        assert BAD[record.value] in facts.pop("error")
        assert facts == {"operator": "in", "topic": source, "partition": str(origin.partition), "offset": str(origin.offset)}
    assert sum(task.get("rejected", 0) for task in run.metrics()["tasks"]) == len(BAD)


@pytest.mark.parametrize("selected", [False, True])
def test_what_has_no_time_or_is_too_far_ahead_goes_on_as_it_came(broker, source, sink, letters, config, selected):
    """The same bytes and headers as of what cannot be decoded; whether columns are pruned makes no difference."""
    now = int(time.time() * 1000)
    record = lambda number, at: json.dumps({"id": number, "more": "é" * number, "at": at}, ensure_ascii=False, indent=1).encode()  # noqa: E731
    times = {3: None, 7: now + 86_400_000, 8: now + 10**12}
    records = [("a", record(n, times.get(n, now - 1000 + n))) for n in range(12)]
    produce(broker.bootstrap, source, [*records[:5], ("a", b"no JSON"), *records[5:]])
    topology = Topology(f"job-{source}")
    described = kafka(source, {"id": "int64", "more": "string | None", "at": "int64 | None"}, until="latest")
    rows = topology.stream(described, timestamp="at", max_ahead="1h", errors=dead_letter(kafka(letters, partitions=1)), name="in")
    (rows.select("id") if selected else rows).to(kafka(sink, partitions=1), name="out")
    topology.run(config())
    assert ids(broker, sink) == [n for n in range(12) if n not in times]
    came = {record.value: record for record in consume_all(broker.bootstrap, source)}
    found = consume_all(broker.bootstrap, letters)
    assert [letter.value for letter in found] == [record(3, None), b"no JSON", record(7, times[7]), record(8, times[8])]
    for letter, reason in zip(found, ["no event time", "not a JSON object", "max_ahead", "max_ahead"], strict=True):
        facts, origin = told(letter), came[letter.value]
        assert reason in facts.pop("error")
        assert facts == {"operator": "in", "topic": source, "partition": str(origin.partition), "offset": str(origin.offset)}


def test_a_null_is_told_as_such(broker, source, sink, letters, config):
    produce(broker.bootstrap, source, [good(1), ("a1", None), (None, b'{"id": 2}')])
    copied(source, sink, dead_letter(kafka(letters, partitions=1))).run(config())
    assert ids(broker, sink) == [1, 2]
    (record,) = consume_all(broker.bootstrap, letters)
    assert told(record)["error"] == "the value is null (a tombstone)"
    assert record.value is None


def test_what_is_too_long_is_cut_and_told(broker, source, sink, letters, config):
    long = b'{"id": 1, "account": "' + b"x" * 950_000
    produce(broker.bootstrap, source, [("k", long), ("k", long[:3000] + b'"}'), good(5)])
    copied(source, sink, dead_letter(kafka(letters, partitions=1)), max_record_bytes=2000).run(config())
    assert ids(broker, sink) == [5]
    first, second = consume_all(broker.bootstrap, letters)
    assert first.value == long[:900_000]
    assert told(first)["error"] == (
        f"the value is {len(long)} bytes long, the limit is 2000 (max_record_bytes); the first 900000 of its {len(long)} bytes are kept"
    )
    assert second.value == long[:3000] + b'"}'
    assert told(second)["error"] == "the value is 3002 bytes long, the limit is 2000 (max_record_bytes)"


@pytest.mark.parametrize("selected", [False, True])
def test_what_a_function_refuses_is_written_with_its_row(broker, source, sink, letters, config, selected):
    """Where a record came from is told although nobody has asked for those columns."""
    produce(broker.bootstrap, source, map(good, range(50)))
    came = {json.loads(record.value)["id"]: record for record in consume_all(broker.bootstrap, source)}
    run = halved(source, sink, dead_letter(kafka(letters, partitions=1)), selected=selected).run(config())
    refused = list(range(3, 50, 5))
    assert ids(broker, sink) == [n for n in range(50) if n not in refused]
    assert ids(broker, letters) == refused
    for record in consume_all(broker.bootstrap, letters):
        row, facts = json.loads(record.value), told(record)
        assert row["amount"] == row["id"] / 4
        assert facts.pop("error") == f"ValueError: no half of {row['id']}"
        assert "half" in facts.pop("operator")
        origin = came[row["id"]]
        assert facts == {"topic": source, "partition": str(origin.partition), "offset": str(origin.offset)}
    assert sum(figures.get("dead_letters", 0) for task in run.metrics()["tasks"] for figures in task["operators"].values()) == len(refused)


def test_a_dead_letter_is_not_seen_before_its_checkpoint(broker, source, sink, letters, config):
    produce(broker.bootstrap, source, [*map(good, range(20)), *((None, raw) for raw in BAD)])
    policy = dead_letter(kafka(letters, partitions=1))
    topology = Topology(f"job-{source}")
    topology.stream(kafka(source, SCHEMA, errors=policy)).to(kafka(sink, partitions=1))
    run = topology.start(config(checkpoint_interval="5m"))
    try:
        until = time.monotonic() + 20
        while len(consume_all(broker.bootstrap, letters, "read_uncommitted")) < len(BAD):
            assert time.monotonic() < until, "no dead letters"
            time.sleep(0.05)
        assert consume_all(broker.bootstrap, letters) == []
    finally:
        run.abandon()
    wait_until_settled(broker.bootstrap, letters)
    assert consume_all(broker.bootstrap, letters) == []


def test_each_once_however_often_the_run_is_left(broker, source, sink, letters, config):
    """Both kinds of dead letters, through one topic, by runs that end at once in the middle."""
    count = 6000
    produce(broker.bootstrap, source, ((f"k{n}", f"bad {n}") if n % 4 == 1 else good(n) for n in range(count)))
    policy = dead_letter(kafka(letters, partitions=2))
    for lives in range(5):
        run = halved(source, sink, policy, errors=policy, rate=1500.0).start(config(checkpoint_interval="20ms"))
        time.sleep(0.25 + 0.04 * lives)
        run.abandon()
    assert halved(source, sink, policy, errors=policy).run(config()).finished
    decoded = [n for n in range(count) if n % 4 != 1]
    assert ids(broker, sink) == [n for n in decoded if n % 5 != 3]
    found = [record.value.decode() for record in consume_all(broker.bootstrap, letters)]
    assert sorted(text for text in found if text.startswith("bad")) == sorted(f"bad {n}" for n in range(count) if n % 4 == 1)
    assert sorted(json.loads(text)["id"] for text in found if not text.startswith("bad")) == [n for n in decoded if n % 5 == 3]
    for topic in (sink, letters):
        wait_until_settled(broker.bootstrap, topic)


def test_a_failure_names_the_record_and_does_not_pass_it(broker, source, sink, config):
    produce(broker.bootstrap, source, [{"key": "k", "value": good(n)[1], "partition": 1} for n in range(40)])
    produce(broker.bootstrap, source, [{"key": "k", "value": b'{"id": "seven"}', "partition": 1}])
    produce(broker.bootstrap, source, [{"key": "k", "value": good(n)[1], "partition": 1} for n in range(41, 60)])
    for _ in range(2):
        with pytest.raises(DataError) as refused:
            copied(source, sink, "fail", rate=200.0).run(config(checkpoint_interval="20ms"))
        known = refused.value.context
        assert {name: known[name] for name in ("operator", "topic", "partition", "offset", "field")} == {
            "operator": "in",
            "topic": source,
            "partition": 1,
            "offset": 40,
            "field": "id",
        }
        text = str(refused.value)
        assert all(part in text for part in ("in", source, "partition", "1", "offset", "40", "'seven' is not int64", 'errors="skip"'))
    # What was committed stays, and what follows it comes once the record is let pass.
    assert copied(source, sink, "skip").run(config()).finished
    assert ids(broker, sink) == [*range(40), *range(41, 60)]


def test_a_function_that_fails_names_the_record(broker, source, sink, config):
    produce(broker.bootstrap, source, map(good, range(3, 4)))
    (origin,) = consume_all(broker.bootstrap, source)
    with pytest.raises(UserCodeError, match="no half of 3") as refused:
        halved(source, sink, "fail").run(config())
    known = refused.value.context
    assert (known["topic"], known["partition"], known["offset"]) == (source, origin.partition, 0)
    assert 'errors="skip" or errors=dead_letter(sink)' in str(refused.value)


def test_what_is_skipped_is_counted(broker, source, sink, config):
    produce(broker.bootstrap, source, [*map(good, range(20)), *((f"k{n}", raw) for n, raw in enumerate(BAD))])
    run = copied(source, sink, "skip").run(config())
    assert ids(broker, sink) == list(range(20))
    assert sum(task.get("rejected", 0) for task in run.metrics()["tasks"]) == len(BAD)


def test_dead_letters_of_an_at_least_once_topic_come_at_once(broker, source, sink, letters, config):
    produce(broker.bootstrap, source, [good(1), *((None, raw) for raw in BAD)])
    policy = dead_letter(kafka(letters, partitions=1, delivery="at_least_once"))
    topology = Topology(f"job-{source}")
    rows = topology.stream(kafka(source, SCHEMA, errors=policy))
    rows.filter(col("id") > 0).to(kafka(sink, partitions=1))
    run = topology.start(config(checkpoint_interval="5m"))
    try:
        until = time.monotonic() + 20
        while len(consume_all(broker.bootstrap, letters)) < len(BAD):
            assert time.monotonic() < until, "no dead letters"
            time.sleep(0.05)
    finally:
        run.abandon()
