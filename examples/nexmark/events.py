"""The three streams of Nexmark. Times are ms since the epoch; `n` is the number of the event, which only tells ties apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["SCHEMAS", "Auction", "Bid", "Person"]


@dataclass
class Person:
    """Somebody who sells and bids."""

    n: int
    id: int
    name: str
    emailAddress: str
    creditCard: str
    city: str
    state: str
    dateTime: int
    extra: str


@dataclass
class Auction:
    """Something that is sold from `dateTime` to `expires`, both inclusive."""

    n: int
    id: int
    itemName: str
    description: str
    initialBid: int
    reserve: int
    dateTime: int
    expires: int
    seller: int
    category: int
    extra: str


@dataclass
class Bid:
    """An offer for an auction; it may come before the auction does."""

    n: int
    auction: int
    bidder: int
    price: int
    channel: str
    url: str
    dateTime: int
    extra: str


#: The streams by the names of their sources.
SCHEMAS: Final = {"person": Person, "auction": Auction, "bid": Bid}
