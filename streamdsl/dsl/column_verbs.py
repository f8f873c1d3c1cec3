"""Verbs of a stream that keep, make, drop or rename columns, or keep some of the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from streamdsl.dsl.columns import Place, computed, filtered_by, items_of, policy_of, state_name, with_name
from streamdsl.dsl.written import Written, arguments, here
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, Operand, condition_of
from streamdsl.logical.bind import Binder
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.node import Node
from streamdsl.logical.project import ProjectNode, narrowed, passed
from streamdsl.logical.python_function import Mode
from streamdsl.policies import ErrorPolicy, checked_policy
from streamdsl.schema import Schema, nearest

if TYPE_CHECKING:
    from streamdsl.dsl.stream import Stream

__all__ = ["ColumnVerbs"]


class ColumnVerbs:
    """What a `Stream` has of such verbs."""

    _node: Node

    if TYPE_CHECKING:

        @property
        def schema(self) -> Schema: ...

        def _place(self, verb: str, name: str | None = None, errors: ErrorPolicy | None = None) -> Place: ...
        def _says(self, verb: str, text: str = "", *others: Stream) -> Written: ...
        def _next(self, node: Node, written: Written) -> Self: ...
        def _function(self, mode: Mode, function: Callable[..., Any], output: Any, errors: ErrorPolicy | None, verb: str = "") -> Self: ...

    def filter(
        self,
        condition: Expr | Callable[[Any], bool],
        *,
        errors: ErrorPolicy | None = None,
        name: str | None = None,
    ) -> Self:
        """Keep the rows for which `condition` is true.

        Parameters
        ----------
        condition : Expr or callable
            Null counts as false. A function gets the row.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows on which the condition fails (default: the nearest policy around it, see `streamdsl.policies`).
        name : str, optional
            Name of the state, if the condition holds aggregates.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 5}, {"x": -1}, {"x": None}]))
        >>> rows.filter(col("x") > 0).collect().to_pylist()
        [{'x': 5}]
        >>> rows.filter(lambda row: row.x is None or row.x > 0).collect().to_pylist()
        [{'x': 5}, {'x': None}]
        """
        if callable(condition) and not isinstance(condition, Expr):
            return self._function("filter", condition, None, errors)
        policy = checked_policy(errors, "filter")
        node, plain = filtered_by(self._place("filter", name, policy), condition_of("filter", condition))
        predicate = Binder(node.schema, "filter").bind_bool(plain)
        kept: Node = FilterNode(inputs=(node,), where=here(), predicate=predicate, errors=policy)
        kept = narrowed(kept, self._node.schema.names)
        return self._next(kept, self._says("filter", arguments(condition, name=name, errors=policy)))

    def select(
        self,
        *columns: str | Expr,
        name: str | Expr | None = None,
        errors: ErrorPolicy | Expr | None = None,
        **named: Operand,
    ) -> Self:
        """Keep or compute exactly these columns.

        Parameters
        ----------
        *columns : str or Expr
            Names, or expressions with a name.
        name : str, optional
            Name of the state, if an expression holds aggregates. (An expression makes a column called "name".)
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows for which an expression fails, as for `filter`. (An expression makes a column called "errors".)
        **named
            Computed columns.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 5, "s": "a", "t": "b"}]))
        >>> rows.select("s", col("x").alias("n"), twice=col("x") * 2).collect().to_pylist()
        [{'s': 'a', 'n': 5, 'twice': 10}]
        """
        name, named = state_name(name, named)
        policy, named = policy_of("select", errors, named)
        items = items_of("select", columns, named)
        if not items:
            raise TopologyError("select needs at least one column")
        node = computed(self._place("select", name, policy), items, keep=False)
        return self._next(node, self._says("select", arguments(*columns, **with_name(name, named, policy))))

    def with_columns(
        self,
        *columns: Expr,
        name: str | Expr | None = None,
        errors: ErrorPolicy | Expr | None = None,
        **named: Operand,
    ) -> Self:
        """Add or replace columns; on a keyed stream they may hold aggregates over frames.

        Columns of one call are computed from the row as it came: they do not see one another.

        Parameters
        ----------
        *columns : Expr
            Expressions with a name.
        name : str, optional
            Name of the state, if an expression holds aggregates. (An expression makes a column called "name".)
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows for which an expression fails, as for `filter`. (An expression makes a column called "errors".)
        **named
            Computed columns.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 5}, {"x": 7}]))
        >>> rows.with_columns(x=col("x") + 1, before=col("x")).collect().to_pylist()
        [{'x': 6, 'before': 5}, {'x': 8, 'before': 7}]
        >>> rows.key_by().with_columns(sum=col("x").sum().over(expanding())).collect().to_pylist()
        [{'x': 5, 'sum': 5}, {'x': 7, 'sum': 12}]
        """
        name, named = state_name(name, named)
        policy, named = policy_of("with_columns", errors, named)
        items = items_of("with_columns", columns, named)
        if not items:
            raise TopologyError("with_columns needs at least one column")
        node = computed(self._place("with_columns", name, policy), items, keep=True)
        return self._next(node, self._says("with_columns", arguments(*columns, **with_name(name, named, policy))))

    def drop(self, *columns: str) -> Self:
        """Leave columns out.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 5, "s": "a"}]))
        >>> rows.drop("s").collect().to_pylist()
        [{'x': 5}]
        >>> rows.drop("S")
        Traceback (most recent call last):
            ...
        streamdsl.errors.TopologyError: drop: unknown column 'S'
          did you mean 's'? known: x, s
        """
        schema = self._node.schema
        try:
            schema.drop(columns)
        except TopologyError as error:
            raise TopologyError(f"drop: {error.message}", remedy=error.remedy) from None
        kept = narrowed(self._node, [name for name in schema.names if name not in columns])
        if not kept.schema.visible().fields:
            raise TopologyError("drop: no column would be left")
        return self._next(kept, self._says("drop", arguments(*columns)))

    def rename(self, mapping: Mapping[str, str] | None = None, **names: str) -> Self:
        """Give columns other names: ``rename(old="new")`` or ``rename({"old": "new"})``.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 5, "s": "a"}]))
        >>> rows.rename(x="s", s="x").collect().to_pylist()
        [{'s': 5, 'x': 'a'}]
        """
        renamed = {**(mapping or {}), **names}
        for old in renamed:
            if old not in self._node.schema:
                near = nearest(old, self.schema.names)
                raise TopologyError(
                    f"rename: unknown column {old!r}",
                    remedy=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(self.schema.names)}",
                )
        outputs = tuple(
            dataclasses.replace(output, name=renamed[output.name], hidden=False) if output.name in renamed else output
            for output in passed(self._node.schema)
        )
        made = {output.name for output in outputs if not output.hidden}
        outputs = tuple(output for output in outputs if not (output.hidden and output.name in made))
        node = ProjectNode(inputs=(self._node,), where=here(), outputs=outputs)
        Schema(node.schema.fields)
        return self._next(node, self._says("rename", arguments(renamed)))
