"""Plan piece of `deduplicate`."""

from __future__ import annotations

from streamdsl.dsl.updates import refuse_updates
from streamdsl.dsl.written import here, slug
from streamdsl.durations import Duration, format_duration, parse_duration
from streamdsl.errors import TopologyError
from streamdsl.logical.deduplicate import DeduplicateNode
from streamdsl.logical.key_by import key_of
from streamdsl.logical.node import Node

__all__ = ["deduplicated"]


def deduplicated(node: Node, keyed: bool, within: Duration | None, name: str | None, scope: str) -> DeduplicateNode:
    """Return the node that keeps the first of the records of a key."""
    if not keyed:
        raise TopologyError(
            "deduplicate does not know what makes records equal", remedy='write deduplicate(on="id"), or .key_by(...) before it'
        )
    refuse_updates("deduplicate", node, withdrawn_only=True, table=True)
    within_ms = None if within is None else parse_duration(within, "within")
    if within_ms is not None and within_ms <= 0:
        raise TopologyError(f"deduplicate: within={within!r} is no time", remedy="give a duration above 0, or leave it out: for ever")
    parts = ["deduplicate", "+".join(key_of(node).keys) or "all", "" if within_ms is None else format_duration(within_ms)]
    return DeduplicateNode(inputs=(node,), where=here(), name=f"{scope}{name or slug(parts)}", named=name is not None, within_ms=within_ms)
