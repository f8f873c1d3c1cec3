"""What comes in and what goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass
class Transaction:
    """A bank transaction; `event_time` in ms since 1970."""

    transaction_id: int
    account_number: str
    event_time: int
    amount: float
    currency: str
    transaction_type: str
    city: str
    country: str
    channel: str
    category: str | None


@dataclass
class Alert:
    """What a rule found, what explains it, and where the transaction stood."""

    transaction_id: int
    account_number: str
    rule: str
    event_time: int
    severity: str
    detail: str
    recent: int | None
    mean: float | None
    deviation: float | None
    sigmas: float | None
    previous_city: str | None
    distance_km: float | None
    topic: str
    partition: int
    offset: int


class Planted(NamedTuple):
    """A fraudulent transaction of the sample; an incident is one or several of them."""

    incident: int
    kind: str
