"""A logical plan as a drawing: what stands in its boxes, where they are, and all of it as SVG. Needs nothing but Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final, Literal

from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node, StatefulNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode

__all__ = ["Box", "Drawing", "Kind", "Line", "arranged", "drawing", "edges", "label", "svg"]

#: More text than this makes a box that nobody reads.
_LONGEST: Final = 60
#: Pixels: a letter of 12 px monospace, a line, and what is left between boxes.
_LETTER, _LINE, _PAD, _GAP_X, _GAP_Y = 7.3, 16, 10, 28, 44
#: How often the boxes of a row are put under the middle of those that they read.
_SWEEPS: Final = 4

Kind = Literal["source", "sink", "state", "step"]


@dataclass(frozen=True, slots=True)
class Box:
    """One node: `number` is its place in the plan, `x` and `y` are its upper left corner, in pixels."""

    number: int
    kind: Kind
    name: str
    lines: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """One edge: from the box `source` to the box `target`, through `points`."""

    source: int
    target: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and lines, and the size of all, in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def edges(plan: LogicalPlan) -> list[tuple[int, int]]:
    """Return the edges of a plan, by the places of their nodes."""
    return [(plan.numbers[id(source)], number) for number, node in enumerate(plan.nodes) for source in node.inputs]


def label(node: Node) -> list[str]:
    """Return the lines of a node's box."""
    lines = [node.verb, _short(node.text()), node.notes() if isinstance(node, StatefulNode | KeyByNode) else ""]
    return ["".join(letter if letter.isprintable() else " " for letter in line) for line in lines if line]


def kind_of_node(node: Node) -> Kind:
    """Return what a node is drawn as."""
    if isinstance(node, SourceNode):
        return "source"
    if isinstance(node, SinkNode):
        return "sink"
    return "state" if isinstance(node, StatefulNode) else "step"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def drawing(plan: LogicalPlan) -> Drawing:
    """Lay a plan out in rows: each box stands below all that it reads."""
    nodes = [(kind_of_node(node), getattr(node, "name", None) or node.verb, tuple(label(node))) for node in plan.nodes]
    return arranged(nodes, edges(plan))


def arranged(nodes: Sequence[tuple[Kind, str, tuple[str, ...]]], joined: Sequence[tuple[int, int]]) -> Drawing:
    """Lay boxes out: `nodes` are (kind, name, lines), in an order in which each stands behind all that it reads; `joined` are the edges."""
    ranks = _ranks(len(nodes), joined)
    sizes = [_size(lines) for _, _, lines in nodes]
    # An edge over several rows has a place of its own in each, so that it passes beside the boxes there.
    chains: list[list[int]] = []
    for source, target in joined:
        chain = [source]
        for rank in range(ranks[source] + 1, ranks[target]):
            chain.append(len(ranks))
            ranks.append(rank)
            sizes.append((12.0, 12.0))
        chains.append([*chain, target])
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=0) + 1)]
    for number, rank in enumerate(ranks):
        rows[rank].append(number)
    middles = _middles(rows, chains, sizes)
    tops, y = [], float(_PAD)
    for row in rows:
        tops.append(y)
        y += max((sizes[number][1] for number in row), default=0) + _GAP_Y
    corners = [(middles[number] - sizes[number][0] / 2, tops[ranks[number]]) for number in range(len(ranks))]
    left = min((x for x, _ in corners), default=0.0) - _PAD
    boxes = tuple(
        Box(number, kind, name, lines, corners[number][0] - left, corners[number][1], *sizes[number])
        for number, (kind, name, lines) in enumerate(nodes)
    )
    width = max((x + sizes[number][0] for number, (x, _) in enumerate(corners)), default=0.0) - left + _PAD
    lines = tuple(Line(chain[0], chain[-1], _points(chain, corners, sizes, left)) for chain in chains)
    return Drawing(width, max(y - _GAP_Y + _PAD, 2 * _PAD), boxes, lines)


def _ranks(n: int, joined: Sequence[tuple[int, int]]) -> list[int]:
    ranks = [0] * n
    for source, target in joined:  # inputs stand before what reads them
        ranks[target] = max(ranks[target], ranks[source] + 1)
    return ranks


def _size(lines: Sequence[str]) -> tuple[float, float]:
    return max(80.0, _LETTER * max(map(len, lines), default=0) + 2 * _PAD), _LINE * len(lines) + 2 * _PAD


