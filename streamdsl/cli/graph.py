"""``streamdsl -A … graph``: a topology as a drawing, in Mermaid, DOT or SVG."""

from __future__ import annotations

import click

from streamdsl.cli.printing import echo
from streamdsl.cli.target import load
from streamdsl.compiler import drawn
from streamdsl.logical.drawing import edges, label, svg
from streamdsl.logical.node import Node, StatefulNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode

__all__ = ["command", "dot", "mermaid"]


@click.command("graph")
@click.option("--format", "format_", type=click.Choice(["mermaid", "dot", "svg"]), default="mermaid", show_default=True)
@click.option("--svg", "picture", is_flag=True, help="The same as --format svg.")
@click.pass_obj
def command(target: str | None, format_: str, picture: bool) -> None:
    """Print the topology as a graph: for a page (Mermaid), for Graphviz (DOT), or as a picture (SVG)."""
    plan = drawn(load(target))
    echo({"mermaid": mermaid, "dot": dot, "svg": svg}["svg" if picture else format_](plan))


def mermaid(plan: LogicalPlan) -> str:
    """Return the plan as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for number, node in enumerate(plan.nodes):
        left, right = _mermaid_shape(node)
        text = "<br/>".join("".join(_MERMAID.get(letter, letter) for letter in line) for line in label(node))
        lines.append(f'    n{number}{left}"{text}"{right}')
    lines += [f"    n{source} --> n{target}" for source, target in edges(plan)]
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
        lines.append(f"    n{number} [shape={shape}, label={_quoted(chr(10).join(label(node)))}];")
    lines += [f"    n{source} -> n{target};" for source, target in edges(plan)]
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
