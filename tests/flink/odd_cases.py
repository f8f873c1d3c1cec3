"""Topologies over awkward rows: times before 1970, missing keys and values, decimals, texts of many scripts, no rows at all."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from streamdsl import (
    Stream,
    Topology,
    coalesce,
    col,
    concat_str,
    count,
    event_time,
    expanding,
    hopping,
    lit,
    memory,
    rolling,
    session,
    tumbling,
    when,
)
from tests.flink.compare import written_json

__all__ = ["LATER", "ODD", "inputs", "streams"]

_LEFT: Final = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("k", pa.string()),
        ("at", pa.int64()),
        ("p", pa.decimal128(12, 2)),
        ("x", pa.float64()),
        ("t", pa.string()),
        ("m", pa.timestamp("ms", tz="UTC")),
        ("d", pa.date32()),
        ("n", pa.int32()),
        ("l", pa.list_(pa.int64())),
        ("st", pa.struct([("a", pa.int64()), ("t", pa.string())])),
        ("sl", pa.list_(pa.struct([("a", pa.int64()), ("t", pa.string())]))),
    ]
)
_RIGHT: Final = pa.schema(
    [pa.field("id2", pa.int64(), nullable=False), ("k", pa.string()), ("when", pa.int64()), ("w", pa.decimal128(9, 3))]
)
_KEYS: Final = ["ä", "Ä", "", "東京", "😀", "a'b", "a`b", "-- x", None]
_TEXTS: Final = [
    *("straße", "İstanbul", "ǅ", "e\u0301te\u0301", "👩\u200d👧 ok", " \u00a0x\t", "a\nb", "ﬀ", "", "Ωμέγα", "null"),
    *("a‿b ²½ ٣ Ⅷ\x1c_", "\\", '"', None),
]


def inputs(directory: Path, count_: int = 240, start: int = 0) -> dict[str, Path]:
    """Write two files of rows whose times pass `start` (ms), in the order of their times."""
    rnd = random.Random(11)

    def some(value: Any) -> Any:
        return None if rnd.randrange(6) == 0 else value

    def struct() -> dict[str, Any]:
        return {"a": some(rnd.randrange(9)), "t": rnd.choice(_TEXTS)}

    left = [
        {
            "id": i,
            "k": rnd.choice(_KEYS),
            "at": start + (i - count_ // 2) * 137 - 1,
            "p": some(rnd.randrange(-(10**6), 10**6) / 100),
            "x": some(rnd.randrange(-400, 400) / 8),
            "t": rnd.choice(_TEXTS),
            "m": some(rnd.choice(["1969-12-31T23:59:59.999Z", "0999-02-28T00:00:00.001Z", "2024-02-29T12:00:00.500Z"])),
            "d": some(rnd.choice(["1582-10-10", "1970-01-01", "9999-12-31", "1900-02-28"])),
            "n": some(rnd.randrange(-(2**31), 2**31)),
            "l": some([some(rnd.randrange(-9, 9)) for _ in range(rnd.randrange(4))]),
            "st": some(struct()),
            "sl": some([some(struct()) for _ in range(rnd.randrange(3))]),
        }
        for i in range(count_)
    ]
    right = [
        {"id2": i, "k": rnd.choice(_KEYS), "when": start + (i - count_ // 3) * 171, "w": some(rnd.randrange(10**6) / 1000)}
        for i in range(count_ * 2 // 3)
    ]
    return {"left": written_json(directory / "left.jsonl", left), "right": written_json(directory / "right.jsonl", right)}


def streams(topology: Topology) -> tuple[Stream, Stream]:
    """Read both files."""
    left = topology.stream(memory("left", schema=_LEFT), timestamp="at", disorder="500ms")
    return left, topology.stream(memory("right", schema=_RIGHT), timestamp="when", disorder="500ms")


ODD: Final[dict[str, Callable[[Stream, Stream], Stream]]] = {
    "odd_tumbling": lambda a, b: (
        a.key_by("k")
        .window(tumbling("3s"))
        .aggregate(c=count(), s=col("p").sum(), least=col("p").min(), u=col("t").n_unique(), f=col("t").first(), e=col("m").max())
    ),
    "odd_days": lambda a, b: a.key_by().window(tumbling("1d")).aggregate(c=count(), s=col("n").sum(), m=col("n").mean(), d=col("d").min()),
    "odd_hopping": lambda a, b: a.key_by("k").window(hopping("4s", "1s")).aggregate(c=count(), m=col("x").mean(), s=col("x").sum()),
    "odd_sessions": lambda a, b: (
        a.filter(col("n") > 0).key_by("k", "t").window(session("2s")).aggregate(c=count(), s=col("p").sum(), l=col("t").max())
    ),
    "odd_grace": lambda a, b: (
        a.with_columns(at2=event_time()).key_by("k").window(tumbling("2s"), grace="1s").aggregate(c=count(), last=col("at2").max())
    ),
    "odd_first": lambda a, b: a.key_by("t").deduplicate().select("t"),
    "odd_asof": lambda a, b: a.join_asof(b, by="k", tolerance="3s", name="odd_asof").select("id", "id2", "w"),
    "odd_texts": lambda a, b: a.select(
        "id",
        upper=col("t").str.to_uppercase(),
        lower=col("t").str.to_lowercase(),
        long=col("t").str.len_chars(),
        head=col("t").str.head(3),
        back=col("t").str.reverse(),
        plain=col("t").str.strip_chars(),
        both=concat_str(col("t"), col("k"), separator="·"),
        wide=col("t").str.pad_start(6, "東"),
        has=col("t").str.contains("é|ß"),
        some=coalesce(col("t"), lit("—")),
        swapped=col("t").str.replace_all(r"\w", "ü"),
        begins=col("t").str.contains(r"\bk|\B\w\b"),
        spaces=col("t").str.replace_all(r"\s", "_"),
        digits=col("t").str.count_matches(r"[\d]"),
        others=col("t").str.replace_all(r"[^\w\s]", "!"),
    ),
    "odd_times": lambda a, b: a.select(
        "id",
        at2=event_time(),
        year=col("m").dt.year(),
        hour=col("m").dt.hour(),
        ms=col("m").dt.millisecond(),
        weekday=col("m").dt.weekday(),
        cut=col("m").dt.truncate("1h"),
        shown=col("m").dt.strftime("%Y-%m-%d %H:%M:%S"),
        day=col("m").dt.date(),
        text=col("d").cast(str),
        dyear=col("d").dt.year(),
    ),
    "odd_decimals": lambda a, b: a.select(
        "id",
        twice=col("p") * 2,
        square=col("p") * col("p"),
        less=col("p") - 1,
        text=col("p").cast(str),
        sign=when(col("p") < 0).then(lit("-")).otherwise(lit("+")),
        same=col("p") == col("p"),
        f=col("p").cast(float),
    ),
    "odd_offsets": lambda a, b: (
        a.key_by("k")
        .window(tumbling("3s", offset="700ms"))
        .aggregate(c=count(), f=col("t").first(), l=col("n").last(), m=col("p").mean(), s=col("p").sum())
    ),
    "odd_days_of_a_zone": lambda a, b: a.key_by().window(tumbling("1d", offset="5h30m")).aggregate(c=count(), u=col("k").n_unique()),
    "odd_uneven_hops": lambda a, b: a.key_by("k").window(hopping("5s", "2s", offset="1s")).aggregate(c=count(), m=col("n").max()),
    "odd_first_of_hops": lambda a, b: (
        a.key_by("k").window(hopping("4s", "2s")).aggregate(c=count(), f=col("id").first(), l=col("t").last(), m=col("p").mean())
    ),
    "odd_best_at_an_offset": lambda a, b: (
        a.key_by("k").window(tumbling("4s", offset="1s")).aggregate(c=count(), who=col("id").max_by("n"), two=col("id").top_k(2, by="id"))
    ),
    "odd_windows_of_offsets": lambda a, b: (
        a.key_by("k")
        .window(tumbling("2s", offset="1s"))
        .aggregate(c=count())
        .key_by("k")
        .window(tumbling("6s", offset="3s"))
        .aggregate(most=col("c").max(), n=count())
    ),
    "odd_items": lambda a, b: a.select("id", "l").explode("l", index="place").with_columns(twice=col("l").cast(int, strict=False) * 2),
    "odd_items_alone": lambda a, b: a.select("id", "l").explode("l", empty_as_null=False, keep_nulls=False),
    "odd_structs": lambda a, b: a.select("id", "sl").explode("sl", index="place").select("id", "place", a=col("sl").struct.field("a")),
    "odd_unnested": lambda a, b: a.select("id", "st").unnest("st"),
    "odd_fields": lambda a, b: a.select(
        "id", "st", "l", a=col("st").struct.field("a"), long=col("st").struct.field("t").str.len_chars(), has=col("l").list.contains(3)
    ),
    "odd_quotients": lambda a, b: a.select(
        "id",
        third=col("p") / 3,
        other=col("p") / col("n"),
        near=col("p").round(1),
        down=col("p").floor(),
        up=col("p").ceil(),
        x=col("x").round(2),
    ),
    "odd_session_means": lambda a, b: a.key_by("k").window(session("1s")).aggregate(c=count(), m=col("p").mean(), u=col("n").n_unique()),
    "odd_branches": lambda a, b: (
        a.branch(pos=col("p") > 0, neg=col("p") < 0)["other"].merge(a.filter(col("k").is_null())).select("id", "k", "p")
    ),
}

#: Flink forgets rows before 1970 in these.
LATER: Final[dict[str, Callable[[Stream, Stream], Stream]]] = {
    "odd_frames": lambda a, b: a.key_by("k").with_columns(
        c=count().over(rolling("5s")),
        s=col("p").sum().over(rolling("5s")),
        most=col("t").max().over(expanding()),
        earlier=col("x").lag(2),
        e=col("x").mean().over(expanding(exclude_current=True)),
        d=col("d").min().over(rolling("2s")),
    ),
    "odd_frames_of_others": lambda a, b: a.key_by("k").with_columns(
        c=count().over(rolling("5s", exclude_current=True)),
        s=col("p").sum().over(rolling("5s", exclude_current=True)),
        m=col("p").mean().over(rolling("5s", exclude_current=True)),
        n_sum=col("n").sum().over(rolling("3s", exclude_current=True)),
        n_mean=col("n").mean().over(rolling("3s", exclude_current=True)),
        all_mean=col("p").mean().over(expanding()),
    ),
    "odd_join": lambda a, b: a.join(b, on="k", how="left", before="1s", after="500ms", name="odd_join").select("id", "id2", "k", "w"),
    "odd_join_in_windows": lambda a, b: a.join(b, on="k", within=tumbling("2s", offset="300ms"), name="odd_win").select("id", "id2"),
    "odd_join_outer_in_windows": lambda a, b: a.join(b, on="k", within=tumbling("1s"), how="outer", name="odd_outer").select(
        "id", "id2", "k", "w"
    ),
    "odd_join_grace": lambda a, b: a.join(b, on="k", within="400ms", grace="1s", how="left", name="odd_grace_j").select("id", "id2"),
}
