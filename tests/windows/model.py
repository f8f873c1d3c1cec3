"""Windows and emissions as `semantics.md` has them: slow, obvious, and written from the document alone.

A pane is one window of one key. Nothing is incremental: a pane keeps all its records, and what a row says is computed from them.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

LOW, HIGH = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Record:
    """A record in the order of arrival; numbers are unique, so that a list of them tells which records a window had."""

    number: int
    key: str | None
    time: int


@dataclass
class Pane:
    """One window of one key: its bounds, its last moment and its records by arrival."""

    key: str
    start: int
    end: int
    last: int
    records: list[Record]
    shown: tuple[int, int] | None = None  # bounds of its last row that left
    on_time: bool = False  # W has passed its last moment, and its row has left
    changed: bool = False  # since its last row (throttle)
    time: int | None = None  # of its row, where that is not its last moment

    @property
    def order(self) -> tuple[int, int, bytes]:
        """Windows close in order of end, then start, then key."""
        return (self.end, self.start, self.key.encode())


@dataclass(frozen=True)
class Row:
    """What leaves: the state of a pane, or the withdrawal of its bounds."""

    op: str  # "value" or "withdraw"
    key: str
    start: int
    end: int
    time: int
    numbers: tuple[int, ...]

    @property
    def pane(self) -> tuple[str, int, int]:
        """What the row is about."""
        return (self.key, self.start, self.end)


def clamped(moment: int) -> int:
    """Arithmetic on times saturates."""
    return max(LOW, min(HIGH, moment))


# Which windows ---------------------------------------------------------------------------------------------------------


class Fixed:
    """Windows that are there whatever the records are."""

    def bounds(self, time: int) -> Iterator[tuple[int, int]]:
        """Yield start and end of the windows that hold a moment, in ascending start."""
        raise NotImplementedError

    def add(self, model: Model, record: Record) -> bool:
        taken = False
        for start, end in self.bounds(record.time):
            if not model.is_open(end - 1):
                model.refusals += 1
                continue
            pane = model.find(record.key, start, end)
            if pane is None:
                pane = Pane(record.key, start, end, end - 1, [])
                model.panes.append(pane)
            pane.records.append(record)
            model.on_change(pane)
            taken = True
        return taken


@dataclass(frozen=True)
class Hopping(Fixed):
    """`[start, start + size)` with start = offset + k · every; tumbling if every is the size."""

    size: int
    every: int
    offset: int = 0

    def bounds(self, time: int) -> Iterator[tuple[int, int]]:
        first = (time - self.size - self.offset) // self.every - 1
        for k in range(first, first + self.size // self.every + 4):
            start = k * self.every + self.offset
            if start <= time < start + self.size:
                yield start, start + self.size


@dataclass(frozen=True)
class Days(Fixed):
    """The days of a time zone: all moments with one local date."""

    tz: str

    def date(self, time: int) -> datetime.date:
        moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=time)
        return moment.astimezone(zoneinfo.ZoneInfo(self.tz)).date()

    def bounds(self, time: int) -> Iterator[tuple[int, int]]:
        date, quarter = self.date(time), 900_000  # clocks change at whole quarters of an hour
        start = time // quarter * quarter
        while self.date(start - 1) == date:
            start -= quarter
        end = time // quarter * quarter + quarter
        while self.date(end) == date:
            end += quarter
        yield start, end


@dataclass(frozen=True)
class Session:
    """Records at most `gap` apart belong together; `last + gap` is the last moment and the end."""

    gap: int

    def add(self, model: Model, record: Record) -> bool:
        near = [
            pane
            for pane in model.panes
            if pane.key == record.key and pane.start - self.gap <= record.time and record.time <= pane.end  # end is last + gap
        ]
        records = sorted([record, *(one for pane in near for one in pane.records)], key=lambda one: one.number)
        times = [one.time for one in records]
        end = max(times) + self.gap
        if not model.is_open(end):
            assert not near, "a session that is open stays open when it grows"
            model.refusals += 1
            return False
        made = Pane(record.key, min(times), end, end, records)
        for pane in sorted(near, key=lambda pane: pane.start):
            model.panes.remove(pane)
            if pane.shown is not None:
                if pane.shown == (made.start, made.end):
                    made.shown = pane.shown
                else:
                    model.withdraw(pane)
        model.panes.append(made)
        model.on_change(made)
        return True


@dataclass(frozen=True)
class Sliding:
    """`[a, a + size]`, one ending at each record and one beginning just after each, without empty ones."""

    size: int

    def add(self, model: Model, record: Record) -> bool:
        earlier = [one for one in model.accepted if one.key == record.key]
        together = [*earlier, record]
        starts = sorted({one.time - self.size for one in together} | {one.time + 1 for one in together})
        taken, new, changed = False, [], []
        for start in starts:
            end = start + self.size
            inside = [one for one in together if start <= one.time <= end]
            pane = model.find(record.key, start, end)
            if not inside or not model.is_open(end) or (pane is not None and record not in inside):
                continue
            if pane is None:
                pane = Pane(record.key, start, end, end, [])
                new.append(pane)
            pane.records = inside
            taken = taken or record in inside
            changed.append(pane)
        if taken:
            model.accepted.append(record)
            model.panes += new
            for pane in changed:  # in ascending start
                model.on_change(pane)
        else:
            model.refusals += 1
        return taken


@dataclass(frozen=True)
class Counted:
    """`n` records of a key by arrival, one window beginning every `every` records. Its bounds are its least and greatest time.

    Records may be as old as they like, and no window waits for them: a row has a time above W, so that no later stage finds it late.
    """

    n: int
    every: int

    def add(self, model: Model, record: Record) -> bool:
        place = sum(one.key == record.key for one in model.accepted)
        model.accepted.append(record)
        if place % self.every == 0:
            never = 4 * HIGH  # by the watermark
            model.panes.append(Pane(record.key or "", record.time, record.time, never, []))
        for pane in [one for one in model.panes if one.key == record.key]:
            pane.records.append(record)
            times = [one.time for one in pane.records]
            pane.start, pane.end, pane.time = min(times), max(times), max(times)
            if len(pane.records) == self.n:
                model.close(pane)
        return True


Kind = Fixed | Session | Sliding | Counted


# When rows leave ---------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """A window operator. `emit` is "close", "update", "on_time" or "throttle"."""

    kind: Kind
    emit: str = "close"
    grace: int = 0
    watermark: int = LOW
    reached: int = LOW  # W before the end, which lies above all
    panes: list[Pane] = field(default_factory=list)
    accepted: list[Record] = field(default_factory=list)  # what sliding windows of later records may look back at
    rows: list[Row] = field(default_factory=list)
    late: list[Record] = field(default_factory=list)
    refusals: int = 0
    null_keys: int = 0

    def is_open(self, last: int) -> bool:
        """The one rule: a window is open while W < max_ts + grace."""
        return self.watermark < last + self.grace

    def find(self, key: str | None, start: int, end: int) -> Pane | None:
        return next((pane for pane in self.panes if (pane.key, pane.start, pane.end) == (key, start, end)), None)

    def on_record(self, record: Record) -> None:
        if record.key is None:
            self.null_keys += 1
        elif not self.kind.add(self, record):
            self.late.append(record)

    def on_watermark(self, watermark: int) -> None:
        """W rises: what is over leaves in order of end, start and key."""
        if watermark <= self.watermark:
            return
        self.watermark = self.reached = watermark
        self._pass(lambda last: watermark >= last)

    def on_end(self) -> None:
        """Every open window closes."""
        self.watermark = HIGH
        self._pass(lambda last: True)

    def on_clock(self) -> None:
        """Wall-clock time has passed, more than the d of throttle(d)."""
        for pane in sorted(self.panes, key=lambda one: one.order):
            if pane.changed:
                self._show(pane)

    def _pass(self, over: Callable[[int], bool]) -> None:
        for pane in sorted(self.panes, key=lambda one: one.order):
            if self.emit == "on_time" and not pane.on_time and over(pane.last):
                pane.on_time = True
                self._show(pane)
            if over(pane.last + self.grace):
                self.close(pane)

    def close(self, pane: Pane) -> None:
        """A pane is over."""
        if self.emit == "close" or pane.changed:
            self._show(pane)
        self.panes.remove(pane)

    def on_change(self, pane: Pane) -> None:
        """The aggregate of a pane changed."""
        if self.emit == "update":
            self._show(pane)
        elif self.emit == "on_time":
            pane.on_time = self.watermark >= pane.last
            if pane.on_time:
                self._show(pane)
        elif self.emit == "throttle":
            pane.changed = True

    def withdraw(self, pane: Pane) -> None:
        """The bounds of a row that has left are no longer those of a window."""
        assert pane.shown is not None
        self.rows.append(Row("withdraw", pane.key, clamped(pane.shown[0]), clamped(pane.shown[1]), clamped(pane.last), ()))

    def _show(self, pane: Pane) -> None:
        pane.shown, pane.changed = (pane.start, pane.end), False
        numbers = tuple(one.number for one in pane.records)
        time = pane.last if pane.time is None else max(pane.time, self.reached + 1)
        self.rows.append(Row("value", pane.key, clamped(pane.start), clamped(pane.end), clamped(time), numbers))


@dataclass
class Valve:
    """The watermark of several inputs: the least of those that are neither idle nor ended, and never back."""

    inputs: int
    watermark: int = LOW

    def __post_init__(self) -> None:
        self.at = [LOW] * self.inputs
        self.idle = [False] * self.inputs
        self.behind = [False] * self.inputs  # woken below the output: out of the minimum until it has caught up

    def on_watermark(self, which: int, watermark: int) -> int:
        if not self.idle[which]:
            self.at[which] = max(self.at[which], watermark)
            self.behind[which] = self.behind[which] and self.at[which] < self.watermark
        return self._settled()

    def on_idle(self, which: int) -> int:
        self.idle[which] = True
        return self._settled()

    def on_active(self, which: int) -> int:
        if self.idle[which]:
            self.idle[which], self.behind[which] = False, self.at[which] < self.watermark
        return self._settled()

    def _settled(self) -> int:
        counted = [self.at[i] for i in range(self.inputs) if not self.idle[i] and not self.behind[i]]
        if counted:
            self.watermark = max(self.watermark, min(counted))
        elif all(self.idle):
            self.watermark = max(self.watermark, *self.at)
        return self.watermark


def applied(rows: Iterable[Row], known: dict[tuple[str, int, int], tuple[int, ...]]) -> dict[tuple[str, int, int], tuple[int, ...]]:
    """Return what is known of each window after rows are applied one by one, by key and bounds (P3)."""
    after = dict(known)
    for row in rows:
        if row.op == "withdraw":
            assert row.pane in after, f"{row} withdraws what is not there"
            del after[row.pane]
        else:
            after[row.pane] = row.numbers
    return after
