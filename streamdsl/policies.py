"""What becomes of a record that cannot be decoded or that a user's function refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Union

from streamdsl.connectors.base import Sink
from streamdsl.errors import TopologyError

__all__ = ["DeadLetter", "ErrorPolicy", "checked_policy", "dead_letter"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Send bad records to a sink; rows as `streamdsl.schema.DEAD_LETTER_SCHEMA`."""

    sink: Sink
    name: str


ErrorPolicy = Union[Literal["fail", "skip"], DeadLetter]


def dead_letter(sink: Sink, *, name: str | None = None) -> DeadLetter:
    """Return the policy that sends bad records to `sink` and goes on.

    Parameters
    ----------
    sink : Sink
    name : str, optional
        Name of the sink in the topology (default: the sink's own).
    """
    if not isinstance(sink, Sink):
        raise TopologyError(f"dead_letter needs a sink, not {sink!r}")
    return DeadLetter(sink, name or sink.name)


def checked_policy(value: Any, verb: str) -> ErrorPolicy:
    """Return `value` if it is an error policy; raise `TopologyError` naming the verb otherwise."""
    if isinstance(value, DeadLetter):
        return value
    if value == "fail":
        return "fail"
    if value == "skip":
        return "skip"
    raise TopologyError(f"{verb}: errors={value!r} is unknown", remedy='use "fail", "skip" or dead_letter(sink)')
