"""Rows that take the place of earlier ones: aggregates behind them are exact, verbs that take rows as final refuse them."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import (
    Aggregate,
    KeyedStream,
    Processor,
    Stream,
    Topology,
    TopologyError,
    col,
    count,
    count_window,
    files,
    hopping,
    lit,
    memory,
    rolling,
    session,
    sliding,
    throttle,
    tumbling,
    when,
)
from streamdsl.testing import TopologyTestDriver

WINDOWS = [tumbling("10ms"), hopping("10ms", "5ms"), sliding("10ms"), session("4ms")]
EARLY = ["update", throttle("1s"), "on_time"]
VISIT = {"user": str, "at": int, "v": int}


def windowed(rows: list[dict[str, Any]], window: Any, emit: Any, grace: int = 60) -> Stream:
    """Sums that fall as well as rise, by user and window."""
    stream = Topology("t").stream(memory("visits", VISIT, rows), timestamp="at", disorder="1s")
    return stream.key_by("user").window(window, emit=emit, grace=grace).aggregate(n=count(), total=col("v").sum())


def stream(emit: Any = "update", window: Any = WINDOWS[0]) -> Stream:
    return windowed([], window, emit)


def grouped(visits: KeyedStream, window: Any, emit: Any, name: str) -> None:
    """Write aggregates of the windows of each size."""
    rows = visits.window(window, emit=emit, grace=60).aggregate(n=count(), total=col("v").sum(), name=name)
    sums = {"k": count(), "sum": col("total").sum(), "least": col("total").min(), "users": col("user").n_unique()}
    sizes = rows.key_by("n").aggregate(**sums, name=f"{name} sizes")
    sizes.to_stream().to(memory(name))


def standing(rows: list[dict[str, Any]], *keys: str) -> dict[Any, Any]:
    """Return the rows that stand at the end of some changes."""
    found: dict[Any, Any] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        found.pop(key, None)
        if row["op"] != "withdraw":
            found[key] = {name: value for name, value in row.items() if name != "op"}
    return found


visits = st.lists(st.builds(dict, user=st.sampled_from("ab"), at=st.integers(0, 40), v=st.integers(-3, 3)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(rows=visits, window=st.sampled_from(WINDOWS), emit=st.sampled_from(EARLY))
def test_aggregates_of_windows_shown_early_equal_those_of_windows_shown_once(rows, window, emit) -> None:
    topology = Topology("t")
    visits = topology.stream(memory("visits", VISIT), timestamp="at", disorder="1s").key_by("user")
    grouped(visits, window, emit, "early")
    grouped(visits, window, "close", "once")
    driver = TopologyTestDriver(topology)
    driver.send_batch("visits", rows)
    driver.end()
    assert standing(driver.read("early"), "n") == standing(driver.read("once"), "n")


def test_the_changes_of_a_table_aggregate_as_its_rows() -> None:
    rows = [{"user": user, "at": at, "v": v} for at, (user, v) in enumerate([("a", 1), ("b", 1), ("a", 2), ("b", 2), ("b", -3)])]
    sums = Topology("t").stream(memory("visits", VISIT, rows), timestamp="at").key_by("user").aggregate(total=col("v").sum())
    by_total = sums.to_stream().key_by("total").count()
    exact = sums.group_by("total").count()
    assert by_total.collect().to_pylist()[-1] == exact.collect().to_pylist()[-1] == {"total": 0, "count": 1, "op": "add"}


def test_aggregates_that_look_at_op_see_every_change() -> None:
    rows = [{"user": "a", "at": at, "v": 1} for at in (0, 8, 4)]
    changes = windowed(rows, session("5ms"), "update").key_by("user").aggregate(n=count().filter(col("op") != "withdraw"))
    shown = windowed(rows, session("5ms"), "update").collect().to_pylist()
    assert changes.collect().to_pylist()[-1]["n"] == sum(row["op"] != "withdraw" for row in shown) < len(shown)


def test_a_table_of_windows_withdraws_merged_sessions() -> None:
    rows = [{"user": "a", "at": at, "v": at} for at in (0, 8, 4)]
    table = windowed(rows, session("5ms"), "update").to_table()
    assert table.keys == ("user", "window_start", "window_end")
    (row,) = standing(table.collect().to_pylist(), *table.keys).values()
    assert (row["n"], row["total"]) == (3, 12)


kept = Aggregate(lambda: 0, lambda a, b: a + b, type=int)


class Seen(Processor):
    """Makes a row of each window."""

    output = {"user": str, "n": int}

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        yield {"user": key, "n": len(rows)}


def facts(topology: Topology) -> Stream:
    return topology.stream(memory("facts", VISIT), timestamp="at")


#: What takes each row for itself, whatever the emission.
FINAL = {
    "window": lambda rows: rows.key_by("user").window(tumbling("1s")).count(),
    "window.reduce": lambda rows: rows.key_by("user").window(tumbling("1s")).reduce(lambda a, b: a),
    "window.process": lambda rows: rows.key_by("user").window(tumbling("1s")).process(Seen),
    "reduce": lambda rows: rows.key_by("user").reduce(lambda a, b: a),
    "rolling": lambda rows: rows.key_by("user").with_columns(k=count().over(rolling("1s"))),
    "filter with a frame": lambda rows: rows.key_by("user").filter(col("n").sum().over(rolling("1s")) > 1),
    "join": lambda rows: rows.join(facts(rows.topology), on="user", within="1s"),
    "join, right": lambda rows: facts(rows.topology).join(rows, on="user", within="1s", suffix="_2"),
    "join, same window": lambda rows: rows.join(facts(rows.topology), on="user", within=tumbling("1s")),
    "join, any time": lambda rows: rows.join(facts(rows.topology), on="user", within=None),
}
#: What may not see rows that are withdrawn.
NOT_WITHDRAWN = {
    "lag": lambda rows: rows.key_by("user").with_columns(before=col("n").lag()),
    "deduplicate": lambda rows: rows.deduplicate(on="user"),
    "join_asof": lambda rows: rows.join_asof(facts(rows.topology), by="user", suffix="_2"),
    "join_asof, right": lambda rows: facts(rows.topology).join_asof(rows, by="user"),
    "join, table": lambda rows: rows.join(rows.topology.table(memory("users", {"user": str, "x": int}), key="user")),
}


@pytest.mark.parametrize(("verb", "emit"), list(itertools.product(FINAL, ["update", throttle("1s"), "on_time"])), ids=str)
def test_verbs_that_take_rows_as_final_refuse_updates(verb, emit) -> None:
    for window in WINDOWS:
        with pytest.raises(TopologyError, match=r'take the place of earlier ones\n.*emit="close"') as raised:
            FINAL[verb](stream(emit, window))
        assert str(window) in raised.value.message
    FINAL[verb](stream("close"))


@pytest.mark.parametrize("verb", NOT_WITHDRAWN)
def test_verbs_by_arrival_take_rows_that_are_replaced_and_none_that_are_withdrawn(verb) -> None:
    NOT_WITHDRAWN[verb](stream("update"))
    with pytest.raises(TopologyError, match="take the place of earlier ones"):
        NOT_WITHDRAWN[verb](stream("update", session("4ms")))


def changes(verb: str = "filter") -> Stream:
    topology = Topology("t")
    table = topology.table(memory("users", {"user": str, "n": int | None}), key="user")
    return {"table": table, "filter": table.filter(col("n") > 1), "group": table.group_by("n").aggregate(user=col("user").max())}[
        verb
    ].to_stream()


@pytest.mark.parametrize("kind", ["table", "filter", "group"])
def test_a_stream_of_changes_keeps_op_or_takes_the_rows_that_stand(tmp_path: Path, kind) -> None:
    for lost in (lambda rows: rows.select("user", "n"), lambda rows: rows.drop("op"), lambda rows: rows.with_columns(op=lit("x"))):
        with pytest.raises(TopologyError, match=r"'op' is gone.*\n.*withdraw"):
            lost(changes(kind))
        with pytest.raises(TopologyError, match="'op' is gone"):
            lost(stream("update", session("4ms")).rename(total="user_total"))
    changes(kind).filter(col("op") != "withdraw").select("user", "n").to(files(tmp_path / "out.jsonl"))
    changes(kind).select("user", gone=col("op") == "withdraw").to(memory("out"))
    changes(kind).rename(op="what").select("user", "what").key_by("user").aggregate(n=count().filter(col("what") == "add"))
    changes(kind).map(lambda row: {"user": row.user}, schema={"user": str}).key_by("user").count()


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: stream().filter(col("total") > 3).key_by("user").count(), "condition"),
        (lambda: stream().filter(col("total") > 3).to_table(), "condition"),
        (lambda: stream().filter(lambda row: row.n > 1).key_by("user").count(), "condition"),
        (lambda: stream().select("user", "n").key_by("user").count(), "no columns say"),
        (lambda: windowed([], count_window(3), "update", grace=0).key_by("user").count(), "no columns say"),
        (lambda: stream().key_by("user").aggregate(n=col("n").n_unique(approximate=True)), "approximate"),
        (lambda: stream().key_by("user").aggregate(x=kept(col("n"))), "withdraw"),
        (lambda: stream().key_by("user").count(emit=throttle("1s")), "emit=throttle"),
        (lambda: stream("close").to_table(), "key"),
    ],
)
def test_what_cannot_be_taken_out_again_is_refused(made, why) -> None:
    with pytest.raises(TopologyError, match=f"(?s){why}"):
        made()


def test_conditions_on_the_key_leave_aggregates_exact() -> None:
    rows = [{"user": user, "at": at, "v": 1} for user, at in [("a", 1), ("b", 2), ("a", 3), ("a", 12)]]
    kept = windowed(rows, tumbling("10ms"), "update").filter(col("user") == "a").rename(user="who", total="t")
    table = kept.with_columns(large=when(col("t") > 1).then(1).otherwise(0)).key_by("large").aggregate(k=count())
    assert {row["large"]: row["k"] for row in table.collect().to_pylist() if row["op"] != "withdraw"} == {0: 1, 1: 1}


def test_aggregates_of_updates_hold_over_crashes() -> None:
    topology = Topology("t")
    visits = topology.stream(memory("visits", VISIT), timestamp="at")
    counts = visits.key_by("user").window(tumbling("10ms"), emit="update").count(name="counts")
    counts.key_by("count").aggregate(k=count(), name="sizes").to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology, parallelism=2)
    rows = []
    for at in range(5):
        driver.send("visits", {"user": "ab"[at % 2], "at": at, "v": 1})
        rows += driver.read("out")
        driver.checkpoint()
        driver.crash_and_restore(parallelism=1 + at % 2)
    driver.end()
    rows += driver.read("out")
    assert standing(rows, "count") == {(2,): {"count": 2, "k": 1}, (3,): {"count": 3, "k": 1}}


def test_a_file_takes_updates_the_last_of_which_count(tmp_path: Path) -> None:
    rows = [{"user": "a", "at": at, "v": 1} for at in (0, 1, 2)]
    found = windowed(rows, tumbling("10ms"), "update")
    found.to(files(tmp_path / "out.jsonl"))
    found.topology.run()
    assert [json.loads(line)["n"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("behind", ["key_by", "key_by, then columns", "to_table"])
@pytest.mark.parametrize(("parallelism", "seed"), [(1, 0), (3, 1), (3, 2), (3, 3)])
def test_a_row_is_taken_out_of_its_group_whatever_group_the_next_one_has(parallelism: int, seed: int, behind: str) -> None:
    """Rows of one window meet by one way, not by that of their group; a row whose group is null takes the earlier one out, too."""
    topology = Topology("t")
    rows = topology.stream(memory("visits", VISIT), timestamp="at", watermarks="external").key_by("user")
    counts = rows.window(tumbling("1s"), emit="update").count()
    counts = counts.with_columns(size=when(col("count") == 9).then(None).otherwise(col("count")))
    if behind == "key_by":
        grouped = counts.key_by("size").aggregate(users=count())
    elif behind == "to_table":
        grouped = counts.key_by("size").to_table().group_by("size").aggregate(users=count())
    else:
        grouped = counts.key_by("size").with_columns(one=lit(1)).aggregate(users=col("one").sum())
    grouped.to(memory("sizes"))
    counts.key_by("size").to(memory("counts"))
    driver = TopologyTestDriver(topology, parallelism=parallelism, seed=seed)
    users = [f"u{number * number % 11}" for number in range(50)]
    driver.send_batch("visits", [{"user": user, "at": 1, "v": 1} for user in users])
    last = {row["user"]: row["count"] for row in driver.read("counts")}
    assert last == Counter(users)
    sizes = {row["size"]: row["users"] for row in driver.read("sizes")}
    assert {size: users for size, users in sizes.items() if users} == Counter(n for n in last.values() if n != 9)
