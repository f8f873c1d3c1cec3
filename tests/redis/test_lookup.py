"""Rows that are looked up in Redis while the stream goes on."""

from __future__ import annotations

import datetime
import decimal

import pytest

from streamdsl import Config, ConnectorError, StreamError, Topology, TopologyError, dead_letter, memory, redis

KEYS = [{"n": i, "customer": f"c{i % 6}", "country": "CL"} for i in range(200)]
CUSTOMER = {"segment": "str | None", "limit": float}
WIDE = {
    "t": str,
    "i": int,
    "f": float,
    "ok": bool,
    "at": datetime.datetime,
    "day": datetime.date,
    "d": decimal.Decimal,
    "b": bytes,
    "l": list[int],
    "gone": "str | None",
}


def joined(lookup, on="customer", rows=KEYS, **options):
    topology = Topology("orders")
    out = memory("out")
    schema = {"n": int, "customer": str, "country": str}
    orders = topology.stream(memory("orders", schema, rows))
    orders.join_lookup(lookup, on=on, **options).to(out, name="out")
    topology.run(Config())
    return sorted(out.rows(), key=lambda row: row["n"])


@pytest.fixture
def customers(server):
    client = server.client()
    for i in range(4):
        client.hset(f"customer:c{i}", mapping={"segment": f"s{i}", "limit": i * 1.5, "other": "x"})
    return client


@pytest.mark.parametrize("options", [{}, {"cache_ttl": "1h"}, {"ordered": False}, {"capacity": 1}])
def test_fields_of_a_hash_are_added(server, customers, options):
    for row in joined(redis(server.url, "customer:{customer}", schema=CUSTOMER), **options):
        number = row["n"] % 6
        assert (row["segment"], row["limit"]) == ((f"s{number}", number * 1.5) if number < 4 else (None, None))


def test_json_of_several_columns_under_other_names(server):
    server.client().set("x:CL/c1", '{"segment": "a", "limit": 7, "more": [1]}')
    found = joined(redis(server.url, "x:{country}/{customer}", kind="string", schema=CUSTOMER), on=["customer", "country"], on_miss="drop")
    assert {(row["customer"], row["segment"], row["limit"]) for row in found} == {("c1", "a", 7.0)}
    renamed = joined(redis(server.url, "x:{a}/{b}", kind="string", schema=CUSTOMER), on=["country", "customer"], on_miss="drop")
    assert renamed == found


def test_what_the_sink_has_written_is_found_as_it_was(server):
    values = {
        "t": "ñ",
        "i": -(2**60),
        "f": 0.1,
        "ok": True,
        "at": datetime.datetime(2024, 5, 1, 2, 3, 4, tzinfo=datetime.UTC),
        "day": datetime.date(2024, 5, 1),
        "d": decimal.Decimal("12345.678900"),
        "b": b"\x00\xff",
        "l": [1, 2],
        "gone": None,
    }
    kept = memory("kept", {"customer": str, **WIDE}, [{"customer": "c1", **values}])
    for kind in ("hash", "string"):
        topology = Topology("writes")
        topology.stream(kept).to(redis(server.url, f"{kind}:{{customer}}", kind=kind))
        topology.run()
        (row,) = joined(redis(server.url, f"{kind}:{{customer}}", kind=kind, schema=WIDE), rows=KEYS[1:2])
        assert {name: row[name] for name in WIDE} == values, kind


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hash", {"segment": "a", "limit": "much"}, "'limit'.*much"),
        ("hash", {"segment": "a"}, "'limit' is missing"),
        ("text", "[1]", "no JSON"),
    ],
)
def test_what_is_no_row_is_a_matter_of_errors(server, customers, key, value, words):
    if key == "hash":
        customers.delete("customer:c1")
        customers.hset("customer:c1", mapping=value)
        lookup = redis(server.url, "customer:{customer}", schema=CUSTOMER)
    else:
        customers.set("j:c1", value)
        lookup = redis(server.url, "j:{customer}", kind="string", schema=CUSTOMER)
    with pytest.raises(StreamError, match=words):
        joined(lookup, retry=0)
    bad = memory("bad")
    good = joined(lookup, retry=0, errors=dead_letter(bad))
    assert len(bad.rows()) == sum(row["customer"] == "c1" for row in KEYS) and len(good) + len(bad.rows()) == len(KEYS)


def test_another_kind_under_the_key_is_said(server, customers):
    customers.set("customer:c1", "text")
    with pytest.raises(StreamError, match="WRONGTYPE"):
        joined(redis(server.url, "customer:{customer}", schema=CUSTOMER), retry=0)


def test_a_wrong_password_ends_the_start(server):
    with pytest.raises(ConnectorError, match="password") as failed:
        joined(redis(server.url.replace("//:", "//:wrong"), "c:{customer}", schema=CUSTOMER))
    assert server.url not in str(failed.value)


def test_what_cannot_be_asked_is_refused():
    for lookup, words in [
        (redis("redis://h", "c:{customer}"), "needs schema="),
        (redis("redis://h", "c", kind="stream", schema=CUSTOMER), "no row of a key"),
        (redis("redis://h", "c:{a}:{b}", schema=CUSTOMER), "as many, in the same order"),
    ]:
        with pytest.raises(TopologyError, match=words):
            joined(lookup)
