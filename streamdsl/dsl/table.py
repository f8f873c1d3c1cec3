"""Table: one row for each key, that changes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from streamdsl.connectors.base import Sink
from streamdsl.dsl.stream import Stream
from streamdsl.dsl.unknown import UnknownVerbError, unknown_verb
from streamdsl.dsl.written import Written, arguments, here
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.expression import Typed
from streamdsl.logical.node import Node
from streamdsl.logical.project import ProjectNode, passed
from streamdsl.logical.table import TableNode
from streamdsl.logical.types import BOOL, TEXT, literal
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

    from streamdsl.config import Config
    from streamdsl.dsl.topology import Bindings, Topology

__all__ = ["Table"]

_OF_STREAMS: Final = frozenset(
    [
        "branch",
        "drop",
        "filter",
        "flat_map",
        "key_by",
        "map",
        "map_batches",
        "merge",
        "output",
        "peek",
        "process",
        "rename",
        "select",
        "with_columns",
    ]
)


class Table:
    """One row for each key. Made by aggregates without a window and by `Topology.table`."""

    def __init__(self, topology: Topology, node: Node, keys: tuple[str, ...], written: Written) -> None:
        self._topology = topology
        self._node = node
        self._written = written
        self.keys = keys

    def __repr__(self) -> str:
        return f"<Table of {self._topology.name!r} by {', '.join(self.keys) or 'everything'}: {self.schema}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _OF_STREAMS:
                raise UnknownVerbError(f"a table has no {name}()", remedy=f"write .to_stream().{name}(...) to go on with its changes")
            raise unknown_verb(self, name)

    @property
    def schema(self) -> Schema:
        """Columns of the rows."""
        return self._node.schema.visible()

    def to(self, sink: Sink, *, name: str | None = None, errors: ErrorPolicy | None = None) -> None:
        """Write the rows to a sink as upserts by key; of a withdrawn row the key alone is left, all else is null (a tombstone).

        Parameters
        ----------
        sink : Sink
        name : str, optional
            Name of the sink in this topology (default: the sink's own).
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows that the sink cannot write.
        """
        written = Written("to", arguments(sink, name=name, errors=errors), self._written)
        node = _with_tombstones(self._node, self.keys) if isinstance(self._node, TableNode) else self._node
        self._topology._end(node, sink, name, written, keys=self.keys, changes=True, errors=errors)

    def to_stream(self) -> Stream:
        """Return the changes; the column `op` says "add", "replace" or "withdraw"."""
        outputs = tuple(
            dataclasses.replace(output, hidden=False) if output.name == CHANGE.name else output for output in passed(self._node.schema)
        )
        node = ProjectNode(inputs=(self._node,), where=here(), outputs=outputs)
        return Stream(self._topology, node, Written("to_stream", "", self._written))

    def collect(self, config: Config | None = None, *, bind: Bindings | None = None) -> pa.Table:
        """Run the topology for this table alone, to the end of its (bounded) input, and return its changes."""
        return self.to_stream().collect(config, bind=bind)

    def head(self, n: int = 10, config: Config | None = None, *, bind: Bindings | None = None) -> pa.Table:
        """Run the topology for this table alone and return its first `n` changes."""
        return self.to_stream().head(n, config, bind=bind)


def _with_tombstones(node: Node, keys: tuple[str, ...]) -> Node:
    change = Typed("column", TEXT, params=(CHANGE.name,), nullable=False)
    withdrawn = Typed("eq", BOOL, (change, literal("withdraw", TEXT)), nullable=False)
    outputs = tuple(
        output
        if output.hidden or output.name in keys
        else dataclasses.replace(
            output,
            value=Typed("when", output.value.type, (withdrawn, literal(None, output.value.type), output.value), nullable=True),
        )
        for output in passed(node.schema)
    )
    return ProjectNode(inputs=(node,), where=here(), outputs=outputs)
