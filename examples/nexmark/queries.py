"""The queries of Nexmark, each as verbs. Results are final: those by time leave when their window closes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from streamdsl import (
    Expr,
    Stream,
    Table,
    Topology,
    coalesce,
    col,
    concat_str,
    count,
    event_time,
    hopping,
    lit,
    memory,
    rolling,
    row,
    session,
    tumbling,
    when,
)
from streamdsl.durations import Duration

from .events import Auction, Bid, Person

__all__ = ["QUERIES", "Query", "Streams", "topology"]

#: Prices are cents; a bid is cheap, middling or dear.
CHEAP, DEAR = 10_000, 1_000_000


class Streams:
    """The three streams of a topology; only those that a query asks for are read."""

    def __init__(self, topology: Topology, disorder: Duration) -> None:
        self._topology, self._disorder = topology, disorder

    def _stream(self, name: str, schema: Any) -> Stream:
        return self._topology.stream(memory(name, schema=schema), timestamp="dateTime", disorder=self._disorder)

    @cached_property
    def persons(self) -> Stream:
        """People who register."""
        return self._stream("person", Person)

    @cached_property
    def auctions(self) -> Stream:
        """Auctions that open."""
        return self._stream("auction", Auction)

    @cached_property
    def bids(self) -> Stream:
        """Offers."""
        return self._stream("bid", Bid)


@dataclass(frozen=True)
class Query:
    """A query: what it is built of, and the columns of its result in their order."""

    build: Callable[[Streams], Stream | Table]
    columns: tuple[str, ...]
    what: str
    keys: tuple[str, ...] = field(default=())  # of rows that change: the last one of each key counts

    def topology(self, name: str, disorder: Duration = 0) -> tuple[Topology, Stream | Table]:
        """Return a topology and its result."""
        topology = Topology(f"nexmark-{name}")
        return topology, self.build(Streams(topology, disorder))


QUERIES: Final[dict[str, Query]] = {}


def query(columns: str, keys: str = "") -> Callable[[Callable[[Streams], Any]], Callable[[Streams], Any]]:
    """Register a query under the name of its function."""

    def registered(build: Callable[[Streams], Any]) -> Callable[[Streams], Any]:
        QUERIES[build.__name__] = Query(build, tuple(columns.split()), (build.__doc__ or "").strip(), tuple(keys.split()))
        return build

    return registered


def topology(name: str, disorder: Duration = 0) -> tuple[Topology, Stream | Table]:
    """Return the topology of a query and its result."""
    return QUERIES[name].topology(name, disorder)


# Record by record ------------------------------------------------------------------------------------------------------


@query("auction bidder price dateTime extra")
def q0(streams: Streams) -> Stream:
    """Pass every bid through."""
    return streams.bids.select("auction", "bidder", "price", "dateTime", "extra")


@query("auction bidder price_milli dateTime extra")
def q1(streams: Streams) -> Stream:
    """Convert prices to thousandths of a euro."""
    return streams.bids.select("auction", "bidder", (col("price") * 908).alias("price_milli"), "dateTime", "extra")


@query("auction price")
def q2(streams: Streams) -> Stream:
    """Keep the bids for some auctions."""
    return streams.bids.filter(col("auction") % 123 == 0).select("auction", "price")


@query("auction bidder price channel channel_id")
def q21(streams: Streams) -> Stream:
    """Give each bid the id of its channel: from a list, or from its URL."""
    known = {"apple": "0", "google": "1", "facebook": "2", "baidu": "3"}
    listed = col("channel").str.to_lowercase().replace_strict(known, default=None)
    url = concat_str(lit("&"), col("url"))
    written = when(url.str.contains("&channel_id=", literal=True)).then(url.str.split_part("&channel_id=", 1).str.split_part("&", 0))
    return streams.bids.select("auction", "bidder", "price", "channel", channel_id=coalesce(listed, written.otherwise(None))).filter(
        col("channel_id").is_not_null()
    )


@query("auction bidder price channel dir1 dir2 dir3")
def q22(streams: Streams) -> Stream:
    """Take the folders out of each URL."""
    folders = {f"dir{i}": col("url").str.split_part("/", i + 2) for i in (1, 2, 3)}
    return streams.bids.select("auction", "bidder", "price", "channel", **folders)


# One window ------------------------------------------------------------------------------------------------------------


@query("bidder bid_count starttime endtime")
def q11(streams: Streams) -> Stream:
    """Count each bidder's bids in sessions that end after ten seconds without one."""
    return (
        streams.bids.key_by("bidder")
        .window(session("10s"))
        .aggregate(bid_count=count(), name="sessions of bidders")
        .select("bidder", "bid_count", starttime=_ms("window_start"), endtime=_ms("window_end"))
    )


