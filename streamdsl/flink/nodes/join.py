"""Joins: of streams by time, of a stream with what was known at its time, of tables."""

from __future__ import annotations

from collections.abc import Sequence

from streamdsl.flink.nodes.table import last_rows
from streamdsl.flink.quoting import interval, quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import FORGOTTEN, TIME, Relation
from streamdsl.flink.translation import Translation, conditions
from streamdsl.flink.values import Value, as_type, rest_of
from streamdsl.logical.join import AsOfJoinNode, IntervalJoinNode, JoinNode, TableJoinNode, TablesJoinNode
from streamdsl.logical.node import Node
from streamdsl.logical.types import INT, TIMESTAMP

__all__ = ["as_of", "interval_join", "of_tables", "with_table"]

_JOINS = {"inner": "JOIN", "left": "LEFT JOIN", "right": "RIGHT JOIN", "outer": "FULL JOIN"}


def _columns(node: JoinNode) -> list[str]:
    items = []
    for column in node.columns:
        sides = [f"{alias}.{quoted(name)}" for alias, name in (("L", column.left), ("R", column.right)) if name is not None]
        shown = sides[0] if len(sides) == 1 else f"COALESCE({', '.join(sides)})"
        items.append(f"{shown} AS {quoted(column.name)}")
    return items


def _equal(node: JoinNode) -> list[str]:
    pairs = zip(node.sides[0].keys, node.sides[1].keys, strict=True)
    return [f"L.{quoted(mine)} = R.{quoted(theirs)}" for mine, theirs in pairs]


def _joined(items: Sequence[str], left: str, join: str, right: str, on: Sequence[str], where: str = "") -> str:
    listed = ",\n  ".join(items)
    condition = f"\nWHERE {where}" if where else ""
    return f"SELECT\n  {listed}\nFROM {left}\n{join} {right}\nON {conditions(on)}{condition}"


def interval_join(made: Translation, node: IntervalJoinNode) -> Relation:
    """Pairs of rows of two streams."""
    left, right = (made.of(side) for side in node.inputs)
    for source in (left, right):
        if source.changes:
            raise Refused("a join of a stream with the changes of a table", "join the table itself")
    on, nan = _equal(node), _nan(node, left, right)
    items, before, after = _columns(node), node.before_ms, node.after_ms
    if before is None or after is None:
        if node.how != "inner":
            raise Refused(f'a join how="{node.how}" of streams whatever the time', 'how="inner", or say how far apart: within="1h"')
        latest = _latest(left, right)
        made.differs("A join whatever the time keeps all rows of both sides in Flink's state, as here.")
        query = _joined([*items, *latest], f"{quoted(left.name)} AS L", "JOIN", f"{quoted(right.name)} AS R", on)
        return made.view(node, query, like=left, time="value" if latest else None, nan=nan)
    made.differs(FORGOTTEN)
    left.need_rowtime("a join by time")
    right.need_rowtime("a join by time")
    low, high = _moved("L", -before), _moved("L", after)
    on = [*on, f"R.{quoted(TIME)} BETWEEN {low} AND {high}"]
    if node.window_ms:
        on.append(f"{_window_of('L', node)} = {_window_of('R', node)}")
    # The time of a pair is the greater one; where that is always one side's, its watermarks go on.
    inner = node.how == "inner"
    if inner and before <= 0:
        time, kept = f"R.{quoted(TIME)}", "rowtime"
    elif inner and after <= 0:
        time, kept = f"L.{quoted(TIME)}", "rowtime"
    else:
        time, kept = _greater(), "value"
    if not inner:
        made.differs("Rows that match nothing come out of a join when Flink has dropped them from its state, which may be later than here.")
    query = _joined([*items, f"{time} AS {quoted(TIME)}"], f"{quoted(left.name)} AS L", _JOINS[node.how], f"{quoted(right.name)} AS R", on)
    return made.view(node, query, like=left, time=kept, nan=nan)


