"""Families of windows of every kind and emission. What must come out, the model of `tests/windows` says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from streamdsl import Topology, col, count, count_window, hopping, memory, session, sliding, throttle, tumbling
from tests.simulation.family import Expected, Family, Inputs, Out, Record, null_keys, stream, watermarks
from tests.windows import model

#: ms of wall clock; a control step lets 1 to 5 ms pass.
THROTTLE_MS = 12
EMISSIONS = ("close", "update", "on_time", "throttle")


def through(rows: Iterable[Record], kind: model.Kind, emit: str, grace: int) -> model.Model:
    """Return the model of one window operator behind the rows, read one by one, and their end."""
    windows = model.Model(kind, emit, grace)
    for row, watermark in watermarks(rows):
        windows.on_watermark(watermark)
        windows.on_record(model.Record(row.n, row.key, row.at))  # type: ignore[arg-type]
    windows.on_end()
    return windows


def said(key: str, start: int, end: int, numbers: Sequence[int]) -> tuple[Any, ...]:
    """Return the row of a window that holds the rows of these numbers, in the order of arrival."""
    return key, start, end, len(numbers), sum(numbers), numbers[0], numbers[-1]


def said_by(windows: model.Model) -> list[Out]:
    """Return the rows that leave, but withdrawals."""
    return [(row.time, said(row.key, row.start, row.end, row.numbers)) for row in windows.rows if row.op == "value"]


def windows_of(name: str, window: Any, kind: model.Kind, *, emit: str, grace: int, external: bool = False) -> Family:
    """Return windows of one kind, by key, with aggregates that see the order of arrival; and what is late for them."""
    changes = isinstance(kind, model.Session) and emit != "close"
    counted = isinstance(kind, model.Counted)
    late = not external and not counted

    def build() -> Topology:
        topology = Topology("windowed")
        options = {"watermarks": "external", "disorder": "0s"} if external else {}
        keyed = stream(topology, **options).select("key", "n", "at").key_by("key")
        made = keyed.window(window, grace=grace, emit=throttle(THROTTLE_MS) if emit == "throttle" else emit).aggregate(
            k=count(), total=col("n").sum(), first=col("n").first(), last=col("n").last()
        )
        made.to(memory("out"))
        if late:
            made.output("late").select("n").to(memory("late"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        rows = inputs["in"]
        windows = through(rows, kind, "close" if emit in ("update", "throttle") or changes else emit, grace)
        out = said_by(windows)
        if changes:
            # Between two rows a throttled session may have taken records: what is withdrawn has them, too.
            found = {"out": Expected("changes", [(None, row) for _, row in out], (0, 1, 2), by_key=emit == "throttle")}
        elif emit in ("update", "throttle"):
            story = through(rows, kind, "update", grace)
            found = {"out": Expected("P3", [(None, row) for _, row in out], (0, 1, 2), grows=3, among={row for _, row in said_by(story)})}
        elif counted:
            # How far time has come when a window is full, or at the end, is chance.
            found = {"out": Expected("P1", [(None, row) for _, row in out], only=COLUMNS)}
        else:
            found = {"out": Expected("P1", out)}
        if late:
            at = {row.n: row.at for row in rows}
            found["late"] = Expected("P1", [(at[one.number], (one.number,)) for one in windows.late])
        return found

    def counts(inputs: Inputs) -> dict[str, int]:
        lost = 0 if counted else len(through(inputs["in"], kind, "close", grace).late)
        return {"null_keys": null_keys(inputs), "late": lost}

    features = {"windows", emit, name.partition(" ")[0], *(["late"] if late else [])}
    return Family(
        f"{name}, {emit}",
        build,
        oracle,
        together=("key",),
        late=late,
        external=external,
        idle=counted and not external,
        counts=counts,
        features=frozenset(features),
    )


COLUMNS = ("key", "window_start", "window_end", "k", "total", "first", "last")


def sessions(variant: int) -> Family:
    """Return sessions: rows of different sessions unite, and what was shown of them is withdrawn."""
    gap, grace = ((6, 0), (25, 0), (25, 30), (60, 10))[variant // 4 % 4]
    emit = EMISSIONS[variant % 4]
    return windows_of(f"session {variant}", session(gap), model.Session(gap), emit=emit, grace=grace, external=variant % 8 == 7)


def sliding_windows(variant: int) -> Family:
    """Return sliding windows."""
    size, grace = ((10, 0), (40, 15))[variant // 4 % 2]
    return windows_of(f"sliding {variant}", sliding(size), model.Sliding(size), emit=EMISSIONS[variant % 4], grace=grace)


def counted(variant: int) -> Family:
    """Return count windows."""
    n, every = ((3, 3), (4, 1), (2, 2), (5, 2))[variant % 4]
    return windows_of(
        f"counted {variant}", count_window(n, every=every), model.Counted(n, every), emit="close", grace=0, external=variant % 4 == 3
    )


def shifted(variant: int) -> Family:
    """Return tumbling and hopping windows with an offset, and the days of a zone; shown in all ways."""
    choices: Sequence[tuple[Any, model.Kind]] = (
        (tumbling(40, offset=7), model.Hopping(40, 40, 7)),
        (hopping(60, 20, offset=13), model.Hopping(60, 20, 13)),
        (tumbling("1d", tz="Africa/Abidjan"), model.Hopping(86_400_000, 86_400_000)),
    )
    window, kind = choices[variant // 4 % 3]
    grace = (0, 25)[variant % 2]
    return windows_of(f"shifted {variant}", window, kind, emit=EMISSIONS[variant // 2 % 4 if variant < 8 else variant % 4], grace=grace)


def two_stages(variant: int) -> Family:
    """Return windows over sessions, with grace: the second must not take the first one's rows for late."""
    grace = (0, 15)[variant % 2]

    def build() -> Topology:
        topology = Topology("two-stages")
        first = stream(topology).key_by("key").window(session(20), grace=grace).aggregate(k=count())
        first.key_by("k").window(tumbling(100)).aggregate(sessions=count(), keys=col("key").n_unique()).to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        found: dict[tuple[int, int], list[str]] = {}
        for at, row in said_by(through(inputs["in"], model.Session(20), "close", grace)):
            found.setdefault((row[3], at // 100 * 100), []).append(row[0])  # type: ignore[operator]
        out: list[Out] = [(start + 99, (k, start, start + 100, len(keys), len(set(keys)))) for (k, start), keys in found.items()]
        return {"out": Expected("P1", out)}

    return Family(f"two stages {variant}", build, oracle, features=frozenset(["windows", "session", "two exchanges"]))


FAMILIES: tuple[tuple[Family, ...], ...] = (
    tuple(sessions(i) for i in range(16)),
    tuple(sliding_windows(i) for i in range(8)),
    tuple(counted(i) for i in range(4)),
    tuple(shifted(i) for i in range(12)),
    tuple(two_stages(i) for i in range(2)),
)
