"""Rows that cannot become records, and records that cannot be read: each by itself is a matter of `errors=`, and its neighbours go on."""

from __future__ import annotations

import json
import random
import time

import pytest

from streamdsl import Config, DataError, StreamError, Topology, dead_letter, kafka, memory
from tests.kafka.topics import consume_all, create_topic, delete_topic, produce

SCHEMA = {"id": int, "pad": str, "to": str | None}


@pytest.fixture
def sink(broker, topic_name):
    return create_topic(broker.bootstrap, topic_name, 1)


def write(broker, sink, rows, **options):
    """Write rows to a topic; return the run's figures of the sink."""
    topology = Topology(f"job-{sink}")
    target = kafka(sink, **{"delivery": "at_least_once"} | options)
    topology.stream(memory("in", SCHEMA, rows), name="in").to(target, name="out", errors="skip")
    run = topology.start(Config(broker=broker.bootstrap))
    assert run.wait(60)
    return next(figures["out"] for task in run.metrics()["tasks"] if "out" in (figures := task["operators"]))


def row(number, size=10, to=None):
    return {"id": number, "pad": "x" * size, "to": to}


def ids(broker, topic):
    return [json.loads(record.value)["id"] for record in consume_all(broker.bootstrap, topic)]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("limit", ["client", "topic"])
def test_a_row_that_is_too_large_is_skipped_by_itself(broker, topic_name, delivery, limit):
    sink = create_topic(broker.bootstrap, topic_name, 1, **({"max_message_bytes": "5000"} if limit == "topic" else {}))
    size = 6_000 if limit == "topic" else 1_100_000
    figures = write(broker, sink, [row(n, size if n in (3, 7) else 10) for n in range(10)], delivery=delivery)
    assert ids(broker, sink) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert figures["errors"] == 2 and figures["written"] == 8


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_rows_that_fit_one_by_one_are_not_refused_together(broker, topic_name, delivery, compression):
    """Up to the last byte that the topic takes; the client would send them in one batch, which the topic refuses for good."""
    sink = create_topic(broker.bootstrap, topic_name, 1, max_message_bytes="2000")
    sizes = [*range(200, 1_700, 100), *range(1_800, 2_000)]
    pads = random.Random(7)
    rows = [{"id": size, "pad": "".join(pads.choices("0123456789abcdef", k=size)), "to": None} for size in sizes]
    figures = write(broker, sink, rows, delivery=delivery, options={"compression.type": compression})
    written = ids(broker, sink)
    assert written == sizes[: len(written)] and figures["errors"] == len(sizes) - len(written)
    # Beside the pad: the batch and the record, 70, and what JSON adds, 30.
    assert max(written) == (2_000 - 100 if compression == "none" else sizes[-1])


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_topic_that_rows_name_has_limits_of_its_own(broker, sink, tmp_path, delivery):
    other = create_topic(broker.bootstrap, f"{sink}-other", 1, max_message_bytes="500")
    source = create_topic(broker.bootstrap, f"{sink}-in", 1)
    rows = [row(n, 1_000 if n == 50 else 100, to=other if n % 2 == 0 else None) for n in range(200)]
    produce(broker.bootstrap, source, map(json.dumps, rows))
    topology = Topology(f"job-{sink}")
    target = kafka(sink, topic_from="to", delivery=delivery)
    topology.stream(kafka(source, SCHEMA, until="latest"), name="in").to(target, name="out", errors="skip")
    run = topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="50ms"))
    assert run.wait(60)
    assert ids(broker, other) == [n for n in range(0, 200, 2) if n != 50] and ids(broker, sink) == list(range(1, 200, 2))


def test_a_topic_that_rows_name_may_go(broker, sink, topic_name, tmp_path):
    other = create_topic(broker.bootstrap, f"{sink}-other", 1)
    source = create_topic(broker.bootstrap, f"{sink}-in", 1)
    topology = Topology(f"job-{sink}")
    topology.stream(kafka(source, SCHEMA), name="in").to(kafka(sink, topic_from="to"), name="out", errors="skip")
    run = topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="50ms"))
    try:
        until = time.monotonic() + 60
        produce(broker.bootstrap, source, [json.dumps(row(n, to=other)) for n in range(5)])
        while ids(broker, other) != list(range(5)):
            assert time.monotonic() < until
        delete_topic(broker.bootstrap, other)
        produce(broker.bootstrap, source, [json.dumps(row(n, to=other if n % 2 else None)) for n in range(5, 10)])
        while ids(broker, sink) != [6, 8]:
            assert time.monotonic() < until and not run._done.is_set()
            time.sleep(0.1)
        run.stop()
        assert run.wait(30)
    finally:
        run.abandon()


def test_what_is_too_large_ends_the_run_without_a_policy_and_is_named(broker, sink):
    topology = Topology(f"job-{sink}")
    topology.stream(memory("in", SCHEMA, [row(1), row(2, 1_100_000)]), name="in").to(kafka(sink), name="out")
    with pytest.raises(DataError, match=r"bytes, 1000000 are allowed \(operator=out\)") as told:
        topology.run(Config(broker=broker.bootstrap))
    assert told.value.remedy


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_row_that_names_a_topic_that_refuses_is_skipped_by_itself(broker, sink, delivery):
    other = create_topic(broker.bootstrap, f"{sink}-other")
    names = [None, other, "no-such-topic-anywhere", "__consumer_offsets", "streamdsl.x.commits", "a b", other, None]
    names += ["", ".", "..", "x" * 250, "a/b", "ünder", "a\0b", " "]
    figures = write(broker, sink, [row(n, to=name) for n, name in enumerate(names)], topic_from="to", delivery=delivery)
    assert ids(broker, sink) == [0, 7] and ids(broker, other) == [1, 6]
    assert figures["errors"] == 12


