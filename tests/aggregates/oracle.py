"""What aggregates, frames and windows must answer, in plain Python: slow, and written independently of the library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Row = dict[str, Any]


def rank(value: Any) -> tuple[int, Any]:
    """Return a key by which values order: NaN is the greatest number; strings order by their bytes."""
    if isinstance(value, float) and math.isnan(value):
        return (1, 0.0)
    return (0, value.encode() if isinstance(value, str) else value)


def signed(value: Any) -> tuple[Any, ...]:
    """Return a key by which min and max order: the same, and -0.0 is less than 0.0."""
    return (*rank(value), math.copysign(1, value) if isinstance(value, float) and value == 0 else 0)


def values(rows: Iterable[Row], column: str) -> list[Any]:
    return [row[column] for row in rows if row[column] is not None]


def welford(numbers: Sequence[float]) -> tuple[int, float, float]:
    n, mean, m2 = 0, 0.0, 0.0
    for number in numbers:
        x = float(number)
        n += 1
        distance = x - mean
        if math.isinf(distance) and not math.isinf(x) and not math.isinf(mean):
            mean += x / n - mean / n
            m2 += math.inf
            continue
        mean += distance / n
        m2 += distance * (x - mean)
    return n, mean, m2


def total(numbers: Iterable[Any], zero: Any) -> Any:
    result = zero
    for number in numbers:
        result = result + number
    return result


def mean(numbers: Sequence[Any], zero: Any) -> float | None:
    return float(total(numbers, zero)) / len(numbers) if numbers else None


def variance(numbers: Sequence[float], ddof: int) -> float | None:
    n, _, m2 = welford(numbers)
    return m2 / (n - ddof) if n > ddof else None


def deviation(numbers: Sequence[float], ddof: int) -> float | None:
    result = variance(numbers, ddof)
    if result is None:
        return None
    return math.sqrt(result)


def special(numbers: Sequence[float]) -> float | None:
    """Return what IEEE says of a sum with NaN or infinities; None: there are none."""
    odd = {number for number in numbers if math.isinf(number)}
    if any(map(math.isnan, numbers)) or len(odd) == 2:
        return math.nan
    return odd.pop() if odd else None


def exact_total(numbers: Sequence[float]) -> float:
    """Return the sum, rounded once: what rolling frames give."""
    found = special(numbers)
    if found is not None:
        return found
    total = sum(map(Fraction, numbers), Fraction())
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def exact_mean(numbers: Sequence[float]) -> float | None:
    return exact_total(numbers) / len(numbers) if numbers else None


def exact_variance(numbers: Sequence[float], ddof: int) -> float | None:
    """Return the variance of exact sums: what is divided is rounded once, and so is what comes of it."""
    n = len(numbers)
    if n <= ddof or n == 0:
        return None
    if special(numbers) is not None:
        return math.nan
    scaled = n * sum(Fraction(x) ** 2 for x in numbers) - sum(map(Fraction, numbers)) ** 2
    if scaled == 0:
        return 0.0
    exponent = math.floor(math.log2(scaled.numerator)) - math.floor(math.log2(scaled.denominator)) - 52
    while scaled / Fraction(2) ** exponent >= 2**53:
        exponent += 1
    while scaled / Fraction(2) ** exponent < 2**52:
        exponent -= 1
    try:
        return math.ldexp(float(round(scaled / Fraction(2) ** exponent)) / (float(n) * float(n - ddof)), exponent)
    except OverflowError:
        return math.inf


def exact_deviation(numbers: Sequence[float], ddof: int) -> float | None:
    found = exact_variance(numbers, ddof)
    return None if found is None else math.sqrt(found)


def smallest(found: Sequence[Any]) -> Any:
    return min(found, key=signed) if found else None


def largest(found: Sequence[Any]) -> Any:
    return max(found, key=signed) if found else None


def best_by(rows: Iterable[Row], column: str, by: str, largest_first: bool) -> Any:
    complete = [row for row in rows if row[column] is not None and row[by] is not None]
    if not complete:
        return None
    choose = max if largest_first else min  # both keep the first of equal ones
    return choose(complete, key=lambda row: rank(row[by]))[column]


def top(rows: Iterable[Row], column: str, by: str, n: int) -> list[Any] | None:
    complete = [row for row in rows if row[column] is not None and row[by] is not None]
    ordered = sorted(complete, key=lambda row: rank(row[by]), reverse=True)  # stable: ties by arrival
    return [row[column] for row in ordered[:n]] or None


def distinct(found: Iterable[Any]) -> int:
    return len({"nan" if isinstance(value, float) and math.isnan(value) else value for value in found})


#: name of the output column → its value over the rows of a frame or window, in order of arrival
EXPECTED: dict[str, Callable[[Sequence[Row]], Any]] = {
    "n": len,
    "n_i": lambda rows: len(values(rows, "i")),
    "sum_i": lambda rows: sum(values(rows, "i")),
    "sum_f": lambda rows: total(values(rows, "f"), 0.0),
    "sum_b": lambda rows: sum(values(rows, "b")),
    "min_i": lambda rows: smallest(values(rows, "i")),
    "max_f": lambda rows: largest(values(rows, "f")),
    "min_f": lambda rows: smallest(values(rows, "f")),
    "max_s": lambda rows: largest(values(rows, "s")),
    "min_b": lambda rows: smallest(values(rows, "b")),
    "mean_i": lambda rows: mean(values(rows, "i"), 0),
    "mean_f": lambda rows: mean(values(rows, "f"), 0.0),
    "std_f": lambda rows: deviation(values(rows, "f"), 0),
    "var_i": lambda rows: variance(values(rows, "i"), 1),
    "first_s": lambda rows: next(iter(values(rows, "s")), None),
    "last_f": lambda rows: (values(rows, "f") or [None])[-1],
    "list_s": lambda rows: values(rows, "s") or None,
    "list_f": lambda rows: values(rows, "f") or None,
    "unique_s": lambda rows: distinct(values(rows, "s")),
    "unique_f": lambda rows: distinct(values(rows, "f")),
    "max_by": lambda rows: best_by(rows, "s", "f", True),
    "min_by": lambda rows: best_by(rows, "i", "s", False),
    "top": lambda rows: top(rows, "s", "i", 2),
    "some": lambda rows: sum(values([row for row in rows if row["b"]], "i")),
    "joined": lambda rows: "".join(values(rows, "s")) if values(rows, "s") else None,
}


#: The same over a rolling frame, where sums of floats are exact.
ROLLING = EXPECTED | {
    "sum_f": lambda rows: exact_total(values(rows, "f")),
    "mean_f": lambda rows: exact_mean(values(rows, "f")),
    "std_f": lambda rows: exact_deviation(values(rows, "f"), 0),
    "var_i": lambda rows: exact_variance([float(i) for i in values(rows, "i")], 1),
}


def same(value: Any) -> Any:
    """Return a form that compares equal exactly when the bits do (0.0 is not -0.0), NaN included."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value.hex()
    if isinstance(value, list):
        return [same(one) for one in value]
    if isinstance(value, dict):
        return {name: same(one) for name, one in value.items()}
    return value


@dataclass(frozen=True)
class Arrival:
    """A record, or (row is None) the watermark that arrived."""

    time: int
    row: Row | None


def framed(arrivals: Sequence[Arrival], size: int | None, exclude: bool) -> tuple[list[Row], list[Row]]:
    """Return, for each record in order, the expected aggregates; and the rows that were late. `size` None: expanding."""
    watermark = -(2**63)
    history: dict[str, list[tuple[int, Row]]] = {}
    results, late = [], []
    for arrival in arrivals:
        if arrival.row is None:
            watermark = max(watermark, arrival.time)
            continue
        time, row = arrival.time, arrival.row
        if size is not None and time <= watermark:
            late.append(row)
            continue
        earlier = history.setdefault(row["k"], [])
        visible = [old for at, old in earlier if size is None or time - size < at <= time]
        if not exclude:
            visible = [*visible, row]
        results.append(row | {name: expected(visible) for name, expected in (EXPECTED if size is None else ROLLING).items()})
        earlier.append((time, row))
    return results, late
