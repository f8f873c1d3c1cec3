"""State of Processors against dicts: values, lists, maps, their times to live, copies, restoring."""

from __future__ import annotations

import dataclasses
import decimal
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Processor, StateError, UserCodeError
from streamdsl.schema import Schema

from .jobs import driven, row, send

TTL = 20


class Kept(Processor):
    """Does what n says to its states and emits what it finds then; x is an argument."""

    output = Schema.of({"value": str})

    def open(self, ctx: Any) -> None:
        self.value = ctx.state.value("value", float, ttl=TTL)
        self.plain = ctx.state.value("plain", float)
        self.items = ctx.state.list("items", float, ttl=TTL)
        self.map = ctx.state.map("map", int, float, ttl=TTL)

    def process(self, row: Any, ctx: Any) -> Any:
        x = row.x
        actions = [
            lambda: self.value.set(x),
            lambda: self.value.set(x, ttl=None),
            lambda: self.value.set(x, ttl=5),
            self.value.clear,
            lambda: self.plain.set(x),
            lambda: self.items.append(x),
            lambda: self.items.extend([x, x]),
            self.items.clear,
            lambda: self.map.put(int(x), x),
            lambda: self.map.put(int(x), x, ttl=None),
            lambda: self.map.remove(int(x)),
            lambda: None,
        ]
        actions[row.n % len(actions)]()
        lists = (self.items.get(), len(self.items), self.map.items(), int(x) in self.map)
        return {"value": repr((self.value.get(), self.plain.value, *lists))}


ACTIONS = 12


class Model:
    """The same with deadlines in the open."""

    def __init__(self) -> None:
        self.value: tuple[float, float] | None = None
        self.plain: float | None = None
        self.items: list[tuple[float, float]] = []
        self.map: dict[int, tuple[float, float]] = {}

    def apply(self, now: int, n: int, x: float) -> str:
        forever = float("inf")
        if n < 3:
            self.value = (x, (now + TTL, forever, now + 5)[n])
        elif n == 3:
            self.value = None
        elif n == 4:
            self.plain = x
        elif n in (5, 6):
            self.items += [(x, now + TTL)] * (n - 4)
        elif n == 7:
            self.items = []
        elif n in (8, 9):
            if int(x) in self.map and self.map[int(x)][1] <= now:
                del self.map[int(x)]  # an entry that was gone comes back as a new one
            self.map[int(x)] = (x, now + TTL if n == 8 else forever)
        elif n == 10:
            self.map.pop(int(x), None)
        value = self.value[0] if self.value and self.value[1] > now else None
        items = [item for item, deadline in self.items if deadline > now]
        entries = [(key, item) for key, (item, deadline) in self.map.items() if deadline > now]
        return repr((value, self.plain, items, len(items), entries, int(x) in dict(entries)))


STEP = st.tuples(st.integers(0, 100), st.sampled_from("ab"), st.integers(0, ACTIONS - 1), st.integers(0, 3).map(float))
STEPS = st.lists(STEP, min_size=1, max_size=40)


@given(STEPS, st.integers(1, 10))
@settings(max_examples=60, deadline=None)
def test_states_are_as_a_model_says(steps: list[tuple[int, str, int, float]], cut: int) -> None:
    # Times in any order: what is gone for a later record is still there for an earlier one.
    driver = driven(Kept)
    models = {"a": Model(), "b": Model()}
    expected = []
    for start in range(0, len(steps), cut):
        part = steps[start : start + cut]
        send(driver, *((at, row(key, n, x)) for at, key, n, x in part))
        for at, key, n, x in part:
            expected.append(models[key].apply(at, n, x))
        if start == 0:
            driver.checkpoint()
            driver.crash_and_restore()
    assert [found["value"] for found in driver.read("out")] == expected


@dataclasses.dataclass
class Account:
    total: float = 0.0
    cities: list[str] = dataclasses.field(default_factory=list)


class Mutating(Processor):
    """Changes what it reads."""

    output = Schema.of({"total": float, "cities": int})

    def open(self, ctx: Any) -> None:
        self.account = ctx.state.value("account", Account)
        self.numbers = ctx.state.value("numbers", list[int])

    def process(self, row: Any, ctx: Any) -> Any:
        account = self.account.get() or Account()
        account.total += row.x
        account.cities.append(row.k)
        if row.n:
            self.account.set(account)
            account.cities.append("behind the back")
        numbers = self.numbers.get([])
        numbers.append(1)
        assert self.numbers.get() is None
        kept = self.account.get(Account())
        return {"total": kept.total, "cities": len(kept.cities)}