def test_batches_of_arrow_are_written_in_pieces_that_fit(broker, sink):
    figures = write(broker, sink, [row(n, 20_000) for n in range(200)], format="arrow")
    assert figures["written"] == 200
    topology, out = Topology("back"), memory("out")
    topology.stream(kafka(sink, SCHEMA, format="arrow", until="latest"), name="in").to(out)
    topology.run(Config(broker=broker.bootstrap))
    assert [one["id"] for one in out.rows()] == list(range(200))


def test_a_header_that_is_no_text_is_a_bad_record(broker, sink, topic_name):
    produce(broker.bootstrap, sink, [{"value": '{"id": 1}'}])
    produce_raw(broker, sink, b'{"id": 2}', b"\xff\xfe")
    produce(broker.bootstrap, sink, [{"value": '{"id": 3}', "headers": [("a", b"1")]}])
    letters = create_topic(broker.bootstrap, f"{topic_name}-dead")
    topology, out = Topology(f"job-{sink}"), memory("out")
    source = kafka(sink, {"id": int}, until="latest", errors=dead_letter(kafka(letters), name="dead"))
    topology.stream(source, name="in").select("id", "_headers").to(out)
    topology.run(Config(broker=broker.bootstrap))
    assert [one["id"] for one in out.rows()] == [1, 3]
    [letter] = consume_all(broker.bootstrap, letters)
    assert letter.value == b'{"id": 2}' and "header" in dict(letter.headers)["streamdsl.error"].decode()


def produce_raw(broker, topic, value, name):
    """Write a record with a header's name of any bytes: only Java's client of ours would, and librdkafka by its C interface."""
    import ctypes
    import glob
    import os

    import confluent_kafka

    [path] = glob.glob(os.path.join(os.path.dirname(confluent_kafka.__file__), "..", "confluent_kafka.libs", "librdkafka*"))
    library = ctypes.CDLL(path)
    for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, function).restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(512)
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(settings, b"bootstrap.servers", broker.bootstrap.encode(), error, 512)
    client = ctypes.c_void_p(library.rd_kafka_new(0, settings, error, 512))
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(1))
    library.rd_kafka_header_add(headers, name, ctypes.c_ssize_t(len(name)), b"v", ctypes.c_ssize_t(1))
    TOPIC, VALUE, HEADERS, FLAGS, END = 1, 4, 10, 7, 0  # rd_kafka_vtype_t
    failed = library.rd_kafka_producev(
        client, TOPIC, topic.encode(), VALUE, value, ctypes.c_size_t(len(value)), FLAGS, 2, HEADERS, headers, END
    )
    assert failed == 0, failed
    assert library.rd_kafka_flush(client, 10_000) == 0
    library.rd_kafka_destroy(client)


def test_a_policy_is_needed_to_go_on(broker, sink):
    produce_raw(broker, sink, b'{"id": 2}', b"\xff")
    topology = Topology(f"job-{sink}")
    topology.stream(kafka(sink, {"id": int}, until="latest"), name="in").select("id", "_headers").to(memory("out"))
    with pytest.raises(StreamError, match="name of a header is not UTF-8"):
        topology.run(Config(broker=broker.bootstrap))


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_row_that_is_too_old_or_has_no_key_is_skipped_by_itself(broker, topic_name, delivery):
    """The broker would refuse its batch, and each after a new start."""
    old = create_topic(broker.bootstrap, f"{topic_name}-old", 1, message_timestamp_before_max_ms="3600000")
    compacted = create_topic(broker.bootstrap, f"{topic_name}-compacted", 1, cleanup_policy="compact")
    now = int(time.time() * 1000)
    # Behind by so many seconds: none is close to the hour, and the key is null of every third.
    rows = [{"id": n, "at": now - 1000 * back, "key": "k" if n % 3 else None} for n, back in enumerate((0, 60, 7_200, 1_800, 86_400, 5))]
    topology = Topology(f"job-{topic_name}")
    stream = topology.stream(memory("in", {"id": int, "at": int, "key": str | None}, rows), timestamp="at", name="in")
    stream.to(kafka(old, delivery=delivery), name="old", errors="skip")
    stream.to(kafka(compacted, key="key", delivery=delivery), name="compacted", errors="skip")
    assert topology.run(Config(broker=broker.bootstrap)).finished
    assert ids(broker, old) == [0, 1, 3, 5] and ids(broker, compacted) == [1, 2, 4, 5]


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_dead_letters_for_a_compacted_topic_end_the_run_and_say_why(broker, topic_name, policy):
    source = create_topic(broker.bootstrap, topic_name, 1)
    letters = create_topic(broker.bootstrap, f"{topic_name}-dead", 1, cleanup_policy=policy)
    produce(broker.bootstrap, source, ["bad"])
    topology = Topology(f"job-{topic_name}")
    described = kafka(source, {"id": int}, until="latest", errors=dead_letter(kafka(letters)))
    topology.stream(described, name="in").to(memory("out"), name="out")
    with pytest.raises(DataError, match="the topic is compacted, and the record has no key") as told:
        topology.run(Config(broker=broker.bootstrap))
    assert "cleanup.policy=delete" in str(told.value)
