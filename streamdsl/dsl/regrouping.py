"""Tables made of the rows of a table: those that are kept, and aggregates of groups of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamdsl.dsl.changes import rebuilt, retracting
from streamdsl.dsl.columns import aggregate_items, policy_of, state_name
from streamdsl.dsl.stream import Stream
from streamdsl.dsl.written import Written, arguments, here
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, Operand, col, count
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.bind import Binder
from streamdsl.logical.expression import Aggregation, Typed, text_of
from streamdsl.logical.node import Node
from streamdsl.logical.project import Output, ProjectNode, passed
from streamdsl.logical.table import TableNode
from streamdsl.logical.types import BOOL, INT, TEXT, is_float, literal
from streamdsl.policies import ErrorPolicy

if TYPE_CHECKING:
    from streamdsl.dsl.table import Table

__all__ = ["GroupedTable"]

_SIGN = "_sign"
_ROWS = "_rows"


class GroupedTable:
    """The rows of a table by other columns than its key. Made by `Table.group_by`."""

    def __init__(self, table: Table, columns: tuple[str | Expr, ...], named: dict[str, Operand]) -> None:
        self._table = table
        self._columns = columns
        self._named = named

    def aggregate(self, *columns: Expr, name: str | Expr | None = None, errors: ErrorPolicy | Expr | None = None, **named: Expr) -> Table:
        """Keep aggregates of the rows of each group, exact at all times: a row that changes is taken out, then added again.

        A group without rows is withdrawn.

        Parameters
        ----------
        *columns : Expr
            Aggregates with a name: `count()`, and `sum()` and `mean()` of whole numbers and decimals.
        name : str, optional
            Identity of the state.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows for which an expression fails.
        **named : Expr
            ``total=col("amount").sum()``

        Examples
        --------
        >>> from streamdsl import Topology, count, memory
        >>> rows = [{"id": 1, "city": "Lima"}, {"id": 2, "city": "Lima"}, {"id": 2, "city": "Cusco"}]
        >>> people = Topology("t").table(memory("people", {"id": int, "city": str}, rows), key="id")
        >>> changes = people.group_by("city").aggregate(n=count()).collect().to_pylist()
        >>> {row["city"]: row["n"] for row in changes}
        {'Lima': 1, 'Cusco': 1}
        """
        state, rest = state_name(name, dict(named))
        policy, rest = policy_of("aggregate", errors, rest)
        items = aggregate_items("aggregate", columns, rest)
        made = {item.name: _signed(self._table._node, item.name, item.value) for item in items}
        keys: dict[str, Any] = dict(self._named)
        grouped = self._changes().key_by(*self._columns, **keys)
        counted = grouped.aggregate(name=state, errors=policy, **{_ROWS: col(_SIGN).sum()}, **made)
        kept = counted.filter(col(_ROWS) > 0, name=None if state is None else f"{state}.groups").drop(_ROWS)
        return kept._table(kept._node, Written("aggregate", arguments(*columns, **rest), self._table._written))

    def count(self, *, name: str | None = None) -> Table:
        """Count the rows of each group: a table with the column `count`."""
        return self.aggregate(name=name, count=count())

    def _changes(self) -> Stream:
        """The rows that come and go, with a sign."""
        table = self._table
        node = table._node
        if isinstance(node, TableNode):
            node = retracting(node, f"{node.name}.changes")
        else:
            node = rebuilt(node, table.keys, literal(True, BOOL), None, None, "changes", retracts=True)
        change = Typed("column", TEXT, params=(CHANGE.name,), nullable=False)
        withdrawn = Typed("eq", BOOL, (change, literal("withdraw", TEXT)), nullable=False)
        sign = Typed("when", INT, (withdrawn, literal(-1, INT), literal(1, INT)), nullable=False)
        outputs = [*(one for one in passed(node.schema.visible())), Output(_SIGN, sign)]
        changes = ProjectNode(inputs=(node,), where=here(), outputs=tuple(outputs))
        return Stream(table._topology, changes, Written("group_by", arguments(*self._columns, **self._named), table._written))


def _signed(node: Node, name: str, value: Any) -> Expr:
    """Return the aggregate over rows with a sign."""
    if not isinstance(value, Aggregation) or value.frame is not None:
        raise TopologyError(
            f"aggregate: {name} = {text_of(value)}: a table's groups take one aggregate a column",
            remedy="compute with them afterwards: .aggregate(...).with_columns(...)",
        )
    sign = col(_SIGN)
    if value.kind == "count":
        return Expr(Aggregation("sum", argument=sign.node, where=value.where))
    if value.kind not in ("sum", "mean") or value.argument is None:
        raise TopologyError(
            f"aggregate: {name} = {text_of(value)}: a row that changes cannot be taken out of {value.kind}() again",
            remedy="use count(), sum() or mean() of whole numbers and decimals; or aggregate a stream: .to_stream().key_by(...)",
        )
    type_ = Binder(node.schema, "aggregate").bind(value.argument).type
    if is_float(type_):
        raise TopologyError(
            f"aggregate: {name} = {text_of(value)}: a {type_} that is taken out again does not leave the sum as it was",
            remedy="add up whole numbers (cents, say) or decimals: .cast(...)",
        )
    amount = Expr(value.argument)
    total = Expr(Aggregation("sum", argument=(amount * sign).node, where=value.where))
    if value.kind == "sum":
        return total
    there = amount.is_not_null()
    where = there if value.where is None else Expr(value.where) & there
    return total / Expr(Aggregation("sum", argument=sign.node, where=where.node))
