"""``streamdsl -A … graph``: a topology as a drawing, in Mermaid or DOT."""

from __future__ import annotations

import click

from streamdsl.cli.printing import echo
from streamdsl.cli.target import load
from streamdsl.compiler import drawn
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node, StatefulNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode

__all__ = ["command", "dot", "mermaid"]

#: More text than this makes a box that nobody reads.
_LONGEST = 60


@click.command("graph")
@click.option("--format", "format_", type=click.Choice(["mermaid", "dot"]), default="mermaid", show_default=True)
@click.pass_obj
def command(target: str | None, format_: str) -> None:
    """Print the topology as a graph: for a page (Mermaid) or for Graphviz (`… --format dot | dot -Tsvg`)."""
    plan = drawn(load(target))
    echo(mermaid(plan) if format_ == "mermaid" else dot(plan))


def mermaid(plan: LogicalPlan) -> str:
    """Return the plan as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for number, node in enumerate(plan.nodes):
        left, right = _mermaid_shape(node)
        text = "<br/>".join("".join(_MERMAID.get(letter, letter) for letter in line) for line in _label(node))
        lines.append(f'    n{number}{left}"{text}"{right}')
    lines += [f"    n{source} --> n{target}" for source, target in _edges(plan)]
    return "\n".join(lines)


#: Mermaid has entity codes instead of escapes.
_MERMAID = {'"': "#quot;", "#": "#35;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "\\": "#92;", "`": "#96;"}


def _mermaid_shape(node: Node) -> tuple[str, str]:
    if isinstance(node, SourceNode):
        return "([", "])"
    if isinstance(node, SinkNode):
        return "[[", "]]"
    return ("[(", ")]") if isinstance(node, StatefulNode) else ("[", "]")


def dot(plan: LogicalPlan) -> str:
    """Return the plan as a Graphviz digraph."""
    lines = [f"digraph {_quoted(plan.name)} {{", "    node [shape=box];"]
    for number, node in enumerate(plan.nodes):
        shape = "ellipse" if isinstance(node, SourceNode | SinkNode) else "cylinder" if isinstance(node, StatefulNode) else "box"
        lines.append(f"    n{number} [shape={shape}, label={_quoted(chr(10).join(_label(node)))}];")
    lines += [f"    n{source} -> n{target};" for source, target in _edges(plan)]
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _edges(plan: LogicalPlan) -> list[tuple[int, int]]:
    return [(plan.numbers[id(source)], number) for number, node in enumerate(plan.nodes) for source in node.inputs]


def _label(node: Node) -> list[str]:
    lines = [node.verb, _short(node.text()), node.notes() if isinstance(node, StatefulNode | KeyByNode) else ""]
    return ["".join(letter if letter.isprintable() else " " for letter in line) for line in lines if line]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
