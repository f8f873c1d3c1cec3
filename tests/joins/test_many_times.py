"""Outer joins with many more times than the index of deadlines has lists, against a slow model.

Lists are united when there are too many. Rows of one key must still come out in the order of their deadlines. So a case fills all
lists but a few with rows that are due in a far future. Then rows come that are due soon, while time goes on in small steps.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest

from streamdsl.testing import TopologyTestDriver
from tests.joins.jobs import Job, Step, happen
from tests.joins.model import Interval, Joined, Record

BEGIN_MS = 1_750_000_000_000
#: The index begins with lists of so many ms, and unites them in pairs when there are more than so many.
LIST_MS = 16
LISTS = 1_024
SEEDS = 6


@dataclass(frozen=True)
class Case:
    """What a seed draws: a join, rows of both sides for each step, and the watermark behind them."""

    join: Interval
    steps: list[tuple[list[tuple[str, Record]], int]]


def drawn(seed: int) -> Case:
    random_ = random.Random(seed)
    before, after = random_.sample([0, 3, 5, 16], 2)
    join = Interval("outer", before, after, random_.choice([0, 0, 7]))
    steps: list[tuple[list[tuple[str, Record]], int]] = []
    watermark, width, number = BEGIN_MS + random_.randrange(1_000), LIST_MS, 0
    far = watermark + 100 * LIST_MS
    for united in range(3):
        rows = []
        for _ in range((LISTS if united == 0 else LISTS // 2) - random_.randint(0, 8)):
            rows.append((random_.choice(["left", "right"]), Record(number, f"far{number % 9}", far)))
            far += width
            number += 1
        steps.append((rows, watermark))
        for _ in range(25):
            rows = []
            for _ in range(random_.randint(0, 2)):
                time = watermark + random_.randint(1, 4 * width)
                rows.append((random_.choice(["left", "left", "left", "right"]), Record(number, f"near{random_.randrange(2)}", time)))
                number += 1
            watermark += random_.randint(0, width // 2)
            steps.append((rows, watermark))
        width *= 2
    steps += [([], watermark + (far - watermark) * step // 20) for step in range(20)]
    return Case(join, steps)


def modelled(case: Case) -> tuple[Counter[Joined], dict[Joined, int]]:
    """Return the pairs, and the unmatched rows with the watermark at which each is due. All input is on time."""
    join = case.join
    assert join.before is not None and join.after is not None
    sides: dict[str, dict[str | None, list[Record]]] = {"left": defaultdict(list), "right": defaultdict(list)}
    for rows, _ in case.steps:
        for side, record in rows:
            sides[side][record.key].append(record)
    pairs: Counter[Joined] = Counter()
    matched = set()
    for key, lefts in sides["left"].items():
        for left in lefts:
            for right in sides["right"][key]:
                if join.holds(left, right):
                    matched |= {left.number, right.number}
                    pairs[Joined(max(left.time, right.time), key, left.number, right.number)] += 1
    unmatched = {}
    for side, reach in (("left", join.after), ("right", join.before)):
        for one in (one for records in sides[side].values() for one in records if one.number not in matched):
            numbers = (one.number, None) if side == "left" else (None, one.number)
            unmatched[Joined(one.time, one.key, *numbers)] = one.time + reach + join.grace
    return pairs, unmatched


def read(driver: TopologyTestDriver) -> list[Joined]:
    return [Joined(time, out["k"], out["n"], out["m"]) for time, out in driver.read("out", timestamps=True)]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_unmatched_rows_come_once_and_when_they_are_due(parallelism: int) -> None:
    for seed in range(SEEDS):
        go_through(seed, parallelism, crashes=2 * (seed % 2))


@pytest.mark.parametrize("crashes", [0, 2])
def test_the_same_in_little_memory(crashes: int) -> None:
    go_through(crashes, 1 + crashes % 2, crashes, cold=True)


def go_through(seed: int, parallelism: int, crashes: int, cold: bool = False) -> None:
    case = drawn(seed)
    random_ = random.Random(seed)
    pairs, unmatched = modelled(case)
    dues = sorted((due, row.time) for row, due in unmatched.items())
    driver = Job(case.join, parallelism=parallelism, cold=cold).driver()
    kept = set(random_.sample(range(len(case.steps)), crashes))
    lost = {at + random_.randint(0, 10) for at in kept}
    found: list[Joined] = []
    for number, (rows, watermark) in enumerate(case.steps):
        for side in ("left", "right"):
            records = tuple(record for of, record in rows if of == side)
            if records:
                happen(driver, Step("rows", side, records))
        for side in ("left", "right"):
            happen(driver, Step("watermark", side, watermark=watermark))
        new = read(driver)
        found += new
        told = sorted(row.time for row in new if row.left is None or row.right is None)
        due = []
        while dues and dues[0][0] <= watermark:
            due.append(dues.pop(0)[1])
        assert told == sorted(due), f"seed {seed}, step {number}, W = {watermark}"
        if number in kept:
            driver.checkpoint()
        if number in lost:
            driver.crash_and_restore(parallelism=1 + random_.randrange(2))
    driver.end()
    found += read(driver)
    assert Counter(found) == pairs + Counter(list(unmatched)), f"seed {seed}"
