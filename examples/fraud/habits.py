"""Sample data for all rules: accounts with habits over four months, and planted fraud that breaks them.

Beside each kind of fraud there are near misses of it, and some of the fraud is too small, or too early, to be seen.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from .cities import CHILE, CITIES, PERU, distance_km
from .records import Planted

ACCOUNTS: Final = 5_000
#: Raised when the generator makes other data.
VERSION: Final = 1

BEGIN_MS: Final = 1_709_251_200_000  # 2024-03-01
_DAYS: Final = 120
_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_MAX_DELAY_MS: Final = 2_000
_CATEGORIES: Final = ("food", "fuel", "health", "home", "leisure", "clothes", "travel", "services", "education")
_CHANNELS: Final = ("pos", "web", "mobile", "atm", "branch")
#: What is reported; and the local time of noon in UTC. Summer time is left out: nobody's habits are that exact.
_THRESHOLD: Final = {"CL": 5_000_000.0, "PE": 20_000.0}
_OFFSET_MS: Final = {"CL": 4 * _HOUR_MS, "PE": 5 * _HOUR_MS}

#: Incidents of each kind for 100,000 transactions; a kind in capitals is fraud and named for the rule it should meet.
_INCIDENTS: Final = {
    "VELOCITY": 120,
    "AMOUNT_ANOMALY": 150,
    "GEO_IMPOSSIBLE": 120,
    "TIME_OF_DAY": 120,
    "NEW_CATEGORY": 120,
    "NEW_CHANNEL": 120,
    "DORMANT": 60,
    "STRUCTURING": 60,
    "slow burst": 40,
    "large purchase": 40,
    "flight": 40,
    "late evening": 40,
    "new category, small": 40,
    "new channel at home": 40,
    "two after a pause": 20,
    "two transfers": 20,
}
#: A kind that needs an account with a history, or one that sleeps.
_WITH_HISTORY: Final = {"TIME_OF_DAY": 22, "NEW_CATEGORY": 22, "AMOUNT_ANOMALY": 8, "NEW_CHANNEL": 6}
#: So often a place for an incident is drawn before there is none.
_TRIES: Final = 20_000
_ASLEEP: Final = ("DORMANT", "two after a pause")
_TRAVELS: Final = ("GEO_IMPOSSIBLE", "NEW_CHANNEL", "flight")


@dataclass(slots=True)
class _Person:
    number: str
    country: str
    home: str
    usual: float
    spread: float
    hour: float
    hours: float
    categories: tuple[str, ...]
    channels: tuple[str, ...]
    sleeps: bool
    delay_ms: int
    times: list[int] = field(default_factory=list)
    cities: list[str] = field(default_factory=list)

    def noise(self, chance: random.Random, share: float = 1.0) -> float:
        """Return an amount as the account usually moves it, or a share of it."""
        habit = chance.choice((-1, 0, 1)) if chance.random() < 0.8 else 1.2 * chance.random()
        return self.usual * (1 + self.spread * habit) * chance.uniform(0.9, 1.1) * share


@dataclass(order=True, slots=True)
class _Event:
    arrival_ms: int
    account: int
    time_ms: int
    amount: float
    city: str
    channel: str
    category: str
    type: str
    fraud: Planted | None = field(default=None, compare=False)


def transactions(count: int, accounts: int, seed: int) -> tuple[list[tuple[str, str]], dict[int, Planted]]:
    """Return so many lines, each behind its country, and what is fraud among them."""
    chance = random.Random(seed)
    everybody = people(accounts, chance)
    kinds = [kind for kind, often in _INCIDENTS.items() for _ in range(math.ceil(often * count / 100_000))]
    chance.shuffle(kinds)
    planted: list[_Event] = []
    events = _history(everybody, count - sum(_size(kind) for kind in kinds), chance)
    hosts = _Hosts(everybody, chance)
    for incident, kind in enumerate(kinds):
        account, position = hosts.draw(kind)
        planted += _incident(Planted(incident, kind), account, position, everybody[account], chance)
    events += planted
    events.sort()
    lines, truth = [], {}
    for number, event in enumerate(events):
        person = everybody[event.account]
        if event.fraud is not None and event.fraud.kind.isupper():
            truth[number] = event.fraud
        currency = "CLP" if person.country == "CL" else "PEN"
        line = (
            f"{number},{person.number},{event.time_ms},{event.amount:.2f},{currency},{event.type},{event.city},"
            f"{person.country},{event.channel},{event.category}\n"
        )
        lines.append((person.country, line))
    return lines, truth


def people(accounts: int, chance: random.Random) -> list[_Person]:
    """Return the holders of so many accounts, without their transactions."""
    return [_person(number, chance) for number in range(accounts)]


def _person(number: int, chance: random.Random) -> _Person:
    country, cities = ("CL", CHILE) if chance.random() < 0.6 else ("PE", PERU)
    scattered = 10_000_000 + number * 3_777_779 % 90_000_000
    return _Person(
        number=f"{country}{scattered:08}",
        country=country,
        home=chance.choice(list(cities)),
        usual=round(chance.lognormvariate(math.log(15_000 if country == "CL" else 60), 0.7), 2),
        spread=chance.uniform(0.15, 0.5),
        hour=chance.uniform(11, 17),
        hours=chance.uniform(0.8, 1.6),
        categories=tuple(chance.sample(_CATEGORIES, chance.randint(3, 5))),
        channels=tuple(chance.sample(_CHANNELS, chance.randint(2, 3))),
        sleeps=chance.random() < 0.1,
        delay_ms=chance.randrange(_MAX_DELAY_MS),
    )


def _history(people: list[_Person], count: int, chance: random.Random) -> list[_Event]:
    """Return ordinary transactions: at the account's hours, at least four minutes apart, in one city a day."""
    weights = [(rank + 1) ** -0.35 for rank in range(len(people))]
    chance.shuffle(weights)
    scale = count / sum(weights)
    often = [int(weight * scale) for weight in weights]
    for position in range(count - sum(often)):
        often[position % len(often)] += 1
    events: list[_Event] = []
    for account, person in enumerate(people):
        person.times = sorted(_time(person, chance) for _ in range(often[account]))
        away: dict[int, str] = {}
        for i, time in enumerate(person.times):
            if i and time < person.times[i - 1] + 240_000:
                person.times[i] = time = person.times[i - 1] + 240_000
            day = (time - _OFFSET_MS[person.country]) // _DAY_MS
            if day not in away:
                away[day] = person.home if chance.random() > 0.04 else _elsewhere(person, chance, person.home)
            person.cities.append(away[day])
            channel = person.channels[i % len(person.channels)] if i < 6 else chance.choice(person.channels)
            category = person.categories[i % len(person.categories)] if i < 10 else chance.choice((*person.categories, ""))
            kind = "transfer" if chance.random() < 0.15 else chance.choice(("payment", "payment", "withdrawal", "deposit"))
            events.append(_Event(time + person.delay_ms, account, time, person.noise(chance), away[day], channel, category, kind))
    return events


