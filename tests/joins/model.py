"""Joins as `semantics.md` has them: slow, obvious, and written from the document alone. Nothing is ever freed or indexed."""

from __future__ import annotations

from dataclasses import dataclass, field

LOW, HIGH = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Record:
    """A record of one side; numbers are unique."""

    number: int
    key: str | None
    time: int


@dataclass(frozen=True)
class Joined:
    """A row that leaves: its time, its key, and the numbers of the two sides (None: unmatched)."""

    time: int
    key: str | None
    left: int | None
    right: int | None


@dataclass(frozen=True)
class Interval:
    """Pairs with `-before <= right.t - left.t <= after`. None: unbounded."""

    how: str  # "inner", "left", "right", "outer"
    before: int | None
    after: int | None
    grace: int = 0

    def holds(self, left: Record, right: Record) -> bool:
        """Tell whether two records of one key are a pair."""
        if self.before is None or self.after is None:
            return True
        return -self.before <= right.time - left.time <= self.after

    def keeps(self, side: str) -> bool:
        """Tell whether unmatched rows of a side come out."""
        return self.how in (side, "outer")


@dataclass
class IntervalModel:
    """A stream-stream join."""

    join: Interval
    watermark: int = LOW
    left: list[Record] = field(default_factory=list)
    right: list[Record] = field(default_factory=list)
    matched: set[int] = field(default_factory=set)  # numbers of rows that ever matched
    told: set[int] = field(default_factory=set)  # numbers of rows that came out unmatched
    rows: list[Joined] = field(default_factory=list)
    late: list[int] = field(default_factory=list)

    def on_record(self, side: str, record: Record) -> None:
        """A row arrives: it is late, or it meets all rows of the other side."""
        if record.key is None:
            if self.join.keeps(side):
                self._unmatched(side, record)
            return
        if self.join.before is not None and record.time + self.join.grace <= self.watermark:
            self.late.append(record.number)
            return
        own, other = (self.left, self.right) if side == "left" else (self.right, self.left)
        own.append(record)
        for one in other:
            left, right = (record, one) if side == "left" else (one, record)
            if left.key == right.key and self.join.holds(left, right):
                assert right.number not in self.told and left.number not in self.told, "an unmatched row came too early"
                self.matched |= {left.number, right.number}
                self.rows.append(Joined(max(left.time, right.time), left.key, left.number, right.number))
        self._due()

    def on_watermark(self, watermark: int) -> None:
        """W rises: rows that can no longer match come out unmatched, once."""
        self.watermark = max(self.watermark, watermark)
        self._due()

    def on_end(self) -> None:
        """All that has not matched never will."""
        self.watermark = HIGH
        self._due()

    def _due(self) -> None:
        for side, records, reach in (("left", self.left, self.join.after), ("right", self.right, self.join.before)):
            for record in sorted(records, key=lambda one: one.time):
                last = HIGH if reach is None else record.time + reach + self.join.grace
                over = self.watermark >= last
                if self.join.keeps(side) and over and record.number not in self.matched | self.told:
                    self._unmatched(side, record)

    def _unmatched(self, side: str, record: Record) -> None:
        self.told.add(record.number)
        left, right = (record.number, None) if side == "left" else (None, record.number)
        self.rows.append(Joined(record.time, record.key, left, right))


@dataclass
class AsOfModel:
    """For each left record the latest right one of its key at or before its time; it leaves when W has reached its time."""

    tolerance: int | None = None
    allow_exact: bool = True
    watermark: int = LOW
    waiting: list[Record] = field(default_factory=list)
    right: list[Record] = field(default_factory=list)
    rows: list[Joined] = field(default_factory=list)

    def on_record(self, side: str, record: Record) -> None:
        assert record.time > self.watermark, "late records have no promise"
        if side == "left" and record.key is None:
            # As in other joins: what can match nothing comes out at once.
            self.rows.append(Joined(record.time, None, record.number, None))
            return
        if record.key is None:
            if side == "left":  # it waits for nothing
                self.rows.append(Joined(record.time, None, record.number, None))
            return
        (self.waiting if side == "left" else self.right).append(record)

    def on_watermark(self, watermark: int) -> None:
        self.watermark = max(self.watermark, watermark)
        for record in sorted((one for one in self.waiting if one.time <= self.watermark), key=lambda one: one.time):
            self.waiting.remove(record)
            found = [one for one in self.right if one.key == record.key and self._sees(record, one)]
            latest = max((one.time for one in found), default=None)
            # Of equal times the one that arrived last.
            best = [one for one in found if one.time == latest][-1:]
            self.rows.append(Joined(record.time, record.key, record.number, best[0].number if best else None))

    def on_end(self) -> None:
        self.on_watermark(HIGH)

    def _sees(self, left: Record, right: Record) -> bool:
        if right.time > left.time or (right.time == left.time and not self.allow_exact):
            return False
        return self.tolerance is None or left.time - right.time <= self.tolerance


@dataclass
class StreamTableModel:
    """Only the stream side emits, against the table as it is then. A right record without a value is a tombstone."""

    how: str  # "inner" or "left"
    table: dict[str, int] = field(default_factory=dict)
    rows: list[Joined] = field(default_factory=list)

    def on_record(self, side: str, record: Record, *, tombstone: bool = False) -> None:
        if side == "right":
            if record.key is not None and tombstone:
                self.table.pop(record.key, None)
            elif record.key is not None:
                self.table[record.key] = record.number
            return
        found = None if record.key is None else self.table.get(record.key)
        if found is not None or self.how == "left":
            self.rows.append(Joined(record.time, record.key, record.number, found))