def _moved(side: str, ms: int) -> str:
    time = f"{side}.{quoted(TIME)}"
    return time if ms == 0 else f"{time} {'+' if ms > 0 else '-'} {interval(abs(ms))}"


def _window_of(side: str, node: IntervalJoinNode) -> str:
    """Return where the window of a row begins; before 1970 the rest of a division is negative."""
    time = as_type(Value(f"{side}.{quoted(TIME)}", TIMESTAMP), INT).inner
    moved = f"({time} - {node.offset_ms})" if node.offset_ms else time
    return f"{moved} - {rest_of(moved, node.window_ms)}"


def _latest(left: Relation, right: Relation) -> list[str]:
    return [f"{_greater()} AS {quoted(TIME)}"] if left.time and right.time else []


def _greater() -> str:
    mine, theirs = f"CAST(L.{quoted(TIME)} AS TIMESTAMP_LTZ(3))", f"CAST(R.{quoted(TIME)} AS TIMESTAMP_LTZ(3))"
    return f"CASE WHEN {theirs} IS NULL OR {mine} >= {theirs} THEN {mine} ELSE {theirs} END"


def _nan(node: JoinNode, left: Relation, right: Relation) -> frozenset[str]:
    return frozenset(
        column.name for column in node.columns if (column.left in left.nan if column.left is not None else column.right in right.nan)
    )


def _versions(made: Translation, node: JoinNode, below: Node, source: Relation) -> Relation:
    """Return the right side as a table with versions: the last row of each key at any time."""
    if source.changes and source.time == "rowtime":
        return source
    if source.changes:
        raise Refused("a join of a stream with a table of aggregates", "aggregate in windows, and use join_asof")
    return last_rows(made, node, source, below.schema.visible(), node.sides[1].keys)


def _temporal(made: Translation, node: JoinNode, tolerance: int | None = None) -> Relation:
    left, right = (made.of(side) for side in node.inputs)
    left.need_rowtime(node.verb)
    versions = _versions(made, node, node.inputs[1], right)
    at = f"{quoted(versions.name)} FOR SYSTEM_TIME AS OF L.{quoted(TIME)} AS R"
    items, where = _columns(node), ""
    if tolerance is not None:
        near = f"R.{quoted(TIME)} >= L.{quoted(TIME)} - {interval(tolerance)}"
        if node.how == "inner":
            where = near
        else:
            items = [_if_near(near, item) if item.startswith("R.") else item for item in items]
    query = _joined([*items, f"L.{quoted(TIME)} AS {quoted(TIME)}"], f"{quoted(left.name)} AS L", _JOINS[node.how], at, _equal(node), where)
    made.differs("A stream meets a table as it was at the time of the row, once the watermarks of both have come so far.")
    return made.view(node, query, like=left, nan=_nan(node, left, right))


def _if_near(near: str, item: str) -> str:
    value, _, name = item.partition(" AS ")
    return f"CASE WHEN {near} THEN {value} END AS {name}"


def as_of(made: Translation, node: AsOfJoinNode) -> Relation:
    """The latest row of the other side at the time of each row."""
    if not node.allow_exact:
        raise Refused("join_asof(allow_exact=False)", "Flink takes the row of the same time as well")
    return _temporal(made, node, node.tolerance_ms)


def with_table(made: Translation, node: TableJoinNode) -> Relation:
    """The row of a table at the time of each row."""
    return _temporal(made, node)


def of_tables(made: Translation, node: TablesJoinNode) -> Relation:
    """Rows of two tables with the same key, as a table."""
    sides = []
    for number, below in enumerate(node.inputs):
        source = made.of(below)
        sides.append(source if source.changes else last_rows(made, node, source, below.schema.visible(), node.sides[number].keys))
    left, right = sides
    query = _joined(_columns(node), f"{quoted(left.name)} AS L", _JOINS[node.how], f"{quoted(right.name)} AS R", _equal(node))
    return made.view(node, query, like=left, time=None, changes=True, nan=_nan(node, left, right))
