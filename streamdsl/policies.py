"""What becomes of a record that cannot be decoded, computed, processed or written: `errors=`.

The nearest policy counts: that of the verb; then that of the source which its rows come from; then `Topology(errors=)`; then
`Config(errors=)`; then "fail". Rows of several sources have the strictest of theirs: "fail", then dead letters, then "skip".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Union

from streamdsl.connectors.base import Sink
from streamdsl.errors import TopologyError

__all__ = ["DeadLetter", "ErrorPolicy", "checked_policy", "dead_letter", "strictest"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Send bad records to a sink; rows as `streamdsl.schema.DEAD_LETTER_SCHEMA`."""

    sink: Sink
    name: str

    def __repr__(self) -> str:
        return f"dead_letter({self.name!r})"


ErrorPolicy = Union[Literal["fail", "skip"], DeadLetter]


def dead_letter(sink: Sink, *, name: str | None = None) -> DeadLetter:
    """Return the policy that sends bad records to `sink` and goes on.

    Parameters
    ----------
    sink : Sink
    name : str, optional
        Name of the sink in the topology (default: the sink's own).

    Examples
    --------
    >>> topology = Topology("t", errors=dead_letter(memory("bad")))
    >>> topology.stream(memory("rows", {"s": str})).select(n=col("s").cast(int)).to(memory("out"))
    >>> driver = TopologyTestDriver(topology)
    >>> driver.send_batch("rows", [{"s": "7"}, {"s": "x"}])
    >>> driver.read("out"), [(row["value"], row["error"]) for row in driver.read("bad")]
    ([{'n': 7}], [(b'{"s": "x"}', "column 'n': 'x' is no int64")])
    """
    if not isinstance(sink, Sink):
        raise TopologyError(f"dead_letter needs a sink, not {sink!r}", remedy='e.g. dead_letter(files("bad.jsonl"))')
    if name is not None and (not isinstance(name, str) or not name):
        raise TopologyError(f"dead_letter: name={name!r} is no name of a sink", remedy="give a text that is not empty, or leave it out")
    return DeadLetter(sink, name or sink.name)


def checked_policy(value: Any, verb: str, *, makes_columns: bool = False) -> ErrorPolicy | None:
    """Return `value` if it is an error policy, or None, which leaves the choice to what is around the verb.

    `makes_columns`: other keywords of the verb are columns, and so the user may have meant one.

    Raises
    ------
    TopologyError
        It is something else; the error names the verb.
    """
    if value is None or isinstance(value, DeadLetter):
        return value
    if isinstance(value, str) and value == "fail":
        return "fail"
    if isinstance(value, str) and value == "skip":
        return "skip"
    if isinstance(value, Sink):
        raise TopologyError(f"{verb}: errors={value!r} is a sink", remedy="write errors=dead_letter(sink)")
    remedy = 'use "fail", "skip" or dead_letter(sink)'
    if makes_columns:
        remedy += f'; for a column write lit({value!r}).alias("errors")'
    raise TopologyError(f"{verb}: errors={value!r} is unknown", remedy=remedy)


def strictest(policies: Iterable[ErrorPolicy]) -> ErrorPolicy | None:
    """Return the strictest of some policies: "fail", then dead letters (of several the first), then "skip"; None of none."""
    found: ErrorPolicy | None = None
    for policy in policies:
        if policy == "fail":
            return "fail"
        if found is None or (found == "skip" and isinstance(policy, DeadLetter)):
            found = policy
    return found
