"""Topics that this library and Flink both read: change events of Debezium, and a job that moves there and back."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from streamdsl import Config, Stream, Table, Topology, col, count, kafka
from streamdsl.cli.flink_offsets import offsets_of
from streamdsl.flink.gateway import Gateway
from tests.flink.compare import alike
from tests.kafka.broker import Broker
from tests.kafka.topics import consume_all, create_topic, produce

__all__ = ["check_changes", "check_moved"]

_CUSTOMER = {"id": int, "city": str, "n": int | None}
_START = 1_700_000_000_000


def check_changes(gateway_url: str, broker: Broker) -> int:
    """Compare a table of change events, and aggregates of it; return how many rows the two have."""
    topic = create_topic(broker.bootstrap, "changes", 3)
    produce(broker.bootstrap, topic, _events(random.Random(7)))
    count_ = 0
    for name, build in (("rows", lambda table: table.filter(col("n") > 2)), ("cities", _cities)):
        topology = Topology(f"changes-{name}")
        source = kafka(topic, _CUSTOMER, format="debezium-json", broker=broker.bootstrap, until="latest", idle_timeout=None)
        table = build(topology.table(source, key="id", name="customers"))
        here = _last(table, broker)
        table.to(kafka("out", broker=broker.bootstrap), name="out")
        job = topology.to_flink()
        query = next(one for one in job.statements if one.kind == "insert").text.partition("\n")[2]
        with Gateway(gateway_url) as gateway:
            for statement in job.statements:
                if statement.kind in ("set", "view", "table"):
                    gateway.run(statement)
            alike(here, gateway.table(query, table.keys))
        count_ += len(here)
    return count_


def _cities(table: Table) -> Table:
    return table.group_by("city").aggregate(customers=count(), n=col("n").sum(), most=col("n").max())


def _events(rnd: random.Random) -> list[dict[str, Any]]:
    """Customers that come, move and go; some events come twice, as after a failure of the connector."""
    known: dict[int, dict[str, Any]] = {}
    found: list[dict[str, Any]] = []
    for number in range(300):
        key = rnd.randrange(40)
        row = {"id": key, "city": rnd.choice(["Köln", "東京", "Lima"]), "n": rnd.choice([None, *range(9)])}
        before = known.get(key)
        what = "c" if before is None else rnd.choice(["u", "u", "d"])
        after = None if what == "d" else row
        event = {"op": what, "before": before, "after": after, "ts_ms": _START + number}
        record = {"key": json.dumps({"id": key}), "value": json.dumps(event), "timestamp": _START + number}
        found += [record] * (2 if number % 10 == 0 and what != "d" else 1)
        if what == "d":
            found.append({"key": record["key"], "value": None, "timestamp": _START + number})
            del known[key]
        else:
            known[key] = row
    return found


def _last(table: Table, broker: Broker) -> list[dict[str, Any]]:
    last: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in table.collect(Config(broker=broker.bootstrap, state_backend="memory")).to_pylist():
        key = tuple(row[name] for name in table.keys)
        last.pop(key, None)
        if row.pop("op") != "withdraw":
            last[key] = row
    return list(last.values())


def _moving(name: str, broker: Broker, start: int | str) -> Topology:
    topology = Topology(name)
    source = kafka("moving-in", {"i": int, "k": str}, broker=broker.bootstrap, until="latest", start=start, idle_timeout=None)
    numbers: Stream = topology.stream(source, name="numbers")
    numbers.filter(col("i") % 3 != 0).select("k", twice=col("i") * 2).to(kafka("moving-out", broker=broker.bootstrap), name="out")
    return topology


def check_moved(gateway_url: str, broker: Broker, directory: Path, most: int = 900) -> int:
    """Run a third here, the next one on Flink from the offsets of the checkpoint, the last one here again; return the rows."""
    for topic in ("moving-in", "moving-out"):
        create_topic(broker.bootstrap, topic, 3)
    third = most // 3

    def more(begin: int) -> None:
        values = (({"i": i, "k": f"k{i % 17}"}, i) for i in range(begin, begin + third))
        records = [{"key": value["k"], "value": json.dumps(value), "timestamp": _START + i * 1000} for value, i in values]
        produce(broker.bootstrap, "moving-in", records)

    more(0)
    topology = _moving("moving", broker, "earliest")
    topology.run(Config(broker=broker.bootstrap, state_dir=directory / "moving"))
    assert len(_moved(broker)) == len(_wanted(third))
    more(third)
    job = topology.to_flink(offsets=offsets_of(topology, directory / "moving"))
    with Gateway(gateway_url) as gateway:
        gateway.wait(gateway.submit(job), timeout_s=300)
    assert len(_moved(broker)) == len(_wanted(2 * third))
    more(2 * third)
    _moving("moved-back", broker, _START + 2 * third * 1000).run(Config(broker=broker.bootstrap, state_dir=directory / "back"))
    alike(_wanted(most), _moved(broker))
    return len(_wanted(most))


def _wanted(most: int) -> list[dict[str, Any]]:
    return [{"k": f"k{i % 17}", "twice": 2 * i} for i in range(most) if i % 3]


def _moved(broker: Broker) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in consume_all(broker.bootstrap, "moving-out")]
