"""WindowedStream: rows by key and window; many rows in, one row out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streamdsl.dsl.aggregating import Grouping, aggregated, processed, reduced
from streamdsl.dsl.operator import BoundOperator, NativeOperator, Operator, is_processor, processor_name
from streamdsl.dsl.stream import Stream
from streamdsl.dsl.unknown import UnknownVerbError, unknown_verb
from streamdsl.dsl.unrun import Unrun
from streamdsl.dsl.written import Written, arguments
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, count
from streamdsl.logical.node import Node
from streamdsl.policies import ErrorPolicy
from streamdsl.windows import Window

if TYPE_CHECKING:
    from streamdsl.dsl.topology import Topology

__all__ = ["WindowedStream"]


class WindowedStream(Unrun):
    """Rows by key and window. Made by `KeyedStream.window` with a tumbling or hopping window.

    Result rows carry the key's columns, `window_start` and `window_end`, and have the time of the window's last
    millisecond. Records that no window took are in ``result.output("late")``.

    Examples
    --------
    >>> visits = memory("visits", {"user": str, "at": int}, [{"user": "a", "at": 1_000}, {"user": "a", "at": 61_000}])
    >>> Topology("t").stream(visits, timestamp="at").key_by("user").window(tumbling("1m"))
    <WindowedStream of 't': tumbling("1m")>
    """

    def __init__(self, topology: Topology, node: Node, window: Window, written: Written, scope: str) -> None:
        self._topology = topology
        self._node = node
        self._window = window
        self._written = written
        self._scope = scope

    def __repr__(self) -> str:
        return f"<WindowedStream of {self._topology.name!r}: {self._window}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(Stream, name) and not name.startswith("_"):
                raise UnknownVerbError(
                    f"{name}() does not work on a window",
                    remedy=f"make rows of it first: .aggregate(...).{name}(...), or {name} before .window(...)",
                )
            raise unknown_verb(self, name)

    def _grouping(self, verb: str, name: str | None) -> Grouping:
        return Grouping(self._node, verb, self._scope, name, self._window)

    def _result(self, node: Node, verb: str, text: str) -> Stream:
        return Stream(self._topology, node, Written(verb, text, self._written), self._scope)

    def aggregate(
        self,
        *columns: Expr,
        name: str | Expr | None = None,
        errors: ErrorPolicy | Expr | None = None,
        **named: Expr,
    ) -> Stream:
        """Make one row for each key and window.

        Parameters
        ----------
        *columns : Expr
            Aggregates with a name.
        name : str, optional
            Identity of the state. (An expression makes a column called "name".)
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows for which an expression fails. (An expression makes a column called "errors".)
        **named : Expr
            ``total=col("amount").sum()``; calculations with aggregates are welcome.

        Examples
        --------
        >>> sales = memory("sales", {"at": int, "amount": int}, [{"at": 1_000, "amount": 5}, {"at": 2_000, "amount": 7}])
        >>> windows = Topology("t").stream(sales, timestamp="at").key_by().window(tumbling("1m"))
        >>> windows.aggregate(n=count(), mean=col("amount").sum() / count()).select("n", "mean").collect().to_pylist()
        [{'n': 2, 'mean': 6.0}]
        """
        node, shown = aggregated(self._grouping("aggregate", None), columns, name, errors, named)
        return self._result(node, "aggregate", shown)

    def count(self, *, name: str | None = None) -> Stream:
        """Count the records of each key and window: the column `count`.

        Examples
        --------
        >>> visits = memory("visits", {"at": int}, [{"at": 1_000}, {"at": 9_000}, {"at": 10_000}])
        >>> counts = Topology("t").stream(visits, timestamp="at").key_by().window(tumbling("10s")).count()
        >>> [(str(row["window_end"]), row["count"]) for row in counts.collect().to_pylist()]
        [('1970-01-01 00:00:10+00:00', 2), ('1970-01-01 00:00:20+00:00', 1)]
        """
        node, _ = aggregated(self._grouping("count", name), (), name, None, {"count": count()})
        return self._result(node, "count", arguments(name=name))

    def reduce(self, function: Callable[[Any, Any], Any], *, name: str | None = None, errors: ErrorPolicy | None = None) -> Stream:
        """Unite the rows of each key and window two by two: ``function(so_far, row)`` returns a row.

        Examples
        --------
        >>> sales = memory("sales", {"at": int, "amount": int}, [{"at": 1_000, "amount": 5}, {"at": 2_000, "amount": 7}])
        >>> keyed = Topology("t").stream(sales, timestamp="at").key_by(all=lit(1))
        >>> largest = keyed.window(tumbling("1m")).reduce(lambda so_far, row: row if row.amount > so_far.amount else so_far)
        >>> largest.select("amount").collect().to_pylist()
        [{'amount': 7}]
        """
        node = reduced(self._grouping("reduce", name), function, errors)
        return self._result(node, "reduce", arguments(function, name=name, errors=errors))

    def process(self, operator: Any, *, name: str | None = None, errors: ErrorPolicy | None = None) -> Stream:
        """Hand all rows of a key and window to ``processor.process_window(key, window, rows, ctx)``.

        Parameters
        ----------
        operator : Processor or operator
            A `Processor`, class or instance; or a function marked with `operator`, which gets this windowed stream.
        name : str, optional
            Identity of its state.
        errors : "fail" | "skip" | dead_letter(sink)

        Examples
        --------
        >>> class Span(Processor):
        ...     output = {"user": str, "visits": int, "ms": int}
        ...
        ...     def process_window(self, key, window, rows, ctx):
        ...         yield {"user": key, "visits": len(rows), "ms": window.end - window.start}
        >>> visits = memory("visits", {"user": str, "at": int}, [{"user": "a", "at": 1_000}, {"user": "a", "at": 9_000}])
        >>> windows = Topology("t").stream(visits, timestamp="at").key_by("user").window(session("1m"))
        >>> windows.process(Span).collect().to_pylist()
        [{'user': 'a', 'visits': 2, 'ms': 68000}]
        """
        if isinstance(operator, (Operator, BoundOperator)):
            bound = operator() if isinstance(operator, Operator) else operator
            scope = self._scope if name is None else f"{self._scope}{name}."
            inner = WindowedStream(self._topology, self._node, self._window, self._written, scope)
            result = bound.expand(inner)
            outer = result._next(result._node, result._written)
            outer._scope = self._scope
            return outer
        if not is_processor(operator) or isinstance(operator, NativeOperator):
            raise TopologyError(f"process: {operator!r} cannot process windows", remedy="give a Processor")
        node = processed(self._grouping("process", name), operator, errors)
        return self._result(node, "process", processor_name(operator))
