"""Topics that this library and Flink both read: change events of Debezium, a job that moves there and back, one with a savepoint."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamdsl import Config, Stream, Table, Topology, col, count, kafka, lit, when
from streamdsl.cli.flink_offsets import offsets_of
from streamdsl.flink.gateway import Gateway
from tests.flink.compare import alike
from tests.kafka.broker import Broker
from tests.kafka.topics import consume_all, create_topic, produce

__all__ = ["check_changes", "check_metadata", "check_moved", "check_savepoint"]

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


def check_metadata(gateway_url: str, broker: Broker) -> int:
    """Write records with headers, to topics that rows name, here and on Flink; return how many."""
    create_topic(broker.bootstrap, "apart-in", 1)
    rows = [{"i": i, "k": None if i % 5 == 0 else f"schlüssel {i}", "b": i % 2} for i in range(60)]
    produce(broker.bootstrap, "apart-in", [{"value": json.dumps(row), "timestamp": _START + row["i"]} for row in rows])
    found = []
    for side in ("here", "there"):
        for name in ("odd", "even", "none"):
            create_topic(broker.bootstrap, f"{side}-{name}", 2)
        topology = Topology(f"apart-{side}")
        source = kafka("apart-in", {"i": int, "k": str | None, "b": int}, broker=broker.bootstrap, until="latest", idle_timeout=None)
        place = when(col("i") == 7).then(None).when(col("b") == 1).then(lit(f"{side}-odd")).otherwise(lit(f"{side}-even"))
        sink = kafka(f"{side}-none", broker=broker.bootstrap, headers=("k", "b"), topic_from="place", key="i", timestamps="arrival")
        topology.stream(source, name="rows").select("i", "k", "b", place=place).to(sink, name="out")
        if side == "here":
            topology.run(Config(broker=broker.bootstrap, state_backend="memory"))
        else:
            with Gateway(gateway_url) as gateway:
                gateway.wait(gateway.submit(topology.to_flink()), timeout_s=180)
        found.append(
            [
                {
                    "topic": name,
                    "key": record.key,
                    "value": json.loads(record.value or b""),
                    # Flink leaves out those without a value.
                    "headers": {header: value for header, value in record.headers if value is not None},
                }
                for name in ("odd", "even", "none")
                for record in consume_all(broker.bootstrap, f"{side}-{name}")
            ]
        )
    alike(*found)
    assert len(found[0]) == len(rows)
    return len(rows)


APP = """
from streamdsl import Topology, kafka
topology = Topology("first-ones")
rows = topology.stream(kafka("seen-in", {{"k": str, "i": int}}, broker={broker!r}, idle_timeout=None), name="rows")
rows.key_by("k").deduplicate().select("k").to(kafka("seen-out", broker={broker!r}, timestamps="arrival"), name="out")
"""


def check_savepoint(gateway_url: str, broker: Broker, directory: Path, most: int = 100) -> int:
    """Stop a job with a savepoint, and go on from it by the command: it knows the keys that it has seen, and where it was."""
    for topic in ("seen-in", "seen-out"):
        create_topic(broker.bootstrap, topic, 3)
    module = directory / "first_ones.py"
    module.write_text(APP.format(broker=broker.bootstrap))

    def more(count: int) -> None:
        values = ({"k": f"k{i}", "i": i} for i in range(count))
        produce(broker.bootstrap, "seen-in", [{"key": value["k"], "value": json.dumps(value), "timestamp": _START} for value in values])

    def submitted(*more: str) -> str:
        command = [sys.executable, "-m", "streamdsl", "-A", f"{module}:topology", "flink", "--submit", gateway_url, "--detach", *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition(": job ")[2].partition(" ")[0]

    more(most // 2)
    job = submitted()
    _until(lambda: len(_seen(broker)) == most // 2)
    with Gateway(gateway_url) as gateway:
        ((savepoint,),) = gateway.rows(f"STOP JOB '{job}' WITH SAVEPOINT")
        more(most)
        job = submitted("--savepoint", savepoint)
        _until(lambda: len(_seen(broker)) >= most)
        gateway.rows(f"STOP JOB '{job}'")
    alike([{"k": f"k{i}"} for i in range(most)], _seen(broker))
    return most


def _seen(broker: Broker) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in consume_all(broker.bootstrap, "seen-out")]


def _until(there: Callable[[], bool], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not there():
        assert time.monotonic() < end, "the rows do not come"
        time.sleep(1)
