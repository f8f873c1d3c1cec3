"""Table: one row for each key, that changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from streamdsl.connectors.base import Sink
from streamdsl.dsl.changes import rebuilt
from streamdsl.dsl.columns import Item, Place, computed, items_of, no_aggregates
from streamdsl.dsl.joining import Keys
from streamdsl.dsl.regrouping import GroupedTable
from streamdsl.dsl.showing import Shown
from streamdsl.dsl.stream import Stream
from streamdsl.dsl.table_joining import TableSide, tables_joined
from streamdsl.dsl.unknown import UnknownVerbError, unknown_verb
from streamdsl.dsl.unrun import Unrun
from streamdsl.dsl.written import Written, arguments, here
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, Operand, condition_of
from streamdsl.logical.aggregate import CHANGE, AggregateNode
from streamdsl.logical.bind import Binder
from streamdsl.logical.expression import ColumnRef, Typed
from streamdsl.logical.join import TablesJoinNode
from streamdsl.logical.node import Node
from streamdsl.logical.project import ProjectNode, narrowed, passed
from streamdsl.logical.table import TableNode
from streamdsl.logical.types import BOOL, TEXT, literal
from streamdsl.policies import ErrorPolicy, checked_policy
from streamdsl.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

    from streamdsl.config import Config
    from streamdsl.dsl.topology import Bindings, Topology

__all__ = ["Table"]

_OF_STREAMS: Final = frozenset(
    [
        "branch",
        "flat_map",
        "key_by",
        "map",
        "map_batches",
        "merge",
        "output",
        "peek",
        "process",
    ]
)


class Table(Unrun, Shown):
    """One row for each key. Made by aggregates without a window and by `Topology.table`.

    Examples
    --------
    >>> people = memory("people", {"id": int, "city": str}, [{"id": 1, "city": "Lima"}, {"id": 1, "city": "Ica"}])
    >>> table = Topology("t").table(people, key="id")
    >>> table
    <Table of 't' by id: id: int64 not null, city: string not null>
    >>> table.collect().to_pylist()
    [{'id': 1, 'city': 'Lima', 'op': 'add'}, {'id': 1, 'city': 'Ica', 'op': 'replace'}]
    """

    def __init__(self, topology: Topology, node: Node, keys: tuple[str, ...], written: Written) -> None:
        self._topology = topology
        self._node = node
        self._written = written
        self.keys = keys

    _own = frozenset({"keys"})

    def __repr__(self) -> str:
        return f"<Table of {self._topology.name!r} by {', '.join(self.keys) or 'everything'}: {self.schema}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _OF_STREAMS:
                raise UnknownVerbError(f"a table has no {name}()", remedy=f"write .to_stream().{name}(...) to go on with its changes")
            raise unknown_verb(self, name)

    @property
    def schema(self) -> Schema:
        """Columns of the rows.

        Examples
        --------
        >>> print(Topology("t").stream(memory("rows", {"city": str})).key_by("city").count().schema)
        city: string not null, count: int64 not null
        """
        return self._node.schema.visible()

    def _table(self, node: Node, written: Written, keys: tuple[str, ...] | None = None) -> Table:
        return Table(self._topology, node, self.keys if keys is None else keys, written)

    def _place(self, verb: str, errors: ErrorPolicy | None) -> Place:
        return Place(self._node, verb, keyed=False, frame=None, scope="", name=None, errors=errors)

    # One row becomes one row -----------------------------------------------------------------------------------

    def with_columns(self, *columns: Expr, errors: ErrorPolicy | None = None, **named: Operand) -> Table:
        """Add or replace columns of each row; those of the key stay.

        Parameters
        ----------
        *columns : Expr
            Expressions with a name.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of changes for which an expression fails.
        **named
            Computed columns.

        Examples
        --------
        >>> people = memory("people", {"id": int, "age": int}, [{"id": 1, "age": 17}])
        >>> Topology("t").table(people, key="id").with_columns(adult=col("age") >= 18).collect().to_pylist()
        [{'id': 1, 'age': 17, 'op': 'add', 'adult': False}]
        """
        items = self._items("with_columns", columns, named)
        policy = checked_policy(errors, "with_columns")
        node = computed(self._place("with_columns", policy), items, keep=True)
        return self._table(node, Written("with_columns", arguments(*columns, **named), self._written))

    def select(self, *columns: str | Expr, errors: ErrorPolicy | None = None, **named: Operand) -> Table:
        """Keep or compute these columns of each row, beside those of the key, which come first. Arguments as `with_columns`.

        Examples
        --------
        >>> people = memory("people", {"id": int, "age": int, "city": str}, [{"id": 1, "age": 17, "city": "Ica"}])
        >>> Topology("t").table(people, key="id").select("city").collect().to_pylist()
        [{'id': 1, 'city': 'Ica', 'op': 'add'}]
        """
        keys = [key for key in self.keys if key not in columns]
        items = self._items("select", (*keys, *columns), named, but=self.keys)
        policy = checked_policy(errors, "select")
        node = computed(self._place("select", policy), items, keep=False)
        return self._table(node, Written("select", arguments(*columns, **named), self._written))

    def drop(self, *columns: str) -> Table:
        """Leave columns out; those of the key stay.

        Examples
        --------
        >>> people = memory("people", {"id": int, "age": int, "city": str}, [{"id": 1, "age": 17, "city": "Ica"}])
        >>> Topology("t").table(people, key="id").drop("age").collect().to_pylist()
        [{'id': 1, 'city': 'Ica', 'op': 'add'}]
        """
        for name in columns:
            self.schema.field(name)
        self._refuse_keys("drop", columns)
        node = narrowed(self._node, [name for name in self._node.schema.names if name not in columns])
        return self._table(node, Written("drop", arguments(*columns), self._written))

    def filter(self, condition: Expr, *, name: str | None = None, errors: ErrorPolicy | None = None) -> Table:
        """Keep the rows for which `condition` is true: a row that no longer is so is withdrawn.

        Parameters
        ----------
        condition : Expr
            Null counts as false.
        name : str, optional
            Identity of the state: the rows that are kept.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of changes for which the condition fails.

        Examples
        --------
        >>> people = memory("people", {"id": int, "city": str}, [{"id": 1, "city": "Lima"}, {"id": 1, "city": "Ica"}])
        >>> Topology("t").table(people, key="id").filter(col("city") == "Lima").collect().to_pylist()
        [{'id': 1, 'city': 'Lima', 'op': 'add'}, {'id': 1, 'city': 'Lima', 'op': 'withdraw'}]
        """
        test = Binder(self._node.schema, "filter").bind_bool(condition_of("filter", condition))
        node = _kept_by(self._node, self.keys, test, checked_policy(errors, "filter"), name)
        return self._table(node, Written("filter", arguments(condition, name=name), self._written))

    def _items(self, verb: str, columns: Sequence[Any], named: dict[str, Any], but: tuple[str, ...] = ()) -> list[Item]:
        items = items_of(verb, columns, dict(named))
        if not items:
            raise TopologyError(f"{verb} needs at least one column")
        for item in items:
            no_aggregates(verb, item.value, keyed=False)
            if item.value != ColumnRef(item.name):
                self._refuse_keys(verb, [item.name])
        return items

    def _refuse_keys(self, verb: str, names: Iterable[str]) -> None:
        for name in names:
            if name in self.keys:
                raise TopologyError(
                    f"{verb}: {name!r} belongs to the table's key, which stays",
                    remedy="give the new column another name, or write .to_stream()",
                )

    def join(
        self,
        other: Table,
        *,
        how: str = "inner",
        on: Keys = None,
        suffix: str = "_right",
        name: str | None = None,
    ) -> Table:
        """Put the rows of two tables that belong together beside each other: a table that changes with either.

        They belong together by their keys, or where columns of the left table, named with `on`, hold the key of the right one (a
        foreign key, as in KIP-213). Either way the result has the left table's key.

        Parameters
        ----------
        other : Table
            The right side. Its key has the types of this table's, or of the columns `on`.
        how : "inner" | "left" | "right" | "outer"
            Which rows there are although the other table has none for their key: none, those of the left, of the right, of both.
            With a foreign key "inner" or "left".
        on : str or sequence of str, optional
            Columns of this table that hold the key of the other one (default: its key).
        suffix : str
            Is added to columns of the right side whose names the left one has too.
        name : str, optional
            Identity of the state.

        Examples
        --------
        >>> from streamdsl import Topology, memory
        >>> topology = Topology("t")
        >>> people = topology.table(memory("people", {"id": int, "name": str}, [{"id": 1, "name": "Ada"}]), key="id")
        >>> cities = topology.table(memory("cities", {"id": int, "city": str}, [{"id": 1, "city": "London"}]), key="id")
        >>> people.join(cities).collect().to_pylist()
        [{'id': 1, 'name': 'Ada', 'city': 'London', 'op': 'add'}]
        """
        if not isinstance(other, Table):
            raise TopologyError(f"join: {other!r} is not a table", remedy="a stream joins a table: stream.join(table, on=...)")
        if other._topology is not self._topology:
            raise TopologyError("join: the tables belong to different topologies")
        node = tables_joined(TableSide(self._node, self.keys), TableSide(other._node, other.keys), on, how, suffix, name)
        return self._table(node, Written("join", arguments(on=on, how=how, name=name), self._written, (other._written,)))

    def group_by(self, *columns: str | Expr, **named: Operand) -> GroupedTable:
        """Bring rows together by other columns than the key, to aggregate them: see `GroupedTable.aggregate`.

        Examples
        --------
        >>> people = memory("people", {"id": int, "city": str}, [{"id": 1, "city": "Lima"}, {"id": 1, "city": "Ica"}])
        >>> counts = Topology("t").table(people, key="id").group_by("city").count()
        >>> [tuple(row.values()) for row in counts.collect().to_pylist()]
        [('Lima', 1, 'add'), ('Lima', 1, 'withdraw'), ('Ica', 1, 'add')]
        """
        return GroupedTable(self, columns, named)

    # Ends ------------------------------------------------------------------------------------------------------

    def to(self, sink: Sink, *, name: str | None = None, errors: ErrorPolicy | None = None) -> None:
        """Write the rows to a sink as upserts by key; of a withdrawn row the key alone is left, all else is null (a tombstone).

        A file only grows: there the last row of a key counts, and a table whose rows may be withdrawn is refused.

        Parameters
        ----------
        sink : Sink
        name : str, optional
            Name of the sink in this topology (default: the sink's own).
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows that the sink cannot write.

        Examples
        --------
        >>> topology = Topology("t")
        >>> people = topology.table(memory("people", {"id": int, "city": str}), key="id")
        >>> people.filter(col("city") == "Lima").to(memory("out"))
        >>> driver = TopologyTestDriver(topology)
        >>> driver.send_batch("people", [{"id": 1, "city": "Lima"}, {"id": 1, "city": "Ica"}])
        >>> driver.read("out")
        [{'id': 1, 'city': 'Lima'}, {'id': 1, 'city': None}]
        """
        written = Written("to", arguments(sink, name=name, errors=errors), self._written)
        gone = withdraws(self._node)
        node = _with_tombstones(self._node, self.keys) if gone else self._node
        self._topology._end(node, sink, name, written, keys=self.keys, changes=True, withdraws=gone, errors=errors)

    def to_stream(self) -> Stream:
        """Return the changes; the column `op` says "add", "replace" or "withdraw".

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"s": "a"}, {"s": "b"}, {"s": "a"}]))
        >>> rows.key_by("s").count().to_stream().filter(col("op") == "replace").collect().to_pylist()
        [{'s': 'a', 'count': 2, 'op': 'replace'}]
        """
        outputs = tuple(
            dataclasses.replace(output, hidden=False) if output.name == CHANGE.name else output for output in passed(self._node.schema)
        )
        node = ProjectNode(inputs=(self._node,), where=here(), outputs=outputs)
        return Stream(self._topology, node, Written("to_stream", "", self._written))

    def collect(self, config: Config | None = None, *, bind: Bindings | None = None) -> pa.Table:
        """Run the topology for this table alone, to the end of its (bounded) input, and return its changes.

        Examples
        --------
        >>> table = Topology("t").stream(memory("rows", rows=[{"s": "a"}, {"s": "a"}])).key_by("s").count()
        >>> table.collect().to_pylist()
        [{'s': 'a', 'count': 1, 'op': 'add'}, {'s': 'a', 'count': 2, 'op': 'replace'}]
        """
        return self.to_stream().collect(config, bind=bind)

    def _rows(self) -> pa.Table:
        return _standing(self.collect(), self.keys)

    def head(self, n: int = 10, config: Config | None = None, *, bind: Bindings | None = None) -> pa.Table:
        """Run the topology for this table alone and return its first `n` changes.

        Examples
        --------
        >>> table = Topology("t").stream(memory("rows", rows=[{"s": "a"}, {"s": "a"}])).key_by("s").count()
        >>> table.head(1).to_pylist()
        [{'s': 'a', 'count': 1, 'op': 'add'}]
        """
        return self.to_stream().head(n, config, bind=bind)


def _standing(changes: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Return the rows that stand at the end of some changes, by key, in the order in which their keys came first."""
    rows: dict[tuple[Any, ...], int] = {}
    for at, (change, *key) in enumerate(zip(*[changes[name].to_pylist() for name in (CHANGE.name, *keys)], strict=True)):
        if change == "withdraw":
            rows.pop(tuple(map(repr, key)), None)
        else:
            rows[tuple(map(repr, key))] = at
    return changes.take(list(rows.values())).drop_columns([CHANGE.name])


def withdraws(node: Node) -> bool:
    """Whether the changes of a table may take rows away."""
    while isinstance(node, ProjectNode):
        node = node.inputs[0]
    return isinstance(node, (TableNode, TablesJoinNode)) or (isinstance(node, AggregateNode) and node.sign is not None)


def _kept_by(node: Node, keys: tuple[str, ...], test: Typed, errors: ErrorPolicy | None, name: str | None) -> Node:
    """Return the changes of a table of the rows for which `test` holds."""
    return rebuilt(node, keys, test, errors, name, "filter", retracts=False)


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
