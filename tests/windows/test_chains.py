"""Chains: windows of windows with verbs between them, aggregates of what the second ones show early, and what comes late.

The model goes through the first windows step by step. No stage makes the rows of another late; so the second windows are what the
model makes of all these rows, and what stands behind them is computed from the last row of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Aggregate, Topology, col, count, lit, memory, tumbling
from streamdsl.testing import TopologyTestDriver
from tests.windows.jobs import EXAMPLES, SCHEMA, Step, bounds, emission, happen, steps_of, windows_of
from tests.windows.model import Counted, Hopping, Kind, Model, Record, Session, Sliding, Valve

KINDS = [Hopping(10, 10), Hopping(12, 5), Hopping(9, 3), Hopping(12, 2, 1), Session(5), Sliding(8)]
BETWEEN = ["nothing", "explode", "filter"]
#: A state that grows with each record, and merges.
GROWING = Aggregate(lambda: [], lambda seen, x: [*seen, x], lambda a, b: [*a, *b], result=lambda seen: str(sorted(seen)), type=str)
#: Behind the watermark by more than there are times: what comes late is not late once more.
EVER = 1_000


@dataclass(frozen=True)
class Chain:
    """first windows → between → second windows by `k` or of everything → groups of equal size."""

    first: Kind
    second: Kind
    emit: str
    graces: tuple[int, int]
    between: str
    by_key: bool
    table: bool
    splits: int
    parallelism: int
    cold: bool
    seed: int | None

    @property
    def groups(self) -> bool:
        """Whether rows of the second windows are taken out again where later ones come."""
        return self.emit in ("update", "throttle") and not isinstance(self.second, Counted)

    @property
    def ordered(self) -> bool:
        """Whether rows of a key reach the second windows by one ordered path."""
        return self.by_key or self.parallelism == 1

    def topology(self) -> Topology:
        topology = Topology("chain")
        stream = topology.stream(memory("in", schema=SCHEMA), timestamp="t", watermarks="external")
        windowed = stream.key_by("k").window(windows_of(self.first), grace=self.graces[0])
        first = windowed.aggregate(ns=col("n").to_list(), least=col("n").min(), size=count(), name="first")
        # The same stream in windows of another grace, and what the first ones refuse in windows of its own.
        other = stream.key_by("k").window(windows_of(self.first), grace=EVER).aggregate(ns=col("n").to_list(), name="other")
        bounds(other).to(memory("other"))
        late = first.output("late").key_by("k").window(tumbling(7), grace=EVER).aggregate(ns=col("n").to_list(), name="late")
        late.select("k", "ns").to(memory("late"))
        rows = first.drop("window_start", "window_end").with_columns(m=col("least"))
        if self.between == "explode":
            rows = rows.drop("m").explode("ns").rename({"ns": "m"})
        elif self.between == "filter":
            rows = rows.filter(col("size") > 1)
        keyed = rows.key_by("k") if self.by_key else rows.key_by()
        grace = {} if isinstance(self.second, Counted) else {"grace": self.graces[1]}
        second = keyed.window(windows_of(self.second), emit=emission(self.emit), **grace).aggregate(
            ms=col("m").to_list(),
            best=col("m").top_k(2, by="size"),
            told=col("m").top_k(2, by="size", then_by="m"),
            different=col("m").n_unique(approximate=True),
            middle=col("m").quantile(0.5, approximate=True),
            grown=GROWING(col("m")),
            total=col("m").sum(),
            name="second",
        )
        bounds(second if self.by_key else second.with_columns(k=lit(""))).to(memory("out"))
        if not isinstance(self.second, Counted):
            second.output("late").to(memory("late again"))
        if self.groups:
            grouped = second.to_table().group_by("different") if self.table else second.key_by("different")
            grouped.aggregate(n=count(), sum=col("total").sum(), most=col("total").max(), name="groups").to(memory("groups"))
        return topology


@st.composite
def chains(draw: st.DrawFn) -> tuple[Chain, list[Step]]:
    splits = draw(st.sampled_from([1, 1, 2]))
    chain = Chain(
        first=draw(st.sampled_from(KINDS)),
        second=draw(st.sampled_from([*KINDS, Counted(3, 2)])),
        emit=draw(st.sampled_from(["close", "update", "update", "on_time", "throttle"])),
        graces=draw(st.tuples(st.sampled_from([0, 6, 20]), st.sampled_from([0, 6]))),
        between=draw(st.sampled_from(BETWEEN)),
        by_key=draw(st.booleans()),
        table=draw(st.booleans()),
        splits=splits,
        parallelism=draw(st.sampled_from([1, 1, 3])),
        cold=draw(st.booleans()),
        seed=draw(st.none() | st.integers(0, 99)),
    )
    steps = draw(steps_of(splits=splits, spread=50, parallelism=chain.parallelism - 1))
    return chain, [step for step in steps if not any(record.key is None for record in step.records)]


def gone_through(model: Model, splits: int, steps: Sequence[Step]) -> Model:
    """Let the model go through the steps and the end."""
    valve = Valve(splits)
    for step in steps:
        if step.what == "rows":
            model.on_watermark(valve.on_active(step.split))
            for record in step.records:
                model.on_record(record)
        elif step.what == "watermark":
            model.on_watermark(valve.on_watermark(step.split, step.watermark))
    model.on_end()
    return model


def second_rows(chain: Chain, first: Model) -> dict[Any, list[dict[str, Any]]]:
    """Return what the last row of each second window says."""
    values: dict[int, tuple[int, int]] = {}  # number -> (m, size)
    model = Model(chain.second)
    for row in first.rows:
        numbers, size = row.numbers, len(row.numbers)
        if chain.between != "filter" or size > 1:
            for m in numbers if chain.between == "explode" else (min(numbers),):
                values[len(values)] = (m, size)
                model.on_record(Record(len(values) - 1, row.key if chain.by_key else "", row.time))
    model.on_end()
    made: dict[Any, list[dict[str, Any]]] = {}
    for row in model.rows:
        held = [values[number] for number in row.numbers]
        ms = [m for m, _ in held]
        says = {
            "ms": ms if chain.ordered else sorted(ms),
            "best": [m for m, _ in sorted(held, key=lambda one: -one[1])][:2] if chain.ordered else None,
            "told": [m for m, _ in sorted(held, key=lambda one: (one[1], one[0]), reverse=True)][:2],
            "different": len(set(ms)),
            "middle": (sorted(ms)[(len(ms) - 1) // 2] + sorted(ms)[len(ms) // 2]) / 2,
            "grown": str(sorted(ms)),
            "total": sum(ms),
        }
        made.setdefault((row.key, row.start, row.end), []).append(says)
    return made


def shown(chain: Chain, driver: TopologyTestDriver) -> dict[Any, list[dict[str, Any]]]:
    """Return what the sink knows of each window in the end."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for _, out in driver._sinks["out"].rows:
        pane = (out["k"], out["ws"], out["we"])
        if out.get("op") == "withdraw":
            assert pane in found, "what is withdrawn was there"
            del found[pane]
            continue
        says = {name: out[name] for name in ("ms", "best", "told", "different", "middle", "grown", "total")}
        if not chain.ordered:
            says.update(ms=sorted(out["ms"]), best=None)
        if chain.emit == "close":
            found.setdefault(pane, []).append(says)
        else:
            found[pane] = [says]
    return found


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(chains())
def test_chains_of_windows(case: tuple[Chain, list[Step]]) -> None:
    chain, steps = case
    memory_ = {"state_memory": 4_096} if chain.cold else {}
    driver = TopologyTestDriver(
        chain.topology(), parallelism=chain.parallelism, partitions=chain.splits, seed=chain.seed, start_ms=1_000_000, **memory_
    )
    for step in [*steps, None]:
        happen(driver, step)
    first = gone_through(Model(chain.first, grace=chain.graces[0]), chain.splits, steps)
    wanted = second_rows(chain, first)
    if not isinstance(chain.second, Counted):
        assert shown(chain, driver) == wanted
        assert driver.read("late again") == []
    elif chain.ordered and chain.emit == "close":
        flat = [(pane, str(says)) for pane, rows in wanted.items() for says in rows]
        assert sorted((pane, str(says)) for pane, rows in shown(chain, driver).items() for says in rows) == sorted(flat)
    assert sorted(n for row in driver.read("late") for n in row["ns"]) == sorted(record.number for record in first.late)
    other = gone_through(Model(chain.first, grace=EVER), chain.splits, steps)
    found = [(row["k"], row["ws"], row["we"], tuple(row["ns"])) for row in driver.read("other")]
    assert sorted(found) == sorted((row.key, row.start, row.end, row.numbers) for row in other.rows)
    if chain.groups:
        check_groups(driver, [says for rows in wanted.values() for says in rows])


def check_groups(driver: TopologyTestDriver, rows: list[dict[str, Any]]) -> None:
    """The groups are those of the last row of each window, whatever rows came before it."""
    found = {out["different"]: out for out in driver.read("groups")}
    wanted: dict[int, list[int]] = {}
    for says in rows:
        wanted.setdefault(says["different"], []).append(says["total"])
    assert {size: (one["n"], one["sum"], one["most"]) for size, one in found.items() if one["n"]} == {
        size: (len(totals), sum(totals), max(totals)) for size, totals in wanted.items()
    }