def _time(person: _Person, chance: random.Random) -> int:
    day = chance.randrange(35 if person.sleeps else _DAYS)
    return _at(person, day, min(max(chance.gauss(person.hour, person.hours), 7.3), 21.5))


def _at(person: _Person, day: int, hour: float) -> int:
    """Return when it is that local hour of that day."""
    return BEGIN_MS + day * _DAY_MS + _OFFSET_MS[person.country] + int(hour * _HOUR_MS)


class _Hosts:
    """Draws the account, and the place in its history, where something happens; most accounts are met once."""

    def __init__(self, people: list[_Person], chance: random.Random) -> None:
        self._people, self._chance = people, chance
        self._asleep = [i for i, person in enumerate(people) if person.sleeps and len(person.times) > 3]
        self._awake = [i for i, person in enumerate(people) if not person.sleeps and len(person.times) > 3]
        self._taken: set[tuple[int, int]] = set()

    def draw(self, kind: str) -> tuple[int, int]:
        """Return an account and a position in its times.

        Raises
        ------
        ValueError
            There is no place left.
        """
        chance, among = self._chance, self._asleep if kind in _ASLEEP else self._awake
        for _ in range(_TRIES if among else 0):
            account = chance.choice(among)
            n = len(self._people[account].times)
            # A few come before anybody can know the habits.
            least = _WITH_HISTORY.get(kind, 1) if chance.random() < 0.96 else 1
            if least < n:
                position = n - 1 if kind in _ASLEEP else chance.randrange(least, n)
                if not self._fits(self._people[account], position, kind):
                    continue
                day = self._people[account].times[position] // _DAY_MS
                # One incident a day and account: what one plants must not hide or raise another.
                if not {(account, day + d) for d in (-1, 0, 1)} & self._taken:
                    self._taken.add((account, day))
                    return account, position
        raise ValueError(f"{len(self._people):,} accounts with so few transactions have no room for all incidents: take more of either")

    @staticmethod
    def _fits(person: _Person, position: int, kind: str) -> bool:
        """At home, before a day at home; whoever travels does so in the evening, and is back by then."""
        if person.cities[position] != person.home:
            return False
        if position + 1 == len(person.times):
            return True
        apart = person.times[position + 1] - person.times[position]
        return person.cities[position + 1] == person.home and (kind not in _TRAVELS or apart > 9 * _HOUR_MS)


