"""Tables made of the rows of a table: those that are kept, and aggregates of groups of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamdsl.dsl.aggregating import Grouping, aggregated
from streamdsl.dsl.changes import free_name, rebuilt, retracting
from streamdsl.dsl.stream import Stream
from streamdsl.dsl.unrun import Unrun
from streamdsl.dsl.written import Written, arguments, here, with_emit
from streamdsl.expr import Expr, Operand, count
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.expression import Typed
from streamdsl.logical.project import Output, ProjectNode, passed
from streamdsl.logical.table import TableNode
from streamdsl.logical.types import BOOL, INT, TEXT, literal
from streamdsl.policies import ErrorPolicy
from streamdsl.windows import TableEmission, table_emission

if TYPE_CHECKING:
    from streamdsl.dsl.table import Table

__all__ = ["GroupedTable"]


class GroupedTable(Unrun):
    """The rows of a table by other columns than its key. Made by `Table.group_by`; see `GroupedTable.aggregate`."""

    def __init__(self, table: Table, columns: tuple[str | Expr, ...], named: dict[str, Operand]) -> None:
        self._table = table
        self._columns = columns
        self._named = named

    def __repr__(self) -> str:
        return f"<GroupedTable of {self._table!r}>"

    def aggregate(
        self,
        *columns: Expr,
        name: str | Expr | None = None,
        errors: ErrorPolicy | Expr | None = None,
        emit: TableEmission | Expr = "update",
        **named: Expr,
    ) -> Table:
        """Keep aggregates of the rows of each group, exact at all times: a row that changes is taken out, then added again.

        A group without rows is withdrawn. Sums, means and deviations keep a few numbers for each group; `min`, `max`, `n_unique`,
        `quantile`, `median` and `product` each different value with how often it is there; `first`, `last`, `to_list`, `max_by`,
        `min_by` and `top_k` every row. A row that changes arrives anew. Of equal rows the one that arrived first leaves.

        Parameters
        ----------
        *columns : Expr
            Aggregates with a name, and calculations with them. Those with `approximate=True` are refused, and an `Aggregate`
            without `withdraw`.
        name : str, optional
            Identity of the state.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows for which an expression fails.
        emit : "update" | "batch"
            A row of a group leaves for each row that comes or goes, or for each batch of them and group: then a group that came
            and went within a batch is not shown. (An expression makes a column called "emit".)
        **named : Expr
            ``total=col("amount").sum()``

        Examples
        --------
        >>> from streamdsl import Topology, col, count, memory
        >>> rows = [{"id": 1, "city": "Lima", "age": 7}, {"id": 2, "city": "Lima", "age": 9}, {"id": 2, "city": "Cusco", "age": 9}]
        >>> people = Topology("t").table(memory("people", {"id": int, "city": str, "age": int}, rows), key="id")
        >>> changes = people.group_by("city").aggregate(n=count(), oldest=col("age").max()).collect().to_pylist()
        >>> {row["city"]: (row["n"], row["oldest"]) for row in changes}
        {'Lima': (1, 7), 'Cusco': (1, 9)}
        """
        if isinstance(emit, Expr):
            named, emit = {"emit": emit, **named}, "update"
        return self._grouped("aggregate", emit, columns, name, errors, dict(named))

    def count(self, *, name: str | None = None, emit: TableEmission = "update") -> Table:
        """Count the rows of each group: a table with the column `count`. `emit` as of `aggregate`.

        Examples
        --------
        >>> people = memory("people", {"id": int, "city": str}, [{"id": 1, "city": "Lima"}, {"id": 2, "city": "Lima"}])
        >>> Topology("t").table(people, key="id").group_by("city").count().collect().to_pylist()[-1]
        {'city': 'Lima', 'count': 2, 'op': 'replace'}
        """
        return self._grouped("count", emit, (), name, None, {"count": count()})

    def _grouped(
        self,
        verb: str,
        emit: TableEmission,
        columns: tuple[Expr, ...],
        name: str | Expr | None,
        errors: ErrorPolicy | Expr | None,
        named: dict[str, Any],
    ) -> Table:
        emission = table_emission(verb, emit, throttles=False)
        changes, sign = self._changes()
        keys: dict[str, Any] = dict(self._named)
        grouped = changes.key_by(*self._columns, **keys)
        grouping = Grouping(grouped._node, verb, "", None, None, sign=sign, emit=emission)
        node, shown = aggregated(grouping, columns, name, errors, named)
        return self._table._table(node, Written(verb, with_emit(shown, emit), self._table._written), grouped.keys)

    def _changes(self) -> tuple[Stream, Typed]:
        """The rows that come and go, and what tells their sign."""
        table = self._table
        node = table._node
        if isinstance(node, TableNode):
            node = retracting(node, f"{node.name}.changes")
        else:
            node = rebuilt(node, table.keys, literal(True, BOOL), None, None, "changes", retracts=True)
        change = Typed("column", TEXT, params=(CHANGE.name,), nullable=False)
        withdrawn = Typed("eq", BOOL, (change, literal("withdraw", TEXT)), nullable=False)
        value = Typed("when", INT, (withdrawn, literal(-1, INT), literal(1, INT)), nullable=False)
        sign = free_name("_sign", node.schema)
        outputs = [*(one for one in passed(node.schema.visible())), Output(sign, value, hidden=True)]
        changes = ProjectNode(inputs=(node,), where=here(), outputs=tuple(outputs))
        written = Written("group_by", arguments(*self._columns, **self._named), table._written)
        return Stream(table._topology, changes, written), Typed("column", INT, params=(sign,), nullable=False)
