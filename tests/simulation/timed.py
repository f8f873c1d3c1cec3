"""Families that go by the time: windows of all kinds, processors with state that expires, timers."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from streamdsl import Processor, Topology, col, count, hopping, memory, tumbling
from tests.simulation.family import Expected, Family, Inputs, Out, Record, best, by_key, null_keys, stream, total, watermarks

# Windows ---------------------------------------------------------------------------------------------------------------

#: column: (aggregate, what it is over the rows of the window)
AGGREGATES: dict[str, tuple[Any, Callable[[list[Record]], Any]]] = {
    "total": (col("x").sum(), lambda rows: total(row.x for row in rows)),
    "low": (col("x").min(), lambda rows: best(min, (row.x for row in rows))),
    "high": (col("n").max(), lambda rows: max(row.n for row in rows)),
    "kinds": (col("city").n_unique(), lambda rows: len({row.city for row in rows})),
    "odd": (count().filter(col("n") % 2 == 1), lambda rows: sum(row.n % 2 for row in rows)),
}


def starts(at: int, size: int, every: int) -> Iterator[int]:
    """Yield the starts of the windows that hold a time."""
    start = at // every * every
    while start > at - size:
        yield start
        start -= every


def windowed(rows: Sequence[Record], size: int, every: int, grace: int) -> tuple[dict[tuple[str, int], list[Record]], list[Record]]:
    """Return the rows of each (key, start), and those that no window took."""
    windows: dict[tuple[str, int], list[Record]] = {}
    late = []
    for row, w in watermarks(rows):
        if row.key is None or row.at is None:
            continue
        open_ = [start for start in starts(row.at, size, every) if w < start + size - 1 + grace]
        for start in open_:
            windows.setdefault((row.key, start), []).append(row)
        if not open_:
            late.append(row)
    return windows, late


def windows(variant: int) -> Family:
    """Return tumbling or hopping windows, with grace, closing or updating, and what was late for them."""
    draw = random.Random(variant)
    size, every = draw.choice([(25, 25), (60, 60), (50, 10), (40, 20), (200, 200)])
    grace, update, external = draw.choice([0, 0, 5, 30]), variant % 4 == 1, variant % 8 == 6
    names = draw.sample(list(AGGREGATES), draw.randint(0, 3))
    frame = tumbling(size) if size == every else hopping(size, every)

    def build() -> Topology:
        topology = Topology("windows")
        options = {"watermarks": "external", "disorder": "0s"} if external else {}
        keyed = stream(topology, **options).select("key", "city", "at", "x", "n").key_by("key")
        result = keyed.window(frame, grace=grace, emit="update" if update else "close").aggregate(
            k=count(), **{name: AGGREGATES[name][0] for name in names}
        )
        result.to(memory("out"))
        if not external:
            result.output("late").to(memory("late"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        found, late = windowed(inputs["in"], size, every, grace)
        if external:
            assert not late
        out: list[Out] = []
        for (key, start), rows in found.items():
            out.append((start + size - 1, (key, start, start + size, len(rows), *(AGGREGATES[name][1](rows) for name in names))))
        kept = Expected("P3", [(None, row) for _, row in out], (0, 1, 2), grows=3) if update else Expected("P1", out)
        return {"out": kept} if external else {"out": kept, "late": Expected("P1", [(row.at, row[:5]) for row in late])}

    return Family(
        f"windows {variant}",
        build,
        oracle,
        late=not external,
        external=external,
        counts=lambda inputs: {"null_keys": null_keys(inputs), "late": len(windowed(inputs["in"], size, every, grace)[1])},
        features=frozenset(["windows", *(["update"] if update else []), *(["external"] if external else ["late"])]),
    )


def sleepers(variant: int) -> Family:
    """Return windows over two sources whose splits fall asleep and wake late: which rows are late is chance, that none is lost is not."""
    grace = (0, 25)[variant % 2]

    def build() -> Topology:
        topology = Topology("sleepers")
        rows = stream(topology, "left").merge(stream(topology, "right")).select("key", "at", "n")
        result = rows.key_by("key").window(tumbling(40), grace=grace).aggregate(k=count(), total=col("n").sum())
        result.to(memory("out"))
        result.output("late").to(memory("late"))
        return topology

    def accounts(inputs: Inputs, found: Mapping[str, Sequence[Out]]) -> str | None:
        rows = [row for own in inputs.values() for row in own if row.key is not None]
        windows, late = found["out"], found["late"]
        closed = [row[:3] for _, row in windows]
        if len(set(closed)) < len(closed):
            return f"a window closed twice: {sorted(closed)}"
        if Counter(row for _, row in late) - Counter((row.key, row.at, row.n) for row in rows):
            return "a late row is none of the input, or came twice"
        held = sum(row[3] for _, row in windows), sum(row[4] for _, row in windows)
        if (held[0] + len(late), held[1] + sum(row[2] for _, row in late)) != (len(rows), sum(row.n for row in rows)):
            return f"windows hold {held[0]} rows, {len(late)} were late, and there were {len(rows)}"
        return None

    return Family(
        f"sleepers {variant}",
        build,
        lambda inputs: {},
        late=True,
        idle=True,
        same_keys=True,
        sources=("left", "right"),
        accounts=accounts,
        features=frozenset(["windows", "two sources", "sleepers"]),
    )


def nested(variant: int) -> Family:
    """Return windows of windows, by another key: the second must not take the first one's rows for late."""
    grace = (0, 15)[variant % 2]

    def build() -> Topology:
        topology = Topology("nested")
        first = stream(topology).key_by("key", "city").window(tumbling(50), grace=grace).aggregate(k=count())
        first.key_by("city").window(tumbling(200)).aggregate(most=col("k").max(), rows=count()).to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        first: dict[tuple[str, str, int], int] = {}
        for row in inputs["in"]:
            if row.key is not None and row.at is not None:
                first[row.key, row.city, row.at // 50] = first.get((row.key, row.city, row.at // 50), 0) + 1
        second: dict[tuple[str, int], list[int]] = {}
        for (_, city, number), k in first.items():
            second.setdefault((city, (number * 50 + 49) // 200 * 200), []).append(k)
        out: list[Out] = [(start + 199, (city, start, start + 200, max(ks), len(ks))) for (city, start), ks in second.items()]
        return {"out": Expected("P1", out)}

    return Family(f"nested {variant}", build, oracle, features=frozenset(["windows", "two exchanges"]))


def two_clocks(variant: int) -> Family:
    """Return windows over two sources: the slower one's watermark counts."""

    def build() -> Topology:
        topology = Topology("two-clocks")
        both = stream(topology, "left").merge(stream(topology, "right"))
        both.key_by("city").window(hopping(60, 20)).aggregate(k=count(), total=col("x").sum()).to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        found: dict[tuple[str, int], list[Record]] = {}
        for row in [*inputs["left"], *inputs["right"]]:
            for start in starts(row.at, 60, 20):  # type: ignore[arg-type]
                found.setdefault((row.city, start), []).append(row)
        out: list[Out] = [
            (start + 59, (city, start, start + 60, len(rows), total(row.x for row in rows))) for (city, start), rows in found.items()
        ]
        return {"out": Expected("P1", out)}

    return Family(
        f"two clocks {variant}", build, oracle, same_keys=True, sources=("left", "right"), features=frozenset(["windows", "two sources"])
    )


class Listed(Processor):
    """The rows of a window, in the order in which they came."""

    output = {"key": str, "start": int, "ns": str}

    def process_window(self, key, window, rows, ctx):
        yield {"key": key, "start": window.start, "ns": " ".join(str(row.n) for row in rows)}


def window_processor(variant: int) -> Family:
    """Return a Processor, or a reduction, on windows."""
    reduced = variant % 2 == 1

    def build() -> Topology:
        topology = Topology("window-processor")
        rows = stream(topology)
        if reduced:
            window = rows.select("key", "n").key_by("key").window(tumbling(60), grace=10)
            window.reduce(lambda a, b: {"n": (a.n * 31 + b.n) & 0xFFFFFF}).select("key", "window_start", "n").to(memory("out"))
        else:
            rows.key_by("key").window(tumbling(60), grace=10).process(Listed, name="listed").to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        out: list[Out] = []
        for (key, start), rows in windowed(inputs["in"], 60, 60, 10)[0].items():
            value: Any = rows[0].n
            for row in rows[1:]:
                value = (value * 31 + row.n) & 0xFFFFFF
            out.append((start + 59, (key, start, value if reduced else " ".join(str(row.n) for row in rows))))
        return {"out": Expected("P1", out)}

    return Family(f"window processor {variant}", build, oracle, together=("key",), late=True, features=frozenset(["windows", "processor"]))


# Processors ------------------------------------------------------------------------------------------------------------


class SequenceBrokenError(Exception):
    """A key's rows did not come one after another: one is lost, or came twice."""


class Numbered(Processor):
    """Holds every key's rows to their numbers: each is the one before it plus 1."""

    output = {"key": str, "n": int, "seen": int}

    def open(self, ctx):
        self.seen = ctx.state.value("seen", int)

    def process(self, row, ctx):
        seen = self.seen.get(0) + 1
        if row.seq != seen:
            raise SequenceBrokenError(f"row {row.seq} of the key {row.key!r} came when its row {seen} was due")
        self.seen.set(seen)
        yield {"key": row.key, "n": row.n, "seen": seen}


def sequence(variant: int) -> Family:
    """Return the sequence checker."""

    def build() -> Topology:
        topology = Topology("sequence")
        stream(topology).key_by("key").process(Numbered, name="sequence").to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        out: list[Out] = [(row.at, (key, row.n, row.seq)) for key, rows in by_key(inputs["in"]).items() for row in rows]
        return {"out": Expected("P2", out, (0,))}

    return Family(f"sequence {variant}", build, oracle, together=("key",), idle=True, features=frozenset(["processor"]))


TTL_VALUE, TTL_LIST, TTL_MAP = 50, 80, 120


class Collections(Processor):
    """What was set, appended and put a short while ago."""

    output = {"key": str, "n": int, "before": int, "recent": str, "kinds": str}

    def open(self, ctx):
        self.last = ctx.state.value("last", int, ttl=TTL_VALUE)
        self.recent = ctx.state.list("recent", int, ttl=TTL_LIST)
        self.kinds = ctx.state.map("kinds", str, int, ttl=TTL_MAP)

    def process(self, row, ctx):
        kinds = " ".join(f"{city}:{k}" for city, k in sorted(self.kinds.items()))
        yield {"key": row.key, "n": row.n, "before": self.last.get(-1), "recent": " ".join(map(str, self.recent.get())), "kinds": kinds}
        if row.n % 5:
            self.last.set(row.n)
        else:
            self.last.clear()
        self.recent.append(row.n)
        if row.n % 4:
            self.kinds.put(row.city, self.kinds.get(row.city, 0) + 1)
        else:
            self.kinds.remove(row.city)


def _collected(key: str, rows: Sequence[Record]) -> Iterator[Out]:
    last: tuple[int, int] | None = None  # value and the time from which it is gone
    recent: list[tuple[int, int]] = []
    kinds: dict[str, tuple[int, int]] = {}
    for row in rows:
        now = row.at
        assert now is not None
        alive = {city: k for city, (k, gone) in kinds.items() if now < gone}
        before = -1 if last is None or now >= last[1] else last[0]
        shown = " ".join(f"{city}:{k}" for city, k in sorted(alive.items()))
        yield now, (key, row.n, before, " ".join(str(n) for n, gone in recent if now < gone), shown)
        last = (row.n, now + TTL_VALUE) if row.n % 5 else None
        recent.append((row.n, now + TTL_LIST))
        if row.n % 4:
            kinds[row.city] = (alive.get(row.city, 0) + 1, now + TTL_MAP)
        else:
            kinds.pop(row.city, None)


def collections(variant: int) -> Family:
    """Return value, list and map state with a time to live."""

    def build() -> Topology:
        topology = Topology("collections")
        stream(topology).key_by("key").process(Collections, name="collections").to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        out = [one for key, rows in by_key(inputs["in"]).items() for one in _collected(key, rows)]
        return {"out": Expected("P2", out, (0,))}

    return Family(f"collections {variant}", build, oracle, together=("key",), features=frozenset(["processor", "ttl"]))


class Timers(Processor):
    """Each record sets a timer, every third cancels the one before while it may, and some set another when they fire."""

    output = {"key": str, "n": int, "fired": int}

    def open(self, ctx):
        self.due = ctx.state.value("due", int)
        self.name = ctx.state.value("name", str)

    def process(self, row, ctx):
        due = self.due.get()
        if row.n % 3 == 0 and due is not None and ctx.timestamp <= due:
            ctx.cancel_timer(due, name=self.name.get())
        at, name = ctx.timestamp + 10 * (row.n % 7), f"{row.n}"
        for _ in range(1 + row.n % 2):
            ctx.set_timer(at, name=name)
        self.due.set(at)
        self.name.set(name)

    def on_timer(self, timer, ctx):
        yield {"key": ctx.key, "n": int(timer.name.partition("+")[0]), "fired": timer.time}
        if timer.name.count("+") < int(timer.name.partition("+")[0]) % 3:
            ctx.set_timer(timer.time + 15, name=f"{timer.name}+")


def _fired(key: str, rows: Sequence[Record]) -> Iterator[Out]:
    cancelled = set()
    for before, row in itertools.pairwise(rows):
        assert before.at is not None and row.at is not None
        if row.n % 3 == 0 and row.at <= before.at + 10 * (before.n % 7):
            cancelled.add(before.n)
    for row in rows:
        assert row.at is not None
        for again in range(1 + row.n % 3) if row.n not in cancelled else ():
            at = row.at + 10 * (row.n % 7) + 15 * again
            yield at, (key, row.n, at)


def timers(variant: int) -> Family:
    """Return timers that are set, set twice, cancelled, and set by timers: each fires once."""

    def build() -> Topology:
        topology = Topology("timers")
        stream(topology).key_by("key").process(Timers, name="timers").to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        return {"out": Expected("P1", [one for key, rows in by_key(inputs["in"]).items() for one in _fired(key, rows)])}

    def fired(inputs: Inputs) -> dict[str, int]:
        return {"timers_fired": len(oracle(inputs)["out"].rows)}

    return Family(f"timers {variant}", build, oracle, together=("key",), counts=fired, features=frozenset(["processor", "timers"]))


class Mixed(Numbered):
    """Numbers the rows of a key, and says so again a while later: what a timer sees of the state is what was at its time."""

    output = {"key": str, "n": int, "seen": int}

    def process(self, row, ctx):
        ctx.set_timer(ctx.timestamp + 25, name=str(row.n))
        yield from super().process(row, ctx)

    def on_timer(self, timer, ctx):
        yield {"key": ctx.key, "n": int(timer.name), "seen": -1}


def gathered(variant: int) -> Family:
    """Return a frame, a table, a window and a Processor with timers behind one lookup, each with a sink of its own."""

    def build() -> Topology:
        topology = Topology("gathered")
        keyed = stream(topology).key_by("key")
        keyed.process(Mixed, name="mixed").to(memory("mixed"))
        keyed.aggregate(k=count()).to(memory("table"))
        keyed.window(tumbling(40)).aggregate(k=count()).to(memory("windows"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        keys = by_key(inputs["in"])
        mixed: list[Out] = []
        for key, rows in keys.items():
            mixed += [(row.at, (key, row.n, row.seq)) for row in rows]
            mixed += [(row.at + 25, (key, row.n, -1)) for row in rows]  # type: ignore[operator]
        closed: list[Out] = [
            (start + 39, (key, start, start + 40, len(rows))) for (key, start), rows in windowed(inputs["in"], 40, 40, 0)[0].items()
        ]
        return {
            "mixed": Expected("P1", mixed),
            "table": Expected("P3", [(None, (key, len(rows))) for key, rows in keys.items()], (0,), grows=1),
            "windows": Expected("P1", closed),
        }

    return Family(
        f"gathered {variant}", build, oracle, together=("key",), features=frozenset(["processor", "timers", "windows", "table", "frames"])
    )
