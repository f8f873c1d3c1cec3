"""Topologies that are compared: the fraud example, and what the guide shows of windows, frames, joins and tables."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pa_csv

from examples.fraud import data
from examples.fraud.records import Transaction
from examples.fraud.rules import amount_anomaly, impossible_travel, velocity
from streamdsl import Stream, Table, Topology, col, count, expanding, hopping, lit, memory, rolling, session, tumbling
from tests.flink.compare import written_json

__all__ = ["CHAINS", "LATE", "STREAMS", "TABLES", "fraud", "inputs", "late", "shuffled", "streams", "transactions"]

_ORDERS: Final = pa.schema(
    [
        *(
            pa.field(name, type_, nullable=False)
            for name, type_ in (("id", pa.int64()), ("k", pa.string()), ("v", pa.int64()), ("at", pa.int64()))
        ),
        ("z", pa.int64()),
        ("y", pa.float64()),
        ("n", pa.string()),
    ]
)
_PAYMENTS: Final = {"id2": int, "k": str, "w": float, "when": int}
_START: Final = 1_700_000_000_000


def inputs(directory: Path, count_: int = 300) -> dict[str, Path]:
    """Write two files of rows in the order of their times, and return them by their sources."""
    rnd = random.Random(3)
    orders = [{"id": i, "k": rnd.choice("abcd"), "v": rnd.randrange(100), "at": _START + i * 137} for i in range(count_)]
    for order in orders:  # half of them are missing
        order |= {
            "z": rnd.choice([None, rnd.randrange(9)]),
            "y": rnd.choice([None, rnd.randrange(9) / 4]),
            "n": rnd.choice([None, "", "x", "=y"]),
        }
    payments = [
        {"id2": i, "k": rnd.choice("abcd"), "w": rnd.randrange(1000) / 8, "when": _START + i * 171 + 1} for i in range(count_ * 2 // 3)
    ]
    return {"a": written_json(directory / "a.jsonl", orders), "b": written_json(directory / "b.jsonl", payments)}


def shuffled(source: Path) -> Path:
    """Move rows of a file by up to forty places, and return another one."""
    rnd = random.Random(5)
    lines = source.read_text().splitlines()
    places = sorted(range(len(lines)), key=lambda place: place + rnd.random() * 40)
    found = source.with_name(f"shuffled-{source.name}")
    found.write_text("".join(f"{lines[place]}\n" for place in places))
    return found


def late(topology: Topology) -> Stream:
    """Read a shuffled file, of which a part is late."""
    return topology.stream(memory("a", schema=_ORDERS), timestamp="at", disorder="500ms")


def streams(topology: Topology) -> tuple[Stream, Stream]:
    """Read both files."""
    a = topology.stream(memory("a", schema=_ORDERS), timestamp="at", disorder="2s")
    return a, topology.stream(memory("b", schema=_PAYMENTS), timestamp="when", disorder="2s")


STREAMS: Final[dict[str, Callable[[Stream, Stream], Stream]]] = {
    "interval": lambda a, b: a.join(b, on="k", within="1s", name="interval"),
    "interval_left": lambda a, b: a.join(b, on="k", how="left", before="100ms", after="0s", name="interval_left"),
    "interval_right": lambda a, b: a.join(b, on="k", how="right", before="0s", after="50ms", name="interval_right"),
    "interval_outer": lambda a, b: a.join(b, on="k", how="outer", within="60ms", name="interval_outer"),
    "window_behind_a_join": lambda a, b: (
        a.join(b, on="k", before="0s", after="2s", name="window_behind_a_join")
        .key_by("k")
        .window(tumbling("5s"))
        .aggregate(n=count(), s=col("v").sum())
    ),
    "whenever": lambda a, b: a.filter(col("v") > 90).join(b.filter(col("w") > 100), on="k", within=None, name="whenever"),
    "asof": lambda a, b: a.join_asof(b, by="k", name="asof"),
    "asof_inner": lambda a, b: a.join_asof(b, by="k", tolerance="200ms", how="inner", name="asof_inner"),
    "asof_near": lambda a, b: a.join_asof(b, by="k", tolerance="200ms", name="asof_near"),
    "first_of_each": lambda a, b: a.key_by("k", "v").deduplicate().select("k", "v"),
    "hopping": lambda a, b: (
        a.key_by("k")
        .window(hopping("10s", "2s"))
        .aggregate(n=count(), m=col("v").mean(), most=col("v").max(), u=col("v").n_unique(), big=count().filter(col("v") > 50))
    ),
    "everything": lambda a, b: (
        a.key_by()
        .window(tumbling("5s"))
        .aggregate(n=count(), f=col("id").first(), l=col("id").last(), s=col("v").std(), p=col("v").var(ddof=0), t=col("v").sum())
    ),
    "sessions": lambda a, b: a.filter(col("v") < 30).key_by("k").window(session("1s")).aggregate(n=count(), s=col("v").sum()),
    "window_of_windows": lambda a, b: (
        a.key_by("k")
        .window(tumbling("1s"))
        .aggregate(n=count(), name="seconds")
        .key_by("k")
        .window(tumbling("5s"))
        .aggregate(m=col("n").max())
    ),
    "frames": lambda a, b: a.key_by("k").with_columns(
        n=count().over(rolling("3s")),
        s=col("v").sum().over(rolling("3s")),
        most=col("v").max().over(rolling("1s")),
        e=col("v").mean().over(expanding()),
        sd=col("v").std().over(expanding()),
        p=col("v").lag(3),
        before=count().over(rolling("3s", exclude_current=True)),
        first=col("v").first().over(expanding()),
        earlier=col("v").sum().over(expanding(exclude_current=True)),
        u=col("v").n_unique().over(expanding()),
        big=count().filter(col("v") > 50).over(expanding()),
    ),
    "nulls_in_windows": lambda a, b: (
        a.key_by("k")
        .window(tumbling("2s"))
        .aggregate(
            c=col("z").count(),
            s=col("z").sum(),
            m=col("z").mean(),
            f=col("z").first(),
            l=col("n").last(),
            u=col("z").n_unique(),
            least=col("y").min(),
            t=col("y").sum(),
            e=col("y").mean(),
            d=col("y").std(),
            some=col("z").sum().filter(col("z") > 100),
        )
    ),
    "nulls_in_frames": lambda a, b: a.key_by("k").with_columns(
        c=col("z").count().over(expanding()),
        s=col("z").sum().over(rolling("1s")),
        m=col("z").mean().over(rolling("1s")),
        f=col("n").first().over(expanding()),
        p=col("n").lag(),
        q=col("z").lag(2),
        e=col("y").mean().over(expanding(exclude_current=True)),
        d=col("y").std(ddof=0).over(expanding(exclude_current=True)),
        u=col("n").n_unique().over(expanding()),
        l=col("z").last().over(expanding()),
    ),
    "null_keys": lambda a, b: a.key_by("n").window(tumbling("5s")).aggregate(n_rows=count()),
    "null_keys_join": lambda a, b: a.join(b.select("w", n=col("k")), on="n", how="left", within="1s", name="null_keys_join"),
    "best_of_a_window": lambda a, b: (
        a.key_by("k").window(tumbling("5s")).aggregate(most=col("v").max(), who=col("id").max_by("v"), at=col("at").max_by("v"))
    ),
    "best_beside_others": lambda a, b: (
        a.key_by("k")
        .window(tumbling("5s"))
        .aggregate(n=count(), who=col("id").max_by("v"), some=col("n").min_by("id"), three=col("id").top_k(3, by="v", then_by="id"))
    ),
    "best_of_hops": lambda a, b: (
        a.key_by("k").window(hopping("4s", "2s")).aggregate(who=col("id").max_by("v"), least=col("id").min_by("v"), m=col("v").mean())
    ),
    "least_of_a_session": lambda a, b: (
        a.filter(col("v") < 30).key_by("k").window(session("1s")).aggregate(who=col("id").min_by("v"), least=col("v").min())
    ),
    "exploded": lambda a, b: (
        a.key_by("k")
        .window(tumbling("10s"))
        .aggregate(ids=col("id").to_list(), all_v=col("v").to_list())
        .with_columns(n=col("ids").list.len(), first=col("all_v").list.get(0), third=col("all_v").list.get(2, null_on_oob=True))
        .with_columns(last=col("all_v").list.last())
        .explode("ids")
        .drop("all_v")
    ),
    "merged": lambda a, b: (
        a.select("k", x=col("v").cast(float))
        .merge(b.select("k", x=col("w")))
        .key_by("k")
        .window(tumbling("10s"))
        .aggregate(n=count(), s=col("x").sum())
    ),
}

#: Windows behind joins, joins behind windows, and so on.
CHAINS: Final[dict[str, Callable[[Stream, Stream], Stream]]] = {
    "window_join_window": lambda a, b: (
        a.key_by("k")
        .window(tumbling("2s"))
        .aggregate(n=count())
        .join(b.key_by("k").window(tumbling("2s")).aggregate(s=col("w").sum()), on="k", before="0s", after="1s", name="windows_joined")
        .key_by("k")
        .window(tumbling("10s"))
        .aggregate(t=col("n").sum(), m=col("s").max())
    ),
    "session_of_windows": lambda a, b: (
        a.key_by("k")
        .window(tumbling("500ms"))
        .aggregate(n=count())
        .key_by("k")
        .window(session("800ms"))
        .aggregate(c=count(), s=col("n").sum())
    ),
    "window_of_asof_of_frames": lambda a, b: (
        a.key_by("k")
        .with_columns(c=count().over(rolling("2s")))
        .join_asof(b, by="k", name="asof_of_frames")
        .key_by("k")
        .window(tumbling("5s"))
        .aggregate(m=col("c").max(), w=col("w").max())
    ),
    "window_of_exploded": lambda a, b: (
        a.key_by("k")
        .window(tumbling("3s"))
        .aggregate(ids=col("id").to_list())
        .explode("ids")
        .key_by("k")
        .window(tumbling("9s"))
        .aggregate(c=count(), m=col("ids").max())
    ),
    "asof_of_asof": lambda a, b: (
        a.join_asof(b, by="k", name="asof_first")
        .select("id", "k", "w", "v")
        .join_asof(b.select("k", w2=col("w")), by="k", tolerance="300ms", name="asof_second")
    ),
    "session_of_merged": lambda a, b: (
        a.select("k", x=col("v").cast(float))
        .merge(b.select("k", x=col("w")))
        .key_by("k")
        .window(session("150ms"))
        .aggregate(n=count(), s=col("x").sum())
    ),
}

#: Over rows of which some are late, where each row brings its watermark.
LATE: Final[dict[str, Callable[[Stream], Stream]]] = {
    "late_session": lambda a: a.key_by("k").window(session("400ms")).aggregate(n=count(), s=col("v").sum()),
    "late_tumbling": lambda a: a.key_by("k").window(tumbling("1s")).aggregate(n=count(), s=col("v").sum()),
    "late_hopping": lambda a: a.key_by("k").window(hopping("2s", "500ms")).aggregate(n=count(), s=col("v").sum()),
}

TABLES: Final[dict[str, Callable[[Stream, Stream], Table]]] = {
    "aggregates": lambda a, b: a.key_by("k").aggregate(
        n=count(), s=col("v").sum(), m=col("v").mean(), f=col("v").first(), l=col("v").last(), u=col("v").n_unique(), least=col("v").min()
    ),
    "best": lambda a, b: a.key_by("k").aggregate(who=col("id").max_by("v"), most=col("v").max()),
    "best_of_nulls": lambda a, b: a.key_by("k").aggregate(
        n=count(), who=col("id").max_by("z"), some=col("n").min_by("id"), big=col("id").max_by("v").filter(col("v") < 3)
    ),
    "top": lambda a, b: a.key_by("k").aggregate(
        three=col("id").top_k(3, by="v", then_by="id"), most=col("v").top_k(2), words=col("n").top_k(2, by="id"), m=col("v").mean()
    ),
    "regrouped_best": lambda a, b: (
        a.key_by("k", "v")
        .aggregate(last=col("id").top_k(1, by="at", then_by="id").list.first())
        .group_by("k")
        .aggregate(n=count(), total=col("last").sum())
    ),
    "filtered": lambda a, b: a.key_by("k", "v").count().filter(col("count") > 1).with_columns(twice=col("count") * 2),
    "regrouped": lambda a, b: a.key_by("k", "v").count().group_by("k").aggregate(n=count(), s=col("count").sum()),
    "by_foreign_key": lambda a, b: (
        a.key_by("id").aggregate(k=col("k").last(), v=col("v").last()).join(b.key_by("k").aggregate(m=count()), on="k", how="left")
    ),
    "moving": lambda a, b: (
        a.key_by("v")
        .aggregate(k=col("k").last(), n=count())
        .group_by("k")
        .aggregate(rows=count(), most=col("n").max(), least=col("v").min(), u=col("n").n_unique(), m=col("n").mean())
    ),
    "best_of_a_table": lambda a, b: (
        a.key_by("k", "v").count().group_by("k").aggregate(two=col("v").top_k(2, by="count", then_by="v"), most=col("v").max_by("v"))
    ),
    "filtered_join": lambda a, b: (
        a.key_by("id")
        .aggregate(k=col("k").last(), v=col("v").last())
        .filter(col("v") > 40)
        .join(b.key_by("k").aggregate(m=count()).filter(col("m") < 55), on="k")
    ),
    "joined": lambda a, b: a.key_by("k").aggregate(n=count()).join(b.key_by("k").aggregate(m=count()), how="outer"),
}


def transactions(directory: Path, most: int) -> Path:
    """Write the first transactions of the sample, in the order of their times."""
    rows: list[dict[str, Any]] = []
    for path in data.sample().transactions:
        rows += pa_csv.read_csv(str(path)).to_pylist()
    rows.sort(key=lambda row: row["event_time"])
    return written_json(directory / "transactions.jsonl", rows[:most])


def fraud() -> Topology:
    """The fraud example; files do not number their rows."""
    topology = Topology("fraud-detection")
    source = topology.stream(memory("transactions", schema=Transaction), timestamp="event_time", disorder="5s")
    accounts = source.with_columns(topic=lit("t"), partition=lit(0), offset=lit(0)).key_by("account_number")
    many = accounts.window(rolling("60s")).process(velocity(limit=3), name="velocity")
    much = accounts.process(amount_anomaly(sigmas=3, warmup=5), name="amount-anomaly")
    far = accounts.process(impossible_travel(max_kmh=900), name="impossible-travel")
    many.merge(much, far).to(memory("alerts"), name="alerts")
    return topology