@query("bidder bid_count starttime endtime")
def q12(streams: Streams) -> Stream:
    """Count each bidder's bids in windows of ten seconds."""
    return (
        streams.bids.key_by("bidder")
        .window(tumbling("10s"))
        .aggregate(bid_count=count(), name="bids by bidder")
        .select("bidder", "bid_count", starttime=_ms("window_start"), endtime=_ms("window_end"))
    )


def _totals() -> dict[str, Expr]:
    """Bids, their bidders and their auctions, in all and for each rank of the price."""
    ranks = {"rank1": col("price") < CHEAP, "rank2": col("price").is_between(CHEAP, DEAR - 1), "rank3": col("price") >= DEAR}
    counted = {"bids": count(), "bidders": col("bidder").n_unique(), "auctions": col("auction").n_unique()}
    return {
        f"{rank}_{what}": counter if condition is None else counter.filter(condition)
        for what, counter in counted.items()
        for rank, condition in {"total": None, **ranks}.items()
    }


_RANKS: Final = ("total", "rank1", "rank2", "rank3")
_TOTALS: Final = " ".join(f"{rank}_{what}" for what in ("bids", "bidders", "auctions") for rank in _RANKS)


@query(f"day {_TOTALS}")
def q15(streams: Streams) -> Stream:
    """Count the bids of each day, their bidders and their auctions, by rank of the price."""
    days = streams.bids.key_by().window(tumbling("1d")).aggregate(**_totals(), name="bids of the day")
    return days.with_columns(day=_day()).select(*QUERIES["q15"].columns)


@query(f"channel day minute {_TOTALS}")
def q16(streams: Streams) -> Stream:
    """Count as q15 for each channel, and tell the minute of its last bid."""
    days = (
        streams.bids.key_by("channel").window(tumbling("1d")).aggregate(latest=event_time().max(), **_totals(), name="channels of the day")
    )
    return days.with_columns(day=_day(), minute=col("latest").dt.strftime("%H:%M")).select(*QUERIES["q16"].columns)


