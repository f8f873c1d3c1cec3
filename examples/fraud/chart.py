"""A backtest as a picture: for each rule the alerts before and after, what is lost and what is gained set apart."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from xml.sax.saxutils import escape

__all__ = ["svg"]

Alerts = Collection[tuple[int, str]]

_LABEL_PX: Final = 150
_BARS_PX: Final = 480
_COUNT_PX: Final = 70
_BAR_PX: Final = 14
_ROW_PX: Final = 44
_HEAD_PX: Final = 40
#: What is in both, what is lost, what is gained.
_COLOURS: Final = {"both": "#4c78a8", "lost": "#bab0ac", "gained": "#f58518"}


def svg(before: Alerts, after: Alerts) -> str:
    """Return an SVG file: two bars for each rule, as long as their alerts are many."""
    one, other = set(before), set(after)
    rules = sorted({rule for _, rule in one | other})
    counts = {rule: [sum(alert[1] == rule for alert in alerts) for alerts in (one & other, one - other, other - one)] for rule in rules}
    most = max((both + max(lost, gained) for both, lost, gained in counts.values()), default=1)
    width, height = _LABEL_PX + _BARS_PX + _COUNT_PX, _HEAD_PX + _ROW_PX * len(rules) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        "<title>Alerts by rule, before and after</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_legend(),
    ]
    for number, rule in enumerate(rules):
        lines += _bars(rule, _HEAD_PX + _ROW_PX * number, *counts[rule], _BARS_PX / most)
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> list[str]:
    words = {"both": "before and after", "lost": "before alone (lost)", "gained": "after alone (gained)"}
    lines = []
    for number, (kind, text) in enumerate(words.items()):
        left = _LABEL_PX + number * 160
        lines.append(f'<rect x="{left}" y="12" width="12" height="12" fill="{_COLOURS[kind]}"/>')
        lines.append(f'<text x="{left + 17}" y="22">{text}</text>')
    return lines


def _bars(rule: str, top: int, both: int, lost: int, gained: int, scale: float) -> list[str]:
    lines = [f'<text x="{_LABEL_PX - 8}" y="{top + _BAR_PX + 5}" text-anchor="end">{escape(rule)}</text>']
    for place, (name, kind, more) in enumerate((("before", "lost", lost), ("after", "gained", gained))):
        y = top + place * (_BAR_PX + 2)
        for left, count, colour in ((0, both, _COLOURS["both"]), (both, more, _COLOURS[kind])):
            if count:
                lines.append(
                    f'<rect class="{escape(rule)} {name}" x="{_LABEL_PX + left * scale:.2f}" y="{y}" width="{count * scale:.2f}" '
                    f'height="{_BAR_PX}" fill="{colour}"/>'
                )
        lines.append(f'<text x="{_LABEL_PX + (both + more) * scale + 6:.2f}" y="{y + _BAR_PX - 3}">{both + more:,}</text>')
    return lines