def _size(kind: str) -> int:
    return {
        "VELOCITY": 4,
        "slow burst": 3,
        "DORMANT": 3,
        "two after a pause": 2,
        "STRUCTURING": 3,
        "two transfers": 2,
        "NEW_CHANNEL": 2,
    }.get(kind, 1)


def _incident(fraud: Planted, account: int, position: int, person: _Person, chance: random.Random) -> Iterator[_Event]:
    """Yield what is planted behind a transaction of the account."""
    host = person.times[position]
    city = person.cities[position]

    def event(
        time: float, share: float = 1.0, *, city: str = city, channel: str | None = None, category: str | None = None, type: str = "payment"
    ) -> _Event:
        # A planted amount is an ordinary one unless it says so.
        return _Event(
            int(time) + person.delay_ms,
            account,
            int(time),
            person.noise(chance, share),
            city,
            channel or chance.choice(person.channels),
            person.categories[0] if category is None else category,
            type,
            fraud,
        )

    yield from _PLANTED[fraud.kind](_Scene(host, city, person, chance), event)


@dataclass(frozen=True, slots=True)
class _Scene:
    """Where and when it happens."""

    host: int
    city: str
    person: _Person
    chance: random.Random

    def night(self) -> int:
        """Return a time of the night before or behind, at least three hours from the usual ones."""
        day = (self.host - BEGIN_MS - _OFFSET_MS[self.person.country]) // _DAY_MS
        return _at(self.person, day, self.chance.uniform(1.0, 4.5) + 24)

    def journey(self, kmh: float, city: str) -> tuple[str, float]:
        """Return the city and the hours to it; a nearer one where there would be no way back before the morning."""
        cities = CHILE if self.person.country == "CL" else PERU
        while True:
            hours = distance_km(CITIES[self.city], CITIES[city]) / kmh
            if hours < 4:
                return city, hours
            city = self.chance.choice([one for one in cities if one != self.city])

    def strange(self, known: tuple[str, ...], all_: tuple[str, ...]) -> str:
        """Return one that the account does not use."""
        return self.chance.choice([one for one in all_ if one not in known])


Make = Callable[..., _Event]


def _velocity(at: _Scene, event: Make) -> Iterator[_Event]:
    for i in range(4):
        yield event(at.host + 1_000 * (2 + 11 * i + at.chance.uniform(0, 10)), 0.8)


def _slow_burst(at: _Scene, event: Make) -> Iterator[_Event]:
    for i in range(3):
        yield event(at.host + 1_000 * 62 * (i + 1))


def _amount(at: _Scene, event: Make) -> Iterator[_Event]:
    yield event(at.host + 65_000, at.chance.uniform(1.6, 3) ** at.chance.uniform(2, 4))


def _large(at: _Scene, event: Make) -> Iterator[_Event]:
    yield event(at.host + 65_000, (1 + 1.5 * at.person.spread) / (1 + at.person.spread))