def test_only_set_writes() -> None:
    driver = driven(Mutating)
    send(driver, (1, row("a", 0, 5.0)), (2, row("a", 1, 1.0)), (3, row("a", 0, 7.0)), (4, row("a", 1, 1.0)))
    assert [(found["total"], found["cities"]) for found in driver.read("out")] == [(0.0, 0), (1.0, 1), (1.0, 1), (2.0, 2)]
    driver.checkpoint()
    driver.crash_and_restore()
    driver.read("out")
    send(driver, (5, row("a", 1, 1.0)))
    assert driver.read("out") == [{"total": 3.0, "cities": 3}]


class Typed(Processor):
    """Sets what its types do not allow."""

    output = Schema.of({"k": str})
    VALUES = ("text", None, True, [1], 1.5)

    def open(self, ctx: Any) -> None:
        self.number = ctx.state.value("number", int)
        self.list = ctx.state.list("list", str)

    def process(self, row: Any, ctx: Any) -> None:
        if row.x:
            self.list.append(self.VALUES[row.n + 1])
        self.number.set(self.VALUES[row.n])


@pytest.mark.parametrize("case", range(5))
def test_other_types_are_refused(case: int) -> None:
    with pytest.raises(UserCodeError, match="state 'number': expected int") as caught:
        send(driven(Typed), (1, row("a", case)))
    assert isinstance(caught.value.__cause__, TypeError)


class Before(Processor):
    output = Schema.of({"n": int})

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int)

    def process(self, row: Any, ctx: Any) -> Any:
        self.n.set(self.n.get(0) + row.n)
        late = ctx.state.value("declared late", str)
        late.set(late.get("") + "x")
        return {"n": len(late.get())}


def test_states_declared_at_first_use_are_kept() -> None:
    driver = driven(Before)
    send(driver, (1, row("a", 2)), (2, row("a", 2)))
    driver.checkpoint()
    driver.crash_and_restore()
    driver.read("out")
    send(driver, (3, row("a", 1)))
    assert driver.read("out") == [{"n": 3}]
    assert driver.state("op") == {"a": {"n": 5, "declared late": "xxx"}}


class Clocked(Processor):
    output = Schema.of({"n": int})

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int, ttl="1s", clock="processing")

    def process(self, row: Any, ctx: Any) -> Any:
        found = self.n.get(-1)
        if row.n:
            self.n.set(row.n)
        return {"n": found}


def test_time_to_live_by_the_wall_clock() -> None:
    driver = driven(Clocked, start_ms=5000)
    send(driver, (1, row("a", 3)))
    driver.advance_processing_time(999)
    send(driver, (10_000_000, row("a")))
    driver.advance_processing_time(1)
    send(driver, (2, row("a")))
    assert [found["n"] for found in driver.read("out")] == [-1, 3, -1]


class Wide(Processor):
    """Counts rows by whole batches."""

    output = Schema.of({"k": str, "n": int})

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int)

    def process_batch(self, batch: Any, ctx: Any) -> Any:
        counts = dict(zip(ctx.keys, self.n.get_many(ctx.keys, 0), strict=True))
        for key in ctx.keys:
            counts[key] += 1
        self.n.set_many(list(counts), list(counts.values()))
        for key, n in counts.items():
            ctx.emit({"k": key, "n": n}, key=key)
        assert batch.column_names == ["k", "n", "x"] and len(ctx.timestamps) == batch.num_rows


def test_process_batch() -> None:
    driver = driven(Wide)
    send(driver, (1, row("a")), (2, row("b")), (5, row("a")))
    assert driver.read("out", timestamps=True) == [(5, {"k": "a", "n": 2}), (2, {"k": "b", "n": 1})]
    send(driver, (9, row("a")))
    assert driver.read("out") == [{"k": "a", "n": 3}]


class Brief(Processor):
    """Keeps one of each for a second; n > 0 sets, else it reads."""

    output = Schema.of({"found": str})

    def open(self, ctx: Any) -> None:
        self.value = ctx.state.value("value", int, ttl="1s")
        self.items = ctx.state.list("items", int, ttl="1s")
        self.map = ctx.state.map("map", int, int, ttl="1s")
        self.count = ctx.metrics.counter("reads")

    def process(self, row: Any, ctx: Any) -> Any:
        if row.n:
            self.value.set(row.n)
            self.items.append(row.n)
            self.map[row.n] = row.n
            return None
        self.count.inc()
        return {"found": repr((self.value.get(), self.items.get(), self.map.items()))}


