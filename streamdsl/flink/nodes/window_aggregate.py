"""Windows: rows of a table function, grouped by key and bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from streamdsl.flink.aggregates import grouped, never_null
from streamdsl.flink.quoting import interval, quoted
from streamdsl.flink.ranked import Ranking, ranked, rankings
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import TIME, Relation
from streamdsl.flink.translation import Translation, nested, partition, select, with_key
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import Value, as_type
from streamdsl.logical.expression import Typed, TypedAggregate, substitute
from streamdsl.logical.types import INT, TIMESTAMP
from streamdsl.logical.window_aggregate import WindowAggregateNode
from streamdsl.schema import Schema
from streamdsl.windows import Window

__all__ = ["window_aggregate"]

#: The column that has all columns of a session's key.
_KEY_NAME: Final = "_key_of_session"
_KEY: Final = quoted(_KEY_NAME)
#: Columns that a window's table function adds.
_ADDED: Final = ("window_start", "window_end", "window_time")
#: Windows of Flink that a row may pass to be in those of the topology.
_MOST_WINDOWS: Final = 1_000


def window_aggregate(made: Translation, node: WindowAggregateNode) -> Relation:
    """One row for each key and window, when the window closes."""
    source = made.of(node.inputs[0])
    source.need_rowtime(str(node.window))
    _check(node.window)
    made.differs("Records that no window takes any more are dropped, and no output has them.")
    _check_merging(node)
    rows, aggregates, schema = _rows(made, node, source)
    found, plain = rankings(aggregates, source, schema)
    keys = [_KEY] if _key_as_row(node) else [quoted(name) for name in node.key_schema.names]
    if found:
        return _best(made, node, source, _table(node, rows), found, plain, schema)
    made_of = [f"{grouped(one, source, schema)} AS {quoted(one.name)}" for one in aggregates]
    bounds = [f"CAST({bound} AS TIMESTAMP_LTZ(3)) AS {quoted(bound)}" for bound in ("window_start", "window_end")]
    table = _table(node, rows)
    group = f"\nGROUP BY {', '.join([*keys, 'window_start', 'window_end', 'window_time'])}"
    items = [*keys, *bounds, *made_of, f"window_time AS {quoted(TIME)}"]
    if node.window.kind == "session":
        made.differs("Rows of a session have the time of its end less a millisecond: here the end is its last moment.")
    query = select(items, table, rest=group)
    if _key_as_row(node):
        names = [quoted(name) for name in (*node.schema.names[len(node.key_schema.names) :], TIME)]
        query = select([*(f"{_KEY}.{quoted(name)} AS {quoted(name)}" for name in node.key_schema.names), *names], nested(query))
    return made.view(node, query, like=source, time="rowtime", nan=frozenset(), filled=_filled(node, source))


def _filled(node: WindowAggregateNode, source: Relation) -> frozenset[str]:
    return frozenset(one.name for one in node.aggregates if never_null(one, source))


def _best(
    made: Translation,
    node: WindowAggregateNode,
    source: Relation,
    table: str,
    found: Sequence[Ranking],
    plain: Sequence[TypedAggregate],
    schema: Schema,
) -> Relation:
    """Return the best rows of each key and window: Flink numbers them when the window closes."""
    if _key_as_row(node):
        raise Refused(f"{found[0].picks[0][0].kind} in a session of several key columns", "make one column of the key: concat_str(...)")
    alone = len(found) == 1 and not plain and found[0].whole and found[0].rows == 1
    if not alone and node.window.kind == "session":
        raise Refused(
            f"{found[0].picks[0][0].kind} in a session beside other aggregates, of values that may be null, or of more than one row",
            "fill nulls before, and give each order a window of its own",
        )
    made.differs("Of rows that are equally good for max_by, min_by or top_k, Flink takes the first one to arrive at its task.")
    best = [ranked(one, node.key_schema.names, table, "", _ADDED, _ADDED[:2]) for one in found]
    query = best[0] if alone else _beside(node, source, table, best, found, plain, schema)
    bounds = [f"CAST({bound} AS TIMESTAMP_LTZ(3)) AS {quoted(bound)}" for bound in ("window_start", "window_end")]
    names = [quoted(one.name) for one in node.aggregates]
    outer = select([*map(quoted, node.key_schema.names), *bounds, *names, f"window_time AS {quoted(TIME)}"], nested(query))
    return made.view(node, outer, like=source, time="rowtime", nan=frozenset(), filled=_filled(node, source))


def _beside(
    node: WindowAggregateNode,
    source: Relation,
    table: str,
    best: Sequence[str],
    found: Sequence[Ranking],
    plain: Sequence[TypedAggregate],
    schema: Schema,
) -> str:
    """Return the best rows of each key and window beside its other aggregates: queries of the same windows, joined."""
    keys = [quoted(name) for name in node.key_schema.names]
    groups = [*keys, *_ADDED]
    items = [*groups, *(f"{grouped(one, source, schema)} AS {quoted(one.name)}" for one in plain)]
    # A key has a row even where none of its rows counts; a query of nothing but groups would be no window's.
    items += [] if plain else ["COUNT(*) AS `_rows`"]
    every = select(items, table, rest=f"\nGROUP BY {', '.join(groups)}")
    tables = [f"{nested(every)} AS `t0`"]
    for number, query in enumerate(best, 1):
        same = " AND ".join(f"`t0`.{name} = `t{number}`.{name}" for name in (*_ADDED[:2], *keys))
        tables.append(f"LEFT JOIN {nested(query)} AS `t{number}` ON {same}")
    place = {one.name: number for number, ranking in enumerate(found, 1) for one, _ in ranking.picks}
    names = [f"`t{place.get(one.name, 0)}`.{quoted(one.name)}" for one in node.aggregates]
    return select([*(f"`t0`.{name}" for name in groups), *names], "\n".join(tables))


def _rows(made: Translation, node: WindowAggregateNode, source: Relation) -> tuple[str, Sequence[TypedAggregate], Schema]:
    """Return the table of the rows that have a key, in which no column is called like those that a window adds."""
    schema, missing = node.inputs[0].schema, with_key(node)
    taken = {name: f"_{name}" for name in schema.names if name in _ADDED}
    if not missing and not taken and not _key_as_row(node):
        return source.name, node.aggregates, schema
    items = [f"{quoted(name)} AS {quoted(taken[name])}" if name in taken else quoted(name) for name in schema.names]
    if _key_as_row(node):
        fields = node.key_schema.fields
        typed = ", ".join(f"{quoted(field.name)} {flink_type(field.type)}" for field in fields)
        items.append(f"CAST(ROW({', '.join(quoted(field.name) for field in fields)}) AS ROW<{typed}>) AS {_KEY}")
    query = select([*items, quoted(TIME)], quoted(source.name), missing)
    rows = made.view(node, query, like=source, name=f"window_aggregate_{made.plan.numbers[id(node)]}_rows").name
    renamed = Schema(tuple(replace(field, name=taken.get(field.name, field.name)) for field in schema.fields))
    moved = {name: Typed("column", schema.field(name).type, params=(new,)) for name, new in taken.items()}
    return rows, [one.map(lambda value: substitute([value], moved)[0]) for one in node.aggregates], renamed


def _check(window: Window) -> None:
    if window.emit != "close":
        raise Refused(f"{window} with emit={window.emit}", 'emit="close": windows of Flink SQL emit when they close')
    if window.kind not in ("tumbling", "hopping", "session"):
        raise Refused(f"the window {window}", "use tumbling, hopping or session windows")
    if window.tz is not None:
        raise Refused(f"{window}: days of a time zone", "give offset= in the place of tz=: the job runs in UTC")
    if window.kind != "session" and window.size_ms // _grid(window) > _MOST_WINDOWS:
        raise Refused(
            f"{window}: on Flink a row would pass {window.size_ms // _grid(window)} windows",
            f"choose a step and an offset that cut the size into {_MOST_WINDOWS} parts or fewer",
        )


def _check_merging(node: WindowAggregateNode) -> None:
    """Flink puts sessions together from parts, and its FIRST_VALUE and LAST_VALUE cannot be."""
    for one in node.aggregates:
        if one.kind in ("first", "last") and node.window.kind == "session":
            raise Refused(
                f"{one.kind}() in {node.window}: Flink cannot unite two of them",
                f"tumbling or hopping windows; or {'min' if one.kind == 'first' else 'max'}_by(event_time()) in a window of its own",
            )


def _grid(window: Window) -> int:
    """Return the step of Flink's windows among which those of `window` are: it has no offset, and a size is a multiple of its step.

    Flink 2.2 knows an offset, but takes rows of such windows for late ones, now and then.
    """
    return math.gcd(window.size_ms, window.every_ms if window.kind == "hopping" else window.size_ms, window.offset_ms)


def _key_as_row(node: WindowAggregateNode) -> bool:
    """Whether the key's columns have to be one: Flink 2.2 forgets the brackets around those of a session in a view."""
    return node.window.kind == "session" and len(node.key_schema.names) > 1


