"""Which permissions (ACLs) a job needs in a cluster: what `doctor` lists, and what an error of one that is missing names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["NOTHING", "Access", "Right"]

_CLUSTER = "kafka-cluster"


@dataclass(frozen=True, slots=True)
class Right:
    """Operations on a resource: a topic, a group, a transactional id, the cluster. READ and WRITE imply DESCRIBE."""

    kind: str
    name: str
    operations: tuple[str, ...]
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        *first, last = self.operations
        operations = f"{', '.join(first)}{' and ' if first else ''}{last}"
        return f"{operations} on the {self.kind}" + ("" if self.kind == "cluster" else f" {self.name!r}")


@dataclass(frozen=True, slots=True)
class Access:
    """What a client asks of a cluster, by kind of resource.

    Parameters
    ----------
    topics : collection of str
        With `operations` on each.
    operations : tuple of str
    group, transactional_id : str
        Empty: none.
    """

    topics: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    group: str = ""
    transactional_id: str = ""

    def rights(self) -> Iterable[Right]:
        """Return them one by one."""
        for topic in self.topics:
            yield Right("topic", topic, self.operations)
        if self.group:
            yield Right("group", self.group, ("READ",))
        if self.transactional_id:
            yield Right("transactional id", self.transactional_id, ("WRITE", "DESCRIBE"))

    def missing(self, kind: str) -> str:
        """Return what to ask for when the cluster says that a right on a resource of this kind is missing."""
        found = [str(right) for right in self.rights() if right.kind == kind]
        if kind == "cluster":
            found = [str(Right("cluster", _CLUSTER, ("CREATE",) if "CREATE" in self.operations else ("IDEMPOTENT_WRITE",)))]
        return ", or ".join(found)


NOTHING = Access()