HOUR = 3_600_000


def test_expired_values_are_removed_and_refreshed_ones_stay() -> None:
    driver = driven(Brief)
    send(driver, (0, row("a", 1)), (0, row("b", 1)))
    driver.advance_watermark("in", 5000)
    # Expired, but a late record may still ask: nothing is removed yet, and reading is exact.
    assert driver.state("op")["a"] == {"value": 1, "items": [1], "map": {1: 1}}
    send(driver, (999, row("a")), (1000, row("a")))
    assert [item["found"] for item in driver.read("out")] == ["(1, [1], [(1, 1)])", "(None, [], [])"]
    send(driver, (HOUR, row("b", 2)))
    driver.advance_watermark("in", HOUR + 1000)
    assert driver.state("op") == {"b": {"value": 2, "items": [2], "map": {2: 2}}}
    driver.checkpoint()
    driver.crash_and_restore()
    driver.read("out")
    assert driver.state("op") == {"b": {"value": 2, "items": [2], "map": {2: 2}}}
    send(driver, (999, row("a")), (HOUR + 999, row("b")))
    assert [item["found"] for item in driver.read("out")] == ["(None, [], [])", "(2, [2], [(2, 2)])"]
    assert driver.metrics()["operators"]["op"]["reads"] == 2


def test_what_a_late_record_sees_does_not_depend_on_the_removal() -> None:
    # More keys than one watermark looks at: those not yet removed must read as gone as well.
    keys = [f"k{i}" for i in range(1000)]
    driver = driven(Brief)
    send(driver, *((0, row(key, 1)) for key in keys))
    driver.advance_watermark("in", HOUR + 1000)
    assert 0 < len(driver.state("op")) < len(keys)
    send(driver, *((500, row(key)) for key in keys))
    assert {item["found"] for item in driver.read("out")} == {"(None, [], [])"}
    for i in range(10):
        driver.advance_watermark("in", HOUR + 1001 + i)
    assert driver.state("op") == {}


class Sized(Processor):
    """Asks for the size of its map and for the newest of its list with each record."""

    output = Schema.of({"value": str})

    def open(self, ctx: Any) -> None:
        self.map = ctx.state.map("map", int, float)
        self.fading = ctx.state.map("fading", int, float, ttl=TTL)
        self.items = ctx.state.list("items", list[int])

    def process(self, row: Any, ctx: Any) -> Any:
        self.map.put(row.n, row.x)
        self.fading.put(row.n, row.x)
        self.items.append([row.n])
        newest = self.items[-1]
        newest.append(0)  # a copy
        return {"value": repr((len(self.map), bool(self.map), len(self.fading), self.items[-1], self.items[-2:]))}


def test_sizes_and_elements() -> None:
    driver = driven(Sized)
    send(driver, *[(i, row("a", n=i)) for i in range(50)])
    values = [out["value"] for out in driver.read("out")]
    assert values == [repr((i + 1, True, min(i + 1, TTL), [i], [[k] for k in range(max(0, i - 1), i + 1)])) for i in range(50)]


@pytest.mark.parametrize(
    ("key_type", "key"),
    [
        (float, lambda x: x),
        (float | None, lambda x: x),
        (tuple[str, float], lambda x: ("a", x)),
        (tuple[float, ...], lambda x: (x, x)),
        (decimal.Decimal, decimal.Decimal),
    ],
    ids=["float", "optional", "pair", "tuple", "decimal"],
)
def test_a_nan_is_one_key_of_a_map_also_after_a_restore(key_type: Any, key: Any) -> None:
    class Counts(Processor):
        output = Schema.of({"n": int, "keys": int, "held": bool})

        def open(self, ctx: Any) -> None:
            self.seen = ctx.state.map("seen", key_type, int, ttl="1h")
            self.dicts = ctx.state.value("dicts", dict[key_type, int])

        def process(self, row: Any, ctx: Any) -> Any:
            self.seen[key(row.x)] = self.seen.get(key(row.x), 0) + 1
            held = self.dicts.get({})
            held[key(math.nan)] = 1
            self.dicts.set(held)
            yield {"n": self.seen[key(row.x)], "keys": len(self.seen), "held": key(row.x) in self.seen and len(self.dicts.get()) == 1}
            if row.n:
                self.seen.remove(key(row.x))

    driver = driven(Counts)
    for n, x in enumerate([float("nan"), float("nan"), -0.0, 0.0, -float("nan")]):
        send(driver, (n, row("a", int(n == 4), x)))
        driver.checkpoint()
        driver.crash_and_restore()
    assert [tuple(out.values()) for out in driver.read("out")] == [(1, 1, True), (2, 1, True), (1, 2, True), (2, 2, True), (3, 2, True)]


