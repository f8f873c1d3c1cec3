"""Joins by time whose rows have no room in memory: the same pairs, and rows of no use leave the database too."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from streamdsl import Topology, memory
from streamdsl.testing import TopologyTestDriver
from streamdsl.windows import tumbling

ROUNDS = 40
ROUND_MS = 50
NEW_KEYS = 15
WITHIN_MS = 100
WINDOW_MS = 200

Row = tuple[str, int, int]


def driver_of(how: str, window: bool, parallelism: int) -> TopologyTestDriver:
    topology = Topology("t")
    a = topology.stream(memory("left", schema={"k": str, "at": int, "n": int}), timestamp="at", watermarks="external")
    b = topology.stream(memory("right", schema={"k": str, "at_r": int, "m": int}), timestamp="at_r", watermarks="external")
    within: Any = tumbling(WINDOW_MS) if window else WITHIN_MS
    a.join(b, on="k", how=how, within=within).select("n", "m").to(memory("out"))
    return TopologyTestDriver(topology, parallelism=parallelism, state_memory=4_096)


def drawn(random_: random.Random, number: int) -> tuple[list[Row], list[Row]]:
    """Draw rows of a round: most keys never come again, some of an earlier round do."""
    keys = [f"{number}-{i}" for i in range(NEW_KEYS)] + [f"{random_.randrange(number + 1)}-{random_.randrange(NEW_KEYS)}" for _ in range(6)]

    def side(begin: int) -> list[Row]:
        return [
            (key, number * ROUND_MS + random_.randrange(ROUND_MS), begin + i)
            for i, key in enumerate(keys)
            for _ in range(random_.randrange(3))
        ]

    return side(number * 1_000), side(number * 1_000 + 500)


def pairs(how: str, window: bool, lefts: list[Row], rights: list[Row]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for key, at, n in lefts:
        matches = [
            m
            for other, at_r, m in rights
            if other == key and (at // WINDOW_MS == at_r // WINDOW_MS if window else abs(at - at_r) <= WITHIN_MS)
        ]
        found.update((n, m) for m in matches)
        if how == "left" and not matches:
            found[(n, None)] += 1
    return found


@pytest.mark.parametrize(("how", "window", "parallelism"), [("inner", False, 1), ("inner", True, 2), ("left", False, 2), ("left", True, 1)])
def test_pairs_are_the_same_and_old_rows_leave(how: str, window: bool, parallelism: int) -> None:
    random_ = random.Random(f"{how} {window} {parallelism}")
    driver = driver_of(how, window, parallelism)
    lefts: list[Row] = []
    rights: list[Row] = []
    found: Counter[Any] = Counter()
    crashes = {random_.randrange(ROUNDS) for _ in range(3)}
    kept = []
    for number in range(ROUNDS):
        left, right = drawn(random_, number)
        driver.send_batch("left", [{"k": key, "at": at, "n": n} for key, at, n in left])
        driver.send_batch("right", [{"k": key, "at_r": at, "m": m} for key, at, m in right])
        for side in ("left", "right"):
            driver.advance_watermark(side, (number + 1) * ROUND_MS - 1)
        lefts += left
        rights += right
        if number % 3 == 0:
            driver.checkpoint()
        if number in crashes:
            driver.crash_and_restore()
        found.update((row["n"], row["m"]) for row in driver.read("out"))
        state = driver.metrics()["state"]
        kept.append(state["keys"])
    assert state["evicted"] > 0
    assert max(kept) < ROUNDS * NEW_KEYS / 2, kept
    driver.end()
    found.update((row["n"], row["m"]) for row in driver.read("out"))
    assert found == pairs(how, window, lefts, rights)
