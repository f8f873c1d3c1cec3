"""Rows for the simulated topologies, and how what comes out is compared. The scheduler is `streamdsl.testing.Simulation`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa


def multiset(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> list[str]:
    """Return the rows in an order that does not depend on how they came."""
    return sorted(repr((time, sorted(row.items()))) for time, row in rows)


def by_key(rows: Sequence[tuple[int, Mapping[str, Any]]], key: str = "key") -> dict[Any, list[str]]:
    """Return the rows of each key in the order in which they came."""
    found: dict[Any, list[str]] = {}
    for time, row in rows:
        found.setdefault(row[key], []).append(repr((time, sorted(row.items()))))
    return found


def random_rows(seed: int, n: int, *, keys: int = 7, disorder: int = 20) -> list[dict[str, Any]]:
    """Return rows {key, at, x, city} whose times are at most `disorder` ms out of order; x may be null."""
    draw = random.Random(seed)
    now, rows = 1_000, []
    for _ in range(n):
        now += draw.choice([0, 1, 3, 10, 40])
        rows.append(
            {
                "key": f"k{draw.randrange(keys)}",
                "at": now - draw.randint(0, disorder),
                "x": None if draw.random() < 0.1 else draw.randint(-5, 50) / 4,
                "city": draw.choice(["Lima", "Cusco", "Tacna", "Arica"]),
            }
        )
    return rows


SCHEMA = pa.schema([("key", pa.string()), ("at", pa.int64()), ("x", pa.float64()), ("city", pa.string())])