def _impossible(at: _Scene, event: Make) -> Iterator[_Event]:
    # Back home again would be a second impossible flight: the account goes on where the thief is only in name.
    yield event(at.host + at.chance.uniform(61_000, 230_000), city=_elsewhere(at.person, at.chance, at.city))


def _flight(at: _Scene, event: Make) -> Iterator[_Event]:
    city, hours = at.journey(at.chance.uniform(500, 850), _elsewhere(at.person, at.chance, at.city))
    yield event(at.host + hours * _HOUR_MS, city=city)


def _night(at: _Scene, event: Make) -> Iterator[_Event]:
    yield event(at.night())


def _late_evening(at: _Scene, event: Make) -> Iterator[_Event]:
    day = (at.host - BEGIN_MS - _OFFSET_MS[at.person.country]) // _DAY_MS
    yield event(_at(at.person, day, 21.8))


def _category(at: _Scene, event: Make) -> Iterator[_Event]:
    yield event(at.host + 70_000, at.chance.uniform(1.5, 2.0), category=at.strange(at.person.categories, _CATEGORIES))


def _small_category(at: _Scene, event: Make) -> Iterator[_Event]:
    yield event(at.host + 70_000, 0.7, category=at.strange(at.person.categories, _CATEGORIES))


def _channel(at: _Scene, event: Make) -> Iterator[_Event]:
    visited = set(at.person.cities)
    cities = CHILE if at.person.country == "CL" else PERU
    unknown = [city for city in cities if city not in visited]
    # As fast as one may travel: the rule on speed has no part in it.
    city, hours = at.journey(700, at.chance.choice(unknown or list(cities)))
    when = at.host + (hours + 0.1) * _HOUR_MS
    channel = at.strange(at.person.channels, _CHANNELS)
    yield event(when, city=city, channel=channel)
    yield event(when + at.chance.uniform(70_000, 500_000), city=city, channel=channel)


def _channel_at_home(at: _Scene, event: Make) -> Iterator[_Event]:
    yield event(at.host + 70_000, channel=at.strange(at.person.channels, _CHANNELS))


def _after_a_pause(at: _Scene, times: int, event: Make) -> Iterator[_Event]:
    begin = at.host + at.chance.uniform(62, 80) * _DAY_MS
    for i in range(times):
        yield event(begin + i * at.chance.uniform(120_000, 1_500_000))


def _dormant(at: _Scene, event: Make) -> Iterator[_Event]:
    yield from _after_a_pause(at, 3, event)


def _two_after_a_pause(at: _Scene, event: Make) -> Iterator[_Event]:
    yield from _after_a_pause(at, 2, event)


def _transfers(at: _Scene, times: int, event: Make) -> Iterator[_Event]:
    share = _THRESHOLD[at.person.country]
    for i in range(times):
        made = event(at.host + (i + 1) * at.chance.uniform(0.8, 2) * _HOUR_MS, type="transfer")
        made.amount = share * at.chance.uniform(0.82, 0.99)
        yield made


def _structuring(at: _Scene, event: Make) -> Iterator[_Event]:
    yield from _transfers(at, 3, event)


def _two_transfers(at: _Scene, event: Make) -> Iterator[_Event]:
    for made in _transfers(at, 2, event):
        # Just above what is reported: nobody hides it.
        made.amount = at.person.usual
        yield made


_PLANTED: Final[dict[str, Callable[[_Scene, Make], Iterator[_Event]]]] = {
    "VELOCITY": _velocity,
    "AMOUNT_ANOMALY": _amount,
    "GEO_IMPOSSIBLE": _impossible,
    "TIME_OF_DAY": _night,
    "NEW_CATEGORY": _category,
    "NEW_CHANNEL": _channel,
    "DORMANT": _dormant,
    "STRUCTURING": _structuring,
    "slow burst": _slow_burst,
    "large purchase": _large,
    "flight": _flight,
    "late evening": _late_evening,
    "new category, small": _small_category,
    "new channel at home": _channel_at_home,
    "two after a pause": _two_after_a_pause,
    "two transfers": _two_transfers,
}


def _elsewhere(person: _Person, chance: random.Random, but: str) -> str:
    cities = CHILE if person.country == "CL" else PERU
    return chance.choice([city for city in cities if city != but])
