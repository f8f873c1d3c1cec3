"""Sample data: bank transactions of Chilean and Peruvian accounts with planted fraud: ``python examples/fraud/data.py --help``.

The same seed gives the same bytes. Beside the fraud there are near misses (a burst just too slow, a fast but possible
flight) and noise (a honest large purchase, a honest burst), and some of the fraud is too small to be seen: so precision
and recall say something.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from . import habits
from .cities import CHILE, CITIES, PERU, distance_km
from .records import Planted

Kind = Literal["bursts", "habits"]

TRANSACTIONS: Final = 200_001
ACCOUNTS: Final = 20_000
SEED: Final = 20_240_301
#: Raised when the generator makes other data: sample files of another version are made anew.
VERSION: Final = 1

_BEGIN_MS: Final = 1_709_251_200_000  # 2024-03-01
_SPAN_MS: Final = 30 * 86_400_000
_CHILEAN: Final = 0.6
_MAX_DELAY_MS: Final = 2_000
_TYPES: Final = ("payment", "payment", "payment", "payment", "withdrawal", "transfer", "deposit")
_CHANNELS: Final = ("pos", "pos", "web", "mobile", "mobile", "atm", "branch")
_CATEGORIES: Final = ("food", "food", "fuel", "health", "home", "leisure", "clothes", "travel", "services", "")
_COLUMNS: Final = "transaction_id,account_number,event_time,amount,currency,transaction_type,city,country,channel,category"

#: Incidents of each kind for 100,000 transactions; a kind in capitals is fraud and named for the rule it should meet.
_INCIDENTS: Final = {
    "VELOCITY": 200,
    "AMOUNT_ANOMALY": 450,
    "GEO_IMPOSSIBLE": 200,
    "slow burst": 100,
    "honest burst": 25,
    "large purchase": 100,
    "fair purchase": 150,
    "flight": 150,
}


@dataclass(frozen=True)
class Sample:
    """Where the sample is: two files of transactions and what is fraud in them."""

    transactions: tuple[Path, Path]
    truth: Path


class _Account(NamedTuple):
    number: str
    country: str
    currency: str
    home: str
    usual: float
    spread: float
    delay_ms: int


def sample(directory: Path | None = None, kind: Kind = "bursts") -> Sample:
    """Return the sample, made on first use.

    Parameters
    ----------
    directory : Path, optional
        Default: the folder `data` beside this file in a checkout, else the user's cache.
    kind : "bursts" | "habits"
        A month with fraud that the three rules look for; or four months of accounts with habits, for all rules.
    """
    directory = directory or default_directory()
    found = _named(directory, kind)
    if not all(path.exists() for path in (*found.transactions, found.truth)):
        began = time.monotonic()
        print(f"making the sample: {TRANSACTIONS:,} transactions, in {directory} …", file=sys.stderr, flush=True)
        generate(directory, kind=kind)
        print(f"made in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return found


def default_directory() -> Path:
    """Return where the sample is kept: what is installed is not added to."""
    beside = Path(__file__).resolve().parent / "data"
    if __package__ == "examples.fraud" and os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return beside
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(cache or Path.home() / ".cache") / "streamdsl" / "fraud"


def generate(
    directory: Path, transactions: int = TRANSACTIONS, accounts: int | None = None, seed: int = SEED, kind: Kind = "bursts"
) -> Sample:
    """Write transactions of so many accounts and the truth about them; return where they are."""
    directory.mkdir(parents=True, exist_ok=True)
    found = _named(directory, kind)
    if kind == "habits":
        rows, planted = habits.transactions(transactions, accounts or habits.ACCOUNTS, seed)
    else:
        rows, planted = _transactions(transactions, accounts or ACCOUNTS, random.Random(seed))
    for path, country in zip(found.transactions, ("CL", "PE"), strict=True):
        _write(path, "".join([_COLUMNS + "\n", *(line for where, line in rows if where == country)]))
    truth = "".join(f"{number},{fraud.incident},{fraud.kind}\n" for number, fraud in sorted(planted.items()))
    # Last: the sample is whole when the truth is there.
    _write(found.truth, "transaction_id,incident,kind\n" + truth)
    return found


def read_truth(path: Path) -> dict[int, Planted]:
    """Return what is fraud, by transaction id."""
    with path.open(newline="") as file:
        return {int(row["transaction_id"]): Planted(int(row["incident"]), row["kind"]) for row in csv.DictReader(file)}


def _named(directory: Path, kind: Kind) -> Sample:
    version = f"v{VERSION}" if kind == "bursts" else f"habits.v{habits.VERSION}"
    files = directory / f"transactions-cl.{version}.csv", directory / f"transactions-pe.{version}.csv"
    return Sample(files, directory / f"truth.{version}.csv")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8", newline="")
    partial.replace(path)


class _Event(NamedTuple):
    """One transaction before it has a number; sorts by when and from whom it arrives."""

    arrival_ms: int
    account: int
    time_ms: int
    amount: float
    city: str
    fraud: Planted | None


def _transactions(count: int, accounts: int, chance: random.Random) -> tuple[list[tuple[str, str]], dict[int, Planted]]:
    people = [_account(number, chance) for number in range(accounts)]
    kinds = [kind for kind, often in _INCIDENTS.items() for _ in range(math.ceil(often * count / 100_000))]
    sizes = [_extra(kind, chance) for kind in kinds]
    base = _history(people, count - sum(sizes), chance)
    events = list(base)
    for incident, (kind, size) in enumerate(zip(kinds, sizes, strict=True)):
        host = chance.randrange(len(base))
        events.extend(_incident(Planted(incident, kind), size, base[host], people[base[host].account], chance))
        if not size:
            # The incident is a change of the host itself, which was added again.
            events[host] = events.pop()
    events.sort()
    rows = []
    planted = {}
    for number, event in enumerate(events):
        person = people[event.account]
        if event.fraud is not None:
            planted[number] = event.fraud
        kind, channel = chance.choice(_TYPES), chance.choice(_CHANNELS)
        rows.append(
            (
                person.country,
                f"{number},{person.number},{event.time_ms},{event.amount:.2f},{person.currency},{kind},{event.city},"
                f"{person.country},{channel},{chance.choice(_CATEGORIES)}\n",
            )
        )
    return rows, planted


def _account(number: int, chance: random.Random) -> _Account:
    chilean = chance.random() < _CHILEAN
    country, currency, cities = ("CL", "CLP", CHILE) if chilean else ("PE", "PEN", PERU)
    # A prime step scatters the numbers without repeating one.
    scattered = 10_000_000 + number * 3_777_779 % 90_000_000
    return _Account(
        f"{country}{scattered:08}",
        country,
        currency,
        chance.choice(list(cities)),
        round(chance.lognormvariate(math.log(15_000 if chilean else 60), 0.8), 2),
        chance.uniform(0.15, 0.5),
        chance.randrange(_MAX_DELAY_MS),
    )


def _history(people: list[_Account], count: int, chance: random.Random) -> list[_Event]:
    """Return ordinary transactions: few accounts are busy, and each spreads its own evenly over the whole time."""
    weights = [(rank + 1) ** -0.6 for rank in range(len(people))]
    chance.shuffle(weights)
    scale = count / sum(weights)
    whole = [int(weight * scale) for weight in weights]
    for position in range(count - sum(whole)):
        whole[position % len(whole)] += 1
    draw = chance.random
    events = []
    for account, (person, often) in enumerate(zip(people, whole, strict=True)):
        slot = _SPAN_MS / max(often, 1)
        for position in range(often):
            time_ms = _BEGIN_MS + int((position + 0.1 + 0.8 * draw()) * slot)
            # Habits rather than a bell: a young account would otherwise raise many honest alarms.
            habit = position % 3 - 1 if draw() < 0.8 else 1.2 * draw()
            amount = person.usual * (1 + person.spread * habit) * (0.9 + 0.2 * draw())
            city = person.home
            # Who buys every few minutes stays at home; others have had the time to travel.
            if slot > 36 * 3_600_000 and draw() < 0.06:
                city = _elsewhere(person, chance)
            events.append(_Event(time_ms + person.delay_ms, account, time_ms, amount, city, None))
    return events


def _extra(kind: str, chance: random.Random) -> int:
    """Return how many transactions an incident adds."""
    if kind in ("VELOCITY", "honest burst"):
        return chance.randint(2, 5) if kind == "VELOCITY" else 2
    return {"slow burst": 2, "GEO_IMPOSSIBLE": 1, "flight": 1}.get(kind, 0)


def _incident(fraud: Planted, size: int, host: _Event, person: _Account, chance: random.Random) -> Iterator[_Event]:
    """Yield what an incident adds to, or puts in the place of, the transaction `host`."""
    kind = fraud.kind

    def event(after_s: float, amount: float, city: str) -> _Event:
        time_ms = host.time_ms + int(after_s * 1000)
        return _Event(time_ms + person.delay_ms, host.account, time_ms, amount, city, fraud if kind.isupper() else None)

    if kind in ("VELOCITY", "honest burst", "slow burst"):
        span = {"VELOCITY": 45.0, "honest burst": 55.0, "slow burst": 0.0}[kind]
        times = [61.0, 95.0] if not span else [span * (i + chance.random()) / size for i in range(size)]
        for after in times:
            yield event(after, person.usual * chance.uniform(0.4, 1.3), host.city)
    elif kind == "AMOUNT_ANOMALY":
        yield event(0, host.amount * chance.uniform(1.5, 3) ** chance.uniform(1, 5), host.city)
    elif kind == "large purchase":
        yield event(0, person.usual * (1 + 1.5 * person.spread * chance.uniform(1.2, 2)), host.city)
    elif kind == "fair purchase":
        yield event(0, person.usual * (1 + 1.5 * person.spread), host.city)
    else:
        city = _elsewhere(person, chance, host.city)
        km = distance_km(CITIES[host.city], CITIES[city])
        seconds = chance.uniform(20, 1200) if kind == "GEO_IMPOSSIBLE" else km / chance.uniform(500, 880) * 3600
        yield event(seconds, person.usual * chance.uniform(0.5, 1.3), city)


def _elsewhere(person: _Account, chance: random.Random, but: str | None = None) -> str:
    cities = CHILE if person.country == "CL" else PERU
    return chance.choice([city for city in cities if city != (but or person.home)])


#: Transactions and accounts of the smallest sample.
_LEAST: Final = (100, 10)


def main(argv: Sequence[str] | None = None) -> int:
    """Make a sample and say where it is."""
    parser = argparse.ArgumentParser(description="Make bank transactions with planted fraud, and the truth about them.")
    add = parser.add_argument
    add("directory", nargs="?", type=Path, metavar="DIR", help="where to (default: where the example looks for its sample)")
    add("--kind", choices=("bursts", "habits"), default="bursts", help="fraud for the three rules; or habits over four months, for all")
    add("--seed", type=int, metavar="N", help="other data of the same kind; needs DIR")
    add("--transactions", type=int, metavar="N", help=f"default: {TRANSACTIONS}; needs DIR")
    add("--accounts", type=int, metavar="N", help=f"default: {ACCOUNTS}, of habits {habits.ACCOUNTS}; needs DIR")
    asked = parser.parse_args(argv)
    chosen = {name: getattr(asked, name) for name in ("seed", "transactions", "accounts") if getattr(asked, name) is not None}
    if chosen and asked.directory is None:
        parser.error(f"--{next(iter(chosen))} makes another sample: say where to put it (DIR)")
    if chosen.get("transactions", _LEAST[0]) < _LEAST[0] or chosen.get("accounts", _LEAST[1]) < _LEAST[1]:
        parser.error(f"a sample has at least {_LEAST[0]} transactions of {_LEAST[1]} accounts")
    try:
        made = generate(asked.directory, kind=asked.kind, **chosen) if chosen else sample(asked.directory, asked.kind)
    except ValueError as error:
        parser.error(str(error))
    print(*made.transactions, made.truth, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
