"""What cannot be said in Flink SQL with the same meaning is refused by name."""

from __future__ import annotations

from collections.abc import Sequence

from streamdsl.errors import TopologyError

__all__ = ["Refused", "refusal"]


class Refused(Exception):
    """One part of a topology has no equal in Flink SQL. Caught by `translate`, which tells of all of them together."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def refusal(name: str, found: Sequence[Refused]) -> TopologyError:
    """Return the error that names everything of the topology `name` that was refused."""
    told = dict.fromkeys((one.message, one.remedy) for one in found)
    parts = [message + (f" ({remedy})" if remedy else "") for message, remedy in told]
    if len(parts) == 1:
        ((message, remedy),) = told
        return TopologyError(f"{name} cannot run on Flink: {message}", remedy=remedy or None)
    listed = "; ".join(f"{number}. {part}" for number, part in enumerate(parts, 1))
    return TopologyError(f"{name} cannot run on Flink: {listed}")