@dataclasses.dataclass(frozen=True)
class Place:
    city: str
    at: float | None = None


@dataclasses.dataclass(frozen=True)
class Trip:
    start: Place
    stops: tuple[Place, ...] = ()


class Trips(Processor):
    """Counts by keys that are frozen dataclasses, alone and within one another."""

    output = Schema.of({"places": int, "trips": int, "pairs": int, "kept": int})

    def open(self, ctx: Any) -> None:
        self.places = ctx.state.map("places", Place, int, ttl="1h")
        self.trips = ctx.state.map("trips", Trip, int)
        self.pairs = ctx.state.map("pairs", tuple[Place, int], int)
        self.kept = ctx.state.value("kept", dict[Place | None, int])

    def process(self, row: Any, ctx: Any) -> Any:
        place = Place(row.k, math.nan if row.n else row.x)
        trip = Trip(place, (place, Place("b")))
        pair = (place, row.n)
        kept = self.kept.get({})
        for counts, key in ((self.places, place), (self.trips, trip), (self.pairs, pair), (kept, place)):
            counts[key] = counts.get(key, 0) + 1
        self.kept.set(kept)
        found = self.kept.get()
        yield {
            "places": self.places[place],
            "trips": self.trips[trip],
            "pairs": self.pairs[pair],
            "kept": next(n for key, n in found.items() if repr(key) == repr(place)),
        }


def test_frozen_dataclasses_are_keys_of_maps_across_restores() -> None:
    driver = driven(Trips)
    for n, (key, flag) in enumerate([("a", 0), ("a", 0), ("a", 1), ("a", 1), ("a", 0), ("a", 1)]):
        send(driver, (n, row(key, flag, 2.0)))
        driver.checkpoint()
        driver.crash_and_restore(1 + n % 2)
    assert [found["places"] for found in driver.read("out")] == [1, 2, 1, 2, 3, 3]


@dataclasses.dataclass(frozen=True, eq=False)
class ByAddress:
    city: str


@pytest.mark.parametrize("key", [Account, ByAddress, tuple[ByAddress, int], list[int], ByAddress | None], ids=str)
def test_what_is_not_equal_to_itself_after_a_restore_is_no_key(key: Any) -> None:
    class Wrong(Processor):
        output = Schema.of({"k": str})

        def open(self, ctx: Any) -> None:
            ctx.state.map("m", key, int)

        def process(self, row: Any, ctx: Any) -> None:
            pass

    with pytest.raises(UserCodeError, match=r"cannot be the key of a map; use .*frozen=True"):
        send(driven(Wrong), (1, row("a", 0)))


def test_fields_of_a_key_may_come_and_not_make_keys_equal() -> None:
    one = dataclasses.make_dataclass("Key", [("a", int), ("b", int)], frozen=True)
    grown = dataclasses.make_dataclass("Key", [("a", int), ("b", int), ("c", int, dataclasses.field(default=7))], frozen=True)
    shrunk = dataclasses.make_dataclass("Key", [("a", int)], frozen=True)
    chosen = {"type": one}

    class Counts(Processor):
        output = Schema.of({"k": str})

        def open(self, ctx: Any) -> None:
            self.counts = ctx.state.map("counts", chosen["type"], int)

        def process(self, row: Any, ctx: Any) -> Any:
            kind = chosen["type"]
            key = kind(1) if kind is shrunk else kind(1, row.n)
            self.counts[key] = self.counts.get(key, 0) + 1
            return {"k": str(sorted(self.counts.values()))}

    driver = driven(Counts)
    send(driver, (1, row("a", 1)), (2, row("a", 2)))
    driver.checkpoint()
    chosen["type"] = grown
    driver.crash_and_restore()
    driver.read("out")
    send(driver, (3, row("a", 1)))
    assert driver.read("out") == [{"k": "[1, 2]"}]
    driver.checkpoint()
    chosen["type"] = shrunk
    with pytest.raises(StateError, match="different keys that were kept are equal now"):
        driver.crash_and_restore()
        send(driver, (4, row("a", 1)))
