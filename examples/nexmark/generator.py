"""Events of Nexmark, made as columns: the same number and seed give the same events.

Of 50 events one is a person, three are auctions and 46 are bids. Half of the bids go to one auction of a hundred, three of
four to one bidder; prices, categories and channels are spread as in the generator of the benchmark's first implementation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["BASE_TIME", "Events", "generate"]

#: The first event's time, 2015-07-14 23:59:20 UTC: at the default rate the day ends after 400,000 events.
BASE_TIME: Final = 1_436_918_360_000
#: Of so many events…
ROUND: Final = 50
PERSONS, AUCTIONS = 1, 3

FIRST_ID: Final = 1_000
FIRST_CATEGORY, CATEGORIES = 10, 5
ACTIVE_PERSONS, ACTIVE_AUCTIONS = 1_000, 100
#: A bid may name an auction, and a bidder, that is only about to come.
LEAD: Final = 10
HOT_EVERY: Final = 100
CHANNELS: Final = 10_000
#: Events are made so many at a time.
PIECE: Final = 1_000_000

_HOT_CHANNELS: Final = ["Google", "Facebook", "Baidu", "Apple"]
_STATES: Final = ["AZ", "CA", "ID", "OR", "WA", "WY"]
_CITIES: Final = ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"]
_FIRST_NAMES: Final = ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"]
_LAST_NAMES: Final = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"]


@dataclass(frozen=True)
class Events:
    """Three tables, each in its order of arrival."""

    person: pa.Table
    auction: pa.Table
    bid: pa.Table

    def __iter__(self) -> Any:
        return iter((("person", self.person), ("auction", self.auction), ("bid", self.bid)))


def generate(count: int, *, rate: int = 10_000, disorder_ms: int = 0, seed: int = 1) -> Events:
    """Return `count` events of all three kinds together.

    Parameters
    ----------
    count : int
    rate : int
        Events per second of event time.
    disorder_ms : int
        How far an event may arrive behind later ones: 0 gives them in order.
    seed : int
    """
    pieces = [_piece(first, min(PIECE, count - first), rate, seed) for first in range(0, count, PIECE)] or [_piece(0, 0, rate, seed)]
    tables = [pa.Table.from_batches([piece[kind] for piece in pieces]) for kind in range(3)]
    return Events(*(_disordered(table, disorder_ms, seed) for table in tables))


def _piece(first: int, count: int, rate: int, seed: int) -> tuple[pa.RecordBatch, pa.RecordBatch, pa.RecordBatch]:
    numbers = pa.array(range(first, first + count), pa.int64())
    place = _mod(numbers, ROUND)
    persons = pc.less(place, PERSONS)
    bids = pc.greater_equal(place, PERSONS + AUCTIONS)
    return (
        _persons(_Draws(numbers.filter(persons), rate, seed)),
        _auctions(_Draws(numbers.filter(pc.invert(pc.or_(persons, bids))), rate, seed)),
        _bids(_Draws(numbers.filter(bids), rate, seed)),
    )


class _Draws:
    """Numbers of some events, and what is drawn for each: a hash of the number, the seed and how often it was asked."""

    def __init__(self, numbers: pa.Int64Array, rate: int, seed: int) -> None:
        self.numbers, self.rate, self._seed, self._asked = numbers, rate, seed, 0
        self.round = pc.divide(numbers, ROUND)
        self.place = pc.subtract(numbers, pc.multiply(self.round, ROUND))
        self.time = pc.add(pc.divide(pc.multiply(numbers, 1_000), rate), BASE_TIME)

    def bits(self) -> pa.UInt64Array:
        self._asked += 1
        salt = (self._seed * 1_000_003 + self._asked) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        bits = pc.add(pc.multiply(self.numbers.cast(pa.uint64()), _whole(0xD1342543DE82EF95)), _whole(salt))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            bits = pc.multiply(pc.bit_wise_xor(bits, pc.shift_right(bits, _whole(shift))), _whole(factor))
        return pc.bit_wise_xor(bits, pc.shift_right(bits, _whole(31)))

    def below(self, bound: int | pa.Int64Array) -> pa.Int64Array:
        """Draw integers from 0 to `bound`, exclusive; the bound may be another for each event."""
        return _mod(pc.shift_right(self.bits(), _whole(2)).cast(pa.int64()), bound)

    def one_of(self, values: Sequence[str]) -> pa.StringArray:
        return pa.array(values, pa.string()).take(self.below(len(values)))

    def price(self) -> pa.Int64Array:
        """Draw a price from 1.00 to 1,000,000.00 in cents, as many of each magnitude."""
        fraction = pc.divide(self.below(1 << 52).cast(pa.float64()), float(1 << 52))
        return pc.floor(pc.add(pc.multiply(pc.power(10.0, pc.multiply(fraction, 6.0)), 100.0), 0.5)).cast(pa.int64())

    def text(self, length: int) -> pa.StringArray:
        """Draw filler of so many characters."""
        words = [self.bits().cast(pa.string()) for _ in range(math.ceil(length / 16))]
        return pc.utf8_slice_codeunits(_joined(*words), 0, length)

    def person(self) -> pa.Int64Array:
        """Draw a person that is active, or about to come."""
        known = pc.add(self.round, 1)
        active = pc.min_element_wise(known, ACTIVE_PERSONS)
        return pc.add(pc.subtract(known, active), self.below(pc.add(active, LEAD)))

    def hot(self, ratio: int) -> pa.BooleanArray:
        """Draw true, but for one of `ratio`."""
        return pc.greater(self.below(ratio), 0)


def _persons(draws: _Draws) -> pa.RecordBatch:
    first, last = draws.one_of(_FIRST_NAMES), draws.one_of(_LAST_NAMES)
    card = _joined(*(pc.utf8_lpad(draws.below(10_000).cast(pa.string()), 4, "0") for _ in range(4)), by=" ")
    return _batch(
        n=draws.numbers,
        id=pc.add(draws.round, FIRST_ID),
        name=_joined(first, last, by=" "),
        emailAddress=_joined(pc.utf8_lower(first), _joined(pc.utf8_lower(last), "example.com", by="."), by="@"),
        creditCard=card,
        city=draws.one_of(_CITIES),
        state=draws.one_of(_STATES),
        dateTime=draws.time,
        extra=draws.text(100),
    )


def _auctions(draws: _Draws) -> pa.RecordBatch:
    number = pc.add(pc.multiply(draws.round, AUCTIONS), pc.subtract(draws.place, PERSONS))
    initial = draws.price()
    # An auction lasts until about as many others have come as may be active.
    longest = max(2 * (ACTIVE_AUCTIONS * ROUND // AUCTIONS) * 1_000 // draws.rate, 1)
    popular = pc.multiply(pc.divide(draws.round, HOT_EVERY), HOT_EVERY)
    return _batch(
        n=draws.numbers,
        id=pc.add(number, FIRST_ID),
        itemName=draws.text(20),
        description=draws.text(100),
        initialBid=initial,
        reserve=pc.add(initial, draws.price()),
        dateTime=draws.time,
        expires=pc.add(pc.add(draws.time, 1), draws.below(longest)),
        seller=pc.add(pc.if_else(draws.hot(4), popular, draws.person()), FIRST_ID),
        category=pc.add(draws.below(CATEGORIES), FIRST_CATEGORY),
        extra=draws.text(200),
    )


def _bids(draws: _Draws) -> pa.RecordBatch:
    last = pc.add(pc.multiply(draws.round, AUCTIONS), AUCTIONS - 1)
    least = pc.max_element_wise(pc.subtract(last, ACTIVE_AUCTIONS), 0)
    other = pc.add(least, draws.below(pc.add(pc.subtract(last, least), 1 + LEAD)))
    popular = pc.multiply(pc.divide(last, HOT_EVERY), HOT_EVERY)
    bidder = pc.add(pc.multiply(pc.divide(draws.round, HOT_EVERY), HOT_EVERY), 1)
    number = draws.below(CHANNELS)
    base = _joined("https://www.nexmark.com", draws.text(5), draws.text(5), draws.text(5), "item.htm?query=1", by="/")
    with_id = _joined(base, _joined("channel_id", _scattered(number).cast(pa.string()), by="="), by="&")
    hot = draws.hot(2)
    return _batch(
        n=draws.numbers,
        auction=pc.add(pc.if_else(draws.hot(2), popular, other), FIRST_ID),
        bidder=pc.add(pc.if_else(draws.hot(4), bidder, draws.person()), FIRST_ID),
        price=draws.price(),
        channel=pc.if_else(hot, draws.one_of(_HOT_CHANNELS), _joined("channel-", number.cast(pa.string()))),
        url=pc.if_else(pc.or_(hot, pc.invert(draws.hot(10))), base, with_id),
        dateTime=draws.time,
        extra=draws.text(30),
    )


def _scattered(numbers: pa.Int64Array) -> pa.Int64Array:
    return _mod(pc.multiply(numbers, 2_654_435_761), 2_147_483_647)


def _disordered(table: pa.Table, disorder_ms: int, seed: int) -> pa.Table:
    if disorder_ms == 0:
        return table
    draws = _Draws(table["n"].combine_chunks(), 1, seed + 7)
    arrival = pc.add(table["dateTime"].combine_chunks(), draws.below(disorder_ms + 1))
    return table.take(pc.sort_indices(pa.table({"arrival": arrival, "n": table["n"]}), [("arrival", "ascending"), ("n", "ascending")]))


def _batch(**columns: pa.Array) -> pa.RecordBatch:
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _joined(*parts: Any, by: str = "") -> pa.StringArray:
    return pc.binary_join_element_wise(*parts, by)


def _mod(values: pa.Int64Array, by: int | pa.Int64Array) -> pa.Int64Array:
    return pc.subtract(values, pc.multiply(pc.divide(values, by), by))


def _whole(value: int) -> pa.UInt64Scalar:
    return pa.scalar(value, pa.uint64())