def _table(node: WindowAggregateNode, rows: str) -> str:
    window = node.window
    time = f"DESCRIPTOR({quoted(TIME)})"
    if window.kind == "session":
        keyed = f" {partition([_KEY_NAME] if _key_as_row(node) else node.key_schema.names).strip()}" if node.key_schema.names else ""
        return f"TABLE(SESSION(TABLE {quoted(rows)}{keyed}, {time}, {interval(window.size_ms)}))"
    grid, every = _grid(window), window.every_ms if window.kind == "hopping" else window.size_ms
    hopping = f"TABLE(HOP(TABLE {quoted(rows)}, {time}, {interval(grid)}, {interval(window.size_ms)}))"
    if grid == every and (window.kind == "tumbling" or not _of_order(node)):
        return hopping if window.kind == "hopping" else f"TABLE(TUMBLE(TABLE {quoted(rows)}, {time}, {interval(window.size_ms)}))"
    # Windows that are taken out by a condition have their rows by themselves: Flink does not put them together from parts.
    begin = as_type(Value("CAST(window_start AS TIMESTAMP_LTZ(3))", TIMESTAMP), INT).inner
    return nested(select(["*"], hopping, f"MOD({begin} - {window.offset_ms}, {every}) = 0"))


def _of_order(node: WindowAggregateNode) -> bool:
    """Whether the window has FIRST_VALUE or LAST_VALUE: Flink cannot unite two of them."""
    return any(one.kind in ("first", "last") for one in node.aggregates)
