"""One source after another: `history.then(live)`."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from streamdsl.connectors.base import END, METADATA_COLUMNS, Chunk, End, Json, Rejected, Source, SplitFeed, SplitReader
from streamdsl.errors import TopologyError

__all__ = ["Then"]


class Then(Source):
    """Reads all of `first`, then `second`: no record of the second comes before the last of the first has been read.

    Splits of the second are idle meanwhile, so that the watermark goes with the first.

    Parameters
    ----------
    first : Source
        Ends.
    second : Source
        Of the same columns.

    Raises
    ------
    TopologyError
        The first does not end, their columns differ, or one is partitioned by a key.
    """

    # Read in turn: a split that waits for others must not be waited for.
    bounded = False

    def __init__(self, first: Source, second: Source) -> None:
        if not first.bounded:
            raise TopologyError(f"then: {first.name!r} does not end", remedy='give it an end, such as kafka(..., until="latest")')
        if second.schema.fields and first.schema.fields and first.schema != second.schema:
            raise TopologyError(
                f"then: the columns of {first.name!r} and {second.name!r} differ: {first.schema} and {second.schema}",
                remedy="give both the same schema",
            )
        for source in (first, second):
            if source.partitioned_by is not None:
                raise TopologyError(
                    f"then: {source.name!r} is partitioned_by={source.partitioned_by!r}, and two sources have no partitions in common",
                    remedy="leave partitioned_by= out: rows then change tasks by key",
                )
        self.first, self.second = first, second
        self.name, self.errors = second.name, second.errors
        self.schema = second.schema if second.schema.fields else first.schema
        self.locates_rows = first.locates_rows and second.locates_rows
        self.position_form = " then ".join(part for part in (first.position_form, second.position_form) if part)
        self.changes = first.changes or second.changes
        self.idle_timeout, self.max_ahead = second.idle_timeout, second.max_ahead
        self._gate = _Gate(())

    def configured(self, config: Any, job: str) -> Then:
        """Return the two as `job` uses them."""
        return Then(self.first.configured(config, job), self.second.configured(config, job))

    def of_table(self, keys: Sequence[str], time: str | None) -> Then:
        """Return the two as a table reads them."""
        return Then(self.first.of_table(keys, time), self.second.of_table(keys, time))

    def parts(self) -> Sequence[Source]:
        """Return the sources of both."""
        return (*self.first.parts(), *self.second.parts())

    def has_more(self, split: str, position: Json) -> bool:
        """Return whether a split of one of them goes on. The first is history: once the second was begun, it has been read."""
        return split not in set(self.first.splits()) and self.second.has_more(split, position)

    def splits(self) -> Sequence[str]:
        """Return the splits of both."""
        first = list(self.first.splits())
        # Every task of a start asks: the gate is the start's, and they share it.
        self._gate.expect(first)
        return [*first, *self.second.splits()]

    def position_of_added(self, split: str) -> Json:
        """Return where a split of one of them begins that has come since the checkpoint."""
        return None if split in set(self.first.splits()) else self.second.position_of_added(split)

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Open one split."""
        return self.open_splits({split: position}, columns, own_time=True)[split]

    def open_splits(self, positions: Mapping[str, Json], columns: Sequence[str], *, own_time: bool) -> Mapping[str, SplitReader]:
        """Open splits of one or both."""
        known, gate = set(self.first.splits()), self._gate
        mine = {split: position for split, position in positions.items() if split in known}
        rest = {split: position for split, position in positions.items() if split not in known}
        readers: dict[str, SplitReader] = {}
        try:
            if mine:
                opened = self.first.open_splits(mine, columns, own_time=own_time)
                readers.update({split: _First(reader, gate, split) for split, reader in opened.items()})
            if rest:
                opened = self.second.open_splits(rest, columns, own_time=own_time)
                nothing = self._no_rows(columns)
                readers.update({split: _Second(reader, gate, nothing, rest[split]) for split, reader in opened.items()})
        except BaseException:
            for reader in readers.values():
                reader.close()
            raise
        return readers

    def _no_rows(self, columns: Sequence[str]) -> pa.RecordBatch:
        types = {**METADATA_COLUMNS, **{field.name: field.type for field in self.schema.fields}}
        return pa.RecordBatch.from_arrays([pa.array([], types[name]) for name in columns], names=list(columns))


class _Gate:
    """Opens when the last split of the first source has ended. Readers of several threads look at it."""

    def __init__(self, splits: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._left = set(splits)
        self._ended: set[str] = set()
        self._asked: dict[SplitFeed, SplitFeed] = {}

    def expect(self, splits: Iterable[str]) -> None:
        """Have these end first, but those that have."""
        with self._lock:
            self._left = set(splits) - self._ended

    def end(self, split: str) -> None:
        """A split has ended."""
        with self._lock:
            self._ended.add(split)
            self._left.discard(split)

    @property
    def open(self) -> bool:
        """Whether all have ended."""
        return not self._left

    def asked(self, feed: SplitFeed) -> SplitFeed:
        """Return the feed without a way around the readers, which look at the gate; the same one for all of its splits."""
        with self._lock:
            return self._asked.setdefault(feed, _Asked(feed))


class _Asked(SplitFeed):
    def __init__(self, inner: SplitFeed) -> None:
        self._inner = inner

    def poll(self) -> Collection[str] | None:
        return self._inner.poll()

    def unsure(self) -> Collection[str] | None:
        return self._inner.unsure()


class _Wrapped(SplitReader):
    def __init__(self, inner: SplitReader, gate: _Gate) -> None:
        self._inner, self._gate = inner, gate

    def position(self, chunk: Chunk, rows: int) -> Json:
        return self._inner.position(chunk, rows)

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected | None:
        return self._inner.rejected(chunk, row, reason)

    def start(self) -> Json:
        return self._inner.start()

    def caught_up(self) -> bool:
        return self._inner.caught_up()

    def feed(self) -> SplitFeed | None:
        feed = self._inner.feed()
        return None if feed is None else self._gate.asked(feed)

    def lag(self) -> int | None:
        return self._inner.lag()

    def bytes_read(self) -> tuple[int, int] | None:
        return self._inner.bytes_read()

    def uncommitted(self) -> int | None:
        return self._inner.uncommitted()

    def had_ended(self) -> None:
        self._inner.had_ended()

    def committed(self, position: Json) -> None:
        self._inner.committed(position)

    def close(self) -> None:
        self._inner.close()


class _First(_Wrapped):
    def __init__(self, inner: SplitReader, gate: _Gate, split: str) -> None:
        super().__init__(inner, gate)
        self._split = split

    def read(self, max_rows: int) -> Chunk | End | None:
        chunk = self._inner.read(max_rows)
        if chunk is END:
            self._gate.end(self._split)
        return chunk

    def had_ended(self) -> None:
        self._inner.had_ended()
        self._gate.end(self._split)


class _Second(_Wrapped):
    def __init__(self, inner: SplitReader, gate: _Gate, nothing: pa.RecordBatch, position: Json) -> None:
        super().__init__(inner, gate)
        self._nothing = Chunk(nothing, inner.start() if position is None else position, idle=True)
        self._idle = False

    def read(self, max_rows: int) -> Chunk | End | None:
        if self._gate.open:
            return self._inner.read(max_rows)
        if self._idle:
            return None
        self._idle = True
        return self._nothing

    def caught_up(self) -> bool:
        # It is not its turn: what waits there holds back nobody.
        return not self._gate.open or self._inner.caught_up()

    def position(self, chunk: Chunk, rows: int) -> Json:
        return chunk.position if chunk is self._nothing else self._inner.position(chunk, rows)
