"""What would other thresholds have found? The same topology over the same history, twice: ``python examples/fraud/backtest.py --help``.

    python examples/fraud/backtest.py --against '{"sigmas": 3.5, "velocity": 4}'

Prints, by rule, the alerts of either, those that are gained and lost, and, where the truth is known, how many of them are fraud.
`--plot FILE.svg` draws them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import Config, StreamError, files, memory

from . import chart, data
from .records import Planted, Transaction
from .thresholds import Thresholds
from .topology import Rules, build

#: A transaction and the rule that it met.
Found = set[tuple[int, str]]
_WIDTH: Final = 40


def found(inputs: Sequence[str | Path], rules: Rules, at: Thresholds, parallelism: int = 1) -> Found:
    """Return the alerts of a history under some thresholds."""
    out = memory("alerts")
    source = files(inputs, schema=Transaction)
    build(rules, at=at).run(Config(parallelism=parallelism), bind={"transactions": source, "alerts": out})
    rows = out.table()
    return set(zip(rows["transaction_id"].to_pylist(), rows["rule"].to_pylist(), strict=True))


def compared(before: Found, after: Found, truth: Mapping[int, Planted] | None) -> list[str]:
    """Return the table, a line for each rule."""

    def cell(alerts: Collection[tuple[int, str]]) -> str:
        if truth is None or not alerts:
            return f"{len(alerts):>8,}" + " " * 6 * (truth is not None)
        return f"{len(alerts):>8,} {sum(number in truth for number, _ in alerts) / len(alerts):>4.0%} "

    head = f"{'rule':16}" + "".join(f"{name:>8}{' fraud' if truth is not None else ''}" for name in ("before", "after", "gained", "lost"))
    lines = [head]
    for rule in sorted({rule for _, rule in before | after}):
        one, other = ({alert for alert in alerts if alert[1] == rule} for alerts in (before, after))
        lines.append(f"{rule:16}" + "".join(map(cell, (one, other, other - one, one - other))))
    return lines


def plot(before: Found, after: Found) -> list[str]:
    """Return bars, two for each rule."""
    rules = sorted({rule for _, rule in before | after})
    counts = {(rule, i): sum(alert[1] == rule for alert in alerts) for rule in rules for i, alerts in enumerate((before, after))}
    most = max(counts.values(), default=1) or 1
    lines = []
    for rule in rules:
        for i, (name, block) in enumerate(((rule, "█"), ("", "░"))):
            lines.append(f"{name:16} {block * round(_WIDTH * counts[rule, i] / most)} {counts[rule, i]:,}")
    return lines


def thresholds(text: str) -> Thresholds:
    """Return those of a JSON object, or of a file with one."""
    return Thresholds.of(json.loads(text)) if text.lstrip().startswith("{") else Thresholds.read(Path(text))


def main(argv: Sequence[str] | None = None) -> int:
    """Run both and compare; return the exit code."""
    parser = argparse.ArgumentParser(description="Compare the alerts of two sets of thresholds over the same history.")
    add = parser.add_argument
    add("--input", nargs="+", metavar="FILE", help="Parquet, CSV, JSON lines or Arrow (default: sample data, whose truth is known)")
    add("--before", default="{}", metavar="JSON|FILE", help="thresholds (default: those of the example)")
    add("--against", required=True, metavar="JSON|FILE", help='for instance {"sigmas": 3.5}')
    add("--plot", type=Path, metavar="FILE", help="the alerts by rule as a picture, SVG")
    add("--rules", choices=("declared", "all"), default="declared")
    add("--parallelism", type=int, default=1, metavar="N")
    asked = parser.parse_args(argv)
    if asked.plot and (asked.plot.suffix.lower() != ".svg" or not asked.plot.parent.is_dir()):
        parser.error(f"--plot {asked.plot}: name a file that ends in .svg, in a directory that exists")
    try:
        sample = None if asked.input else data.sample(kind="habits" if asked.rules == "all" else "bursts")
        inputs = sample.transactions if sample else asked.input
        before, after = (found(inputs, asked.rules, thresholds(text), asked.parallelism) for text in (asked.before, asked.against))
    except (StreamError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(*compared(before, after, data.read_truth(sample.truth) if sample else None), "", *plot(before, after), sep="\n")
    if asked.plot:
        asked.plot.write_text(chart.svg(before, after), encoding="utf-8")
        print(f"\n{asked.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