def _middles(rows: list[list[int]], chains: list[list[int]], sizes: list[tuple[float, float]]) -> list[float]:
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for chain in chains:
        for source, target in pairwise(chain):
            above.setdefault(target, []).append(source)
            below.setdefault(source, []).append(target)
    middles = [0.0] * len(sizes)
    for row in rows:
        _spread(row, middles, sizes)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        for row in rows if downwards else reversed(rows):
            for number in row:
                near = neighbours.get(number)
                if near:
                    middles[number] = sum(middles[other] for other in near) / len(near)
            row.sort(key=lambda number: (middles[number], number))
            _spread(row, middles, sizes)
    return middles


def _spread(row: list[int], middles: list[float], sizes: list[tuple[float, float]]) -> None:
    """Push the boxes of a row apart, as little as possible, around where they want to be."""
    wanted = sum(middles[number] for number in row) / max(len(row), 1)
    right = float("-inf")
    for number in row:
        half = sizes[number][0] / 2
        middles[number] = max(middles[number], right + _GAP_X + half)
        right = middles[number] + half
    moved = sum(middles[number] for number in row) / max(len(row), 1) - wanted
    for number in row:
        middles[number] -= moved


def _points(
    chain: list[int], corners: list[tuple[float, float]], sizes: list[tuple[float, float]], left: float
) -> tuple[tuple[float, float], ...]:
    points = []
    for place, number in enumerate(chain):
        x, y = corners[number][0] - left + sizes[number][0] / 2, corners[number][1]
        if place == 0:
            points.append((x, y + sizes[number][1]))
        elif place == len(chain) - 1:
            points.append((x, y))
        else:
            points += [(x, y), (x, y + sizes[number][1])]
    return tuple(points)


#: Fill, stroke and letters of each kind of box, in light and in dark.
_STYLE: Final = """
  .box { fill: #f6f8fa; stroke: #57606a } .source { fill: #ddf4ff; stroke: #0969da } .sink { fill: #dafbe1; stroke: #1a7f37 }
  .state { fill: #fff8c5; stroke: #9a6700 } .line { fill: none; stroke: #57606a } .head { fill: #57606a }
  text { font: 12px ui-monospace, monospace; fill: #1f2328 } .verb { font-weight: bold }
  @media (prefers-color-scheme: dark) {
    .box { fill: #161b22; stroke: #8b949e } .source { fill: #0c2d6b; stroke: #58a6ff } .sink { fill: #0f3d1f; stroke: #3fb950 }
    .state { fill: #3b2e00; stroke: #d29922 } .line { stroke: #8b949e } .head { fill: #8b949e } text { fill: #e6edf3 }
  }
"""


def svg(plan: LogicalPlan) -> str:
    """Return the plan as an SVG picture that stands alone: it asks for nothing from anywhere."""
    made = drawing(plan)
    size = f'width="{made.width:.0f}" height="{made.height:.0f}" viewBox="0 0 {made.width:.0f} {made.height:.0f}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(plan.name)}" {size}>', f"<style>{_STYLE}</style>"]
    parts.append('<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">')
    parts.append('<path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>')
    parts += [f'<path class="line" marker-end="url(#head)" d="{path_of(line)}"/>' for line in made.lines]
    for box in made.boxes:
        round_ = 14 if box.kind in ("source", "sink") else 4
        shape = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{round_}"'
        parts.append(f'<g><title>{escape(box.name)}</title><rect class="box {box.kind}" {shape}/>')
        for row, text in enumerate(box.lines):
            at = f'x="{box.x + box.width / 2:.1f}" y="{box.y + _PAD + 12 + _LINE * row:.1f}" text-anchor="middle"'
            verb = ' class="verb"' if row == 0 else ""
            parts.append(f"<text {at}{verb}>{escape(text)}</text>")
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])


def path_of(line: Line) -> str:
    """Return the data of an SVG path along a line."""
    (x, y), *rest = line.points
    parts = [f"M{x:.1f} {y:.1f}"]
    for nx, ny in rest:
        bend = (ny - y) / 2
        parts.append(f"C{x:.1f} {y + bend:.1f} {nx:.1f} {ny - bend:.1f} {nx:.1f} {ny:.1f}")
        x, y = nx, ny
    return " ".join(parts)