@query("auction day total_bids rank1_bids rank2_bids rank3_bids min_price max_price avg_price sum_price")
def q17(streams: Streams) -> Stream:
    """Sum up the bids for each auction and day."""
    bids = {name: counter for name, counter in _totals().items() if name.endswith("_bids")}
    price = col("price")
    days = (
        streams.bids.key_by("auction")
        .window(tumbling("1d"))
        .aggregate(**bids, min_price=price.min(), max_price=price.max(), sum_price=price.sum(), name="auctions of the day")
    )
    return days.with_columns(day=_day(), avg_price=col("sum_price") // col("total_bids")).select(*QUERIES["q17"].columns)


# Windows of windows ----------------------------------------------------------------------------------------------------


@query("window_start window_end auction num")
def q5(streams: Streams) -> Stream:
    """Find the auctions with the most bids in ten seconds, every two seconds; those with equally many all count."""
    counts = streams.bids.key_by("auction").window(hopping("10s", "2s")).aggregate(num=count(), name="bids by auction")
    # Windows end every two seconds: what closes within two seconds is of one window.
    alike = counts.key_by("num").window(tumbling("2s")).aggregate(auctions=col("auction").to_list(), name="auctions by bids")
    most = alike.key_by().window(tumbling("2s")).aggregate(num=col("num").max(), auctions=col("auctions").max_by("num"), name="most bids")
    return most.explode("auctions").select(
        window_start=_ms("window_end") - 10_000, window_end=_ms("window_end"), auction=col("auctions"), num=col("num")
    )


@query("id name starttime")
def q8(streams: Streams) -> Stream:
    """Find the people who register and open an auction within the same ten seconds."""
    people = streams.persons.select("id", "name", opened=lit(0))
    sellers = streams.auctions.select(id=col("seller"), name=lit(None).cast(str), opened=lit(1))
    both = people.merge(sellers).key_by("id").window(tumbling("10s"))
    together = both.aggregate(name=col("name").first(), opened=col("opened").sum())
    return together.filter(col("name").is_not_null() & (col("opened") > 0)).select("id", "name", starttime=_ms("window_start"))


# The best of each key --------------------------------------------------------------------------------------------------

_BID: Final = "auction bidder price channel url dateTime extra"


@query(_BID, keys="bidder auction")
def q18(streams: Streams) -> Table:
    """Keep each bidder's last bid for each auction."""
    last = {name: col(name).max_by("dateTime", then_by="n") for name in ("price", "channel", "url", "dateTime", "extra")}
    return streams.bids.key_by("bidder", "auction").aggregate(**last, name="last bids")


@query(f"{_BID} rank_number", keys="auction rank_number")
def q19(streams: Streams) -> Stream:
    """Rank the ten highest bids of each auction; the last row of a rank counts."""
    bid = row().top_k(10, by="price", then_by=[-col("dateTime"), -col("n")])
    # Every change of a list shows all of its ranks: once for each batch will do.
    tops = streams.bids.key_by("auction").aggregate(bid=bid, name="highest bids", emit="batch").to_stream()
    ranked = tops.select("bid").explode("bid", index="rank").unnest("bid")
    return ranked.select(*_BID.split(), rank_number=col("rank") + 1)


# Joins -----------------------------------------------------------------------------------------------------------------


@query("name city state id")
def q3(streams: Streams) -> Stream:
    """Find who sells in a category and three states; a seller may register before the auction or after it."""
    sellers = streams.persons.filter(col("state").is_in(["OR", "ID", "CA"])).select("id", "name", "city", "state")
    opened = streams.auctions.filter(col("category") == 10).select("id", "seller")
    return opened.join(sellers, left_on="seller", right_on="id", within=None).select("name", "city", "state", "id")


@query("window_end auction bidder price dateTime extra")
def q7(streams: Streams) -> Stream:
    """Find the bids with the highest price of their ten seconds."""
    # Only a bid that is not below an earlier one, for its auction and in its ten seconds, can be the highest of all.
    each = streams.bids.key_by("auction", tens=col("dateTime") // 10_000)
    bids = each.filter(col("price") >= col("price").max().over(rolling("10s"))).select("auction", "bidder", "price", "dateTime", "extra")
    highest = bids.key_by().window(tumbling("10s")).aggregate(price=col("price").max(), name="highest price")
    # A row of a window has the window's last millisecond as its time.
    return bids.join(highest.select("price", window_end=_ms("window_end")), on="price", before=0, after=9_999).select(
        *QUERIES["q7"].columns
    )


def _valid_bids(auctions: Stream, bids: Stream) -> Stream:
    """Bids that came while their auction was open, each with its auction."""
    # An auction's id is its own: the latest auction of that id up to the bid's time is the one, if it was open by then.
    both = bids.join_asof(auctions, left_by="auction", right_by="id", how="inner")
    return both.filter(col("bdt") <= col("expires"))


@query("category avg_final sum_final n", keys="category")
def q4(streams: Streams) -> Table:
    """Average the closing prices of each category; a higher bid takes the place of the one before."""
    valid = _valid_bids(streams.auctions.select("id", "category", "expires"), streams.bids.select("auction", "price", bdt=col("dateTime")))
    best = {"category": col("category").first(), "price": col("price").max()}
    closing = valid.key_by("auction").aggregate(**best, name="closing prices", emit="batch")
    totals = {"sum_final": col("price").sum(), "n": count()}
    categories = closing.group_by("category").aggregate(**totals, name="prices by category", emit="batch")
    return categories.with_columns(avg_final=col("sum_final") // col("n"))


@query(
    "id itemName description initialBid reserve dt expires seller category extra auction bidder price bdt bextra",
    keys="id",
)
def q9(streams: Streams) -> Table:
    """Find the bid that wins each auction: the highest, of equal ones the earliest."""
    columns = QUERIES["q9"].columns
    auctions = streams.auctions.rename({"dateTime": "dt"}).drop("n")
    bids = streams.bids.select("auction", "bidder", "price", bdt=col("dateTime"), bextra=col("extra"), bn=col("n"))
    valid = _valid_bids(auctions, bids)
    best = {name: col(name).max_by("price", then_by=[-col("bdt"), -col("bn")]) for name in columns if name not in ("id", "auction")}
    winners = valid.key_by("auction").aggregate(**best, name="winning bids", emit="batch")
    return winners.with_columns(id=col("auction")).select(*columns)


_BID_AND_AUCTION: Final = (
    "auction bidder price channel url bdt bextra itemName description initialBid reserve adt expires seller category aextra"
)


@query(_BID_AND_AUCTION)
def q20(streams: Streams) -> Stream:
    """Put each bid of a category beside its auction, whichever comes first."""
    bids = streams.bids.select("auction", "bidder", "price", "channel", "url", bdt=col("dateTime"), bextra=col("extra"))
    auctions = streams.auctions.filter(col("category") == 10).rename({"id": "auction", "dateTime": "adt", "extra": "aextra"}).drop("n")
    return bids.join(auctions, on="auction", within=None).select(*QUERIES["q20"].columns)


# Times -----------------------------------------------------------------------------------------------------------------


def _ms(column: str) -> Expr:
    return col(column).dt.epoch("ms")


def _day() -> Expr:
    return col("window_start").dt.strftime("%Y-%m-%d")
