"""Frames and windows: plain values that say which records belong together."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass, replace
from typing import Literal

from streamdsl.durations import Duration, format_duration, parse_duration
from streamdsl.errors import TopologyError

__all__ = [
    "Emission",
    "Frame",
    "TableEmission",
    "Throttle",
    "Window",
    "count_window",
    "expanding",
    "hopping",
    "rolling",
    "session",
    "sliding",
    "throttle",
    "tumbling",
]

_DAY_MS = 86_400_000


def _positive(value: Duration, what: str) -> int:
    ms = parse_duration(value, what)
    if ms == 0:
        raise TopologyError(f"{what} must be longer than 0")
    return ms


@dataclass(frozen=True, slots=True)
class Frame:
    """Which earlier records of its key an aggregate sees; one row in, one row out."""

    kind: Literal["rolling", "expanding"]
    size_ms: int = 0
    exclude_current: bool = False

    def __str__(self) -> str:
        size = f'"{format_duration(self.size_ms)}"' if self.kind == "rolling" else ""
        excluded = "exclude_current=True" if self.exclude_current else ""
        return f"{self.kind}({', '.join(part for part in (size, excluded) if part)})"

    @property
    def slug(self) -> str:
        """Short text for automatic state names."""
        size = f"_{format_duration(self.size_ms)}" if self.kind == "rolling" else ""
        return f"{self.kind}{size}{'_before' if self.exclude_current else ''}"


@dataclass(frozen=True, slots=True)
class Throttle:
    """Emission of what has changed, at most once per `every_ms` of the wall clock. Made by `throttle`."""

    every_ms: int

    def __str__(self) -> str:
        return f'throttle("{format_duration(self.every_ms)}")'


#: When rows of a window leave.
Emission = Literal["close", "update", "on_time"] | Throttle

#: When the changed rows of a table leave: for each record, for each batch and key, or by the wall clock.
TableEmission = Literal["update", "batch"] | Throttle


def table_emission(verb: str, emit: object, *, throttles: bool = True) -> TableEmission:
    """Return the emission of a table, checked; not all tables are throttled."""
    match emit:
        case Throttle() if not throttles:
            raise TopologyError(
                f"{verb}: emit={emit}: rows of this table are not held back by the wall clock",
                remedy='use "batch", or throttle what comes before',
            )
        case "update" | "batch" | Throttle():
            return emit
    raise TopologyError(
        f"{verb}: emit={emit!r}: a table has no end at which its rows could leave", remedy='use "update", "batch" or throttle("1s")'
    )


def throttle(every: Duration) -> Throttle:
    """Emission of what has changed, at most once per `every` of the wall clock.

    Examples
    --------
    >>> topology = Topology("t")
    >>> topology.stream(memory("rows", {"x": int})).key_by().count(emit=throttle("1s")).to(memory("counts"))
    >>> driver = TopologyTestDriver(topology)
    >>> for x in range(3):
    ...     driver.send("rows", {"x": x})
    >>> before = driver.read("counts")
    >>> driver.advance_processing_time(1_000)
    >>> before, driver.read("counts")
    ([], [{'count': 3}])
    """
    return Throttle(_positive(every, "throttle"))


@dataclass(frozen=True, slots=True)
class Window:
    """Many rows in, one row per key and window out. All in ms.

    `size_ms` is the gap of a session and the number of records of a count window, `every_ms` the records between two of these.
    """

    kind: Literal["tumbling", "hopping", "session", "sliding", "count"]
    size_ms: int
    every_ms: int
    offset_ms: int = 0
    tz: str | None = None
    grace_ms: int = 0
    emit: Emission = "close"
    late: str = "late"

    @property
    def withdraws(self) -> bool:
        """Whether rows say what they are, in the column `op`: windows that have been shown may become one, with other bounds."""
        return self.kind == "session" and self.emit != "close"

    @property
    def refuses(self) -> bool:
        """Whether a record may be refused: one of the first moments there are, before which windows of it would begin."""
        return self.kind == "sliding" or (self.kind == "hopping" and self.every_ms == 1)

    def __str__(self) -> str:
        if self.kind == "count":
            every = f", every={self.every_ms}" if self.every_ms != self.size_ms else ""
            return f"count_window({self.size_ms}{every})"
        parts = [f'"{format_duration(self.size_ms)}"']
        if self.kind == "hopping":
            parts.append(f'"{format_duration(self.every_ms)}"')
        if self.offset_ms:
            parts.append(f'offset="{format_duration(self.offset_ms)}"')
        if self.tz is not None:
            parts.append(f'tz="{self.tz}"')
        return f"{self.kind}({', '.join(parts)})"

    @property
    def slug(self) -> str:
        """Short text for automatic state names."""
        if self.kind == "count":
            return f"count_{self.size_ms}" + (f"_{self.every_ms}" if self.every_ms != self.size_ms else "")
        every = f"_{format_duration(self.every_ms)}" if self.kind == "hopping" else ""
        offset = f"_at_{format_duration(self.offset_ms)}" if self.offset_ms else ""
        zone = "" if self.tz is None else f"_in_{self.tz.replace('/', '_')}"
        return f"{self.kind}_{format_duration(self.size_ms)}{every}{offset}{zone}"

    def emitting(self, *, grace: Duration, emit: Emission, late: str) -> Window:
        """Return the window with its grace, emission and the name of its output of late records."""
        if not isinstance(emit, Throttle) and emit not in ("close", "update", "on_time"):
            remedy = 'use "close", "update", "on_time" or throttle("1s")'
            if isinstance(emit, str) and emit.startswith("throttle"):
                remedy = 'throttle is a function: emit=throttle("1s")'
            raise TopologyError(f"emit={emit!r} is unknown", remedy=remedy)
        if not late:
            raise TopologyError("late= names an output and cannot be empty")
        grace_ms = parse_duration(grace, "grace")
        if grace_ms and self.kind == "count":
            raise TopologyError("count windows know no lateness: grace= has no meaning there", remedy="leave grace= out")
        return replace(self, grace_ms=grace_ms, emit=emit, late=late)


def rolling(size: Duration, *, exclude_current: bool = False) -> Frame:
    """Frame of the records with ``t - size < time <= t`` that arrived before, and the current one.

    Parameters
    ----------
    size : duration
    exclude_current : bool
        Leave the current record out.

    Examples
    --------
    >>> evaluate(col("x").sum().over(rolling("2ms")), x=[1, 2, 4])
    [1, 3, 6]
    >>> evaluate(col("x").sum().over(rolling("2ms", exclude_current=True)), x=[1, 2, 4])
    [0, 1, 2]
    """
    return Frame("rolling", _positive(size, "rolling size"), exclude_current)


def expanding(*, exclude_current: bool = False) -> Frame:
    """Frame of all records of the key so far, and the current one unless `exclude_current`.

    Examples
    --------
    >>> evaluate(col("x").max().over(expanding()), x=[2, 1, None, 4])
    [2, 2, 2, 4]
    >>> evaluate(col("x").max().over(expanding(exclude_current=True)), x=[2, 1, None, 4])
    [None, 2, 2, 2]
    """
    return Frame("expanding", 0, exclude_current)


def tumbling(size: Duration, *, offset: Duration = 0, tz: str | None = None) -> Window:
    """Windows of `size` side by side, aligned to the epoch plus `offset`.

    Parameters
    ----------
    size : duration
    offset : duration
        Where a window begins, from the epoch; with `tz`, from midnight. It may be negative: "-8h".
    tz : str, optional
        A time zone, as "America/Santiago": windows are whole days there, of 23 or 25 hours where clocks change.

    Examples
    --------
    >>> visits = memory("visits", {"at": int}, [{"at": at} for at in (0, 9_999, 10_000)])
    >>> keyed = Topology("t").stream(visits, timestamp="at").key_by()
    >>> keyed.window(tumbling("10s")).count().collect()["count"].to_pylist()
    [2, 1]
    >>> str(keyed.window(tumbling("1d", tz="America/Santiago")).count().collect()["window_start"][0])
    '1969-12-31 03:00:00+00:00'
    """
    size_ms = _positive(size, "tumbling size")
    if tz is not None:
        _check_zone(tz, size_ms)
    return Window("tumbling", size_ms, size_ms, parse_duration(offset, "offset", signed=True) % size_ms, tz)


def _check_zone(tz: str, size_ms: int) -> None:
    try:
        zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise TopologyError(
            f"tz={tz!r} is not a time zone that is known here",
            remedy='use a name as "America/Santiago"; where the system has no zones, install the package tzdata',
        ) from None
    if size_ms % _DAY_MS:
        raise TopologyError(
            f"tumbling({format_duration(size_ms)!r}, tz=...): windows of a time zone are whole days",
            remedy='use "1d", or leave tz= out: other windows are the same in every zone but for offset=',
        )


def hopping(size: Duration, every: Duration, *, offset: Duration = 0) -> Window:
    """Windows of `size`, one beginning `every` so often; a record is in ``size / every`` of them.

    Parameters
    ----------
    size, every : duration
    offset : duration
        Where a window begins, from the epoch. It may be negative: "-8h".

    Examples
    --------
    >>> visits = memory("visits", {"at": int}, [{"at": 1_000}, {"at": 11_000}])
    >>> windows = Topology("t").stream(visits, timestamp="at").key_by().window(hopping("20s", "10s"))
    >>> [(row["window_start"].second, row["count"]) for row in windows.count().collect().to_pylist()]
    [(50, 1), (0, 2), (10, 1)]
    """
    size_ms, every_ms = _positive(size, "hopping size"), _positive(every, "hopping every")
    if every_ms > size_ms:
        raise TopologyError(
            f"hopping({format_duration(size_ms)!r}, {format_duration(every_ms)!r}) leaves gaps between windows",
            remedy="every must not be longer than size",
        )
    return Window("hopping", size_ms, every_ms, parse_duration(offset, "offset", signed=True) % every_ms)


def sliding(size: Duration, every: Duration | None = None) -> Window:
    """Windows ``[a, a + size]``, closed at both ends: one ends at each record, one begins just after each that others follow.

    They are those of Kafka Streams (KIP-450). With `every` it would be `hopping`, which is what the error says.

    Examples
    --------
    >>> visits = memory("visits", {"at": int}, [{"at": 0}, {"at": 10_000}])
    >>> counts = Topology("t").stream(visits, timestamp="at").key_by().window(sliding("10s")).count()
    >>> [(row["window_end"].second, row["count"]) for row in counts.collect().to_pylist()]
    [(0, 1), (10, 2), (10, 1)]
    """
    if every is not None:
        raise TopologyError(
            "sliding windows have no fixed step: sliding(size, every) does not exist",
            remedy=f"use hopping({size!r}, {every!r})",
        )
    size_ms = _positive(size, "sliding size")
    return Window("sliding", size_ms, size_ms)


def session(gap: Duration) -> Window:
    """Windows of records at most `gap` apart: `window_start` is the time of the first, `window_end` that of the last plus `gap`.

    Examples
    --------
    >>> visits = memory("visits", {"at": int}, [{"at": at} for at in (0, 5_000, 10_001)])
    >>> counts = Topology("t").stream(visits, timestamp="at").key_by().window(session("5s")).count()
    >>> [(row["window_end"].second, row["count"]) for row in counts.collect().to_pylist()]
    [(10, 2), (15, 1)]
    """
    gap_ms = _positive(gap, "session gap")
    return Window("session", gap_ms, gap_ms)


def count_window(n: int, *, every: int | None = None) -> Window:
    """Windows of `n` records of a key by arrival, one beginning `every` so many records (default: `n`).

    Bounds of a window are the times of its earliest and latest record. Those that are not full yet close at the end of the input.

    Examples
    --------
    >>> rows = Topology("t").stream(memory("rows", rows=[{"x": x} for x in range(5)])).key_by()
    >>> lists = rows.window(count_window(3, every=2)).aggregate(x=col("x").to_list())
    >>> lists.collect()["x"].to_pylist()
    [[0, 1, 2], [2, 3, 4], [4]]
    """
    step = n if every is None else every
    for name, value in (("n", n), ("every", step)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
            raise TopologyError(f"count_window: {name}={value!r} is not a positive number of records")
    if step > n:
        raise TopologyError(f"count_window({n}, every={step}) leaves out records", remedy="every must not be greater than n")
    return Window("count", n, step)
