"""Verbs of a stream that call a Python function of the row or of the batch, and `counter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from streamdsl.dsl.columns import no_aggregates
from streamdsl.dsl.written import Written, arguments, here
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, condition_of, lit
from streamdsl.functions import check_function
from streamdsl.logical.bind import Binder
from streamdsl.logical.counter import CounterNode
from streamdsl.logical.node import Node
from streamdsl.logical.python_function import Mode, PythonFunctionNode
from streamdsl.policies import ErrorPolicy, checked_policy
from streamdsl.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

    from streamdsl.dsl.stream import Stream

__all__ = ["FunctionVerbs"]

#: What each verb with a function needs, for errors.
_FUNCTIONS: dict[Mode, str] = {
    "map": "a function of the row that returns a row",
    "flat_map": "a function of the row that returns or yields rows",
    "filter": "an expression, or a function of the row that returns True or False",
    "peek": "a function of the row",
    "batches": "a function of the record batch that returns a record batch",
}


class FunctionVerbs:
    """What a `Stream` has of such verbs."""

    _node: Node
    _written: Written
    _keyed = False

    if TYPE_CHECKING:

        def _says(self, verb: str, text: str = "", *others: Stream) -> Written: ...
        def _plain(self, node: Node, written: Written) -> Stream: ...
        def _next(self, node: Node, written: Written) -> Self: ...

    def _function(self, mode: Mode, function: Callable[..., Any], output: Any, errors: ErrorPolicy | None, verb: str = "") -> Self:
        verb = verb or mode
        check_function(verb, function, _FUNCTIONS[mode], yields=mode == "flat_map")
        schema = None if output is None else Schema.of(output)
        policy = checked_policy(errors, verb)
        node = PythonFunctionNode(inputs=(self._node,), where=here(), mode=mode, function=function, output=schema, errors=policy)
        return self._next(node, self._says(verb, arguments(function, errors=policy)))

    def map(self, function: Callable[[Any], Any], *, schema: Any = None, errors: ErrorPolicy | None = None) -> Stream:
        """Make one row of each row; the rows have no key afterwards.

        Parameters
        ----------
        function : callable
            Gets the row (``row.amount``, ``row["amount"]``), returns a mapping, a dataclass instance or another object with the
            columns as attributes.
        schema : schema
            Columns of the new rows.
        errors : "fail" | "skip" | dead_letter(sink)

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 5}, {"x": 0}]))
        >>> rows.map(lambda row: {"inverse": 1 / row.x}, schema={"inverse": float}, errors="skip").collect().to_pylist()
        [{'inverse': 0.2}]
        """
        return self._plain_function("map", function, schema, errors)

    def flat_map(self, function: Callable[[Any], Any], *, schema: Any = None, errors: ErrorPolicy | None = None) -> Stream:
        """Make any number of rows of each row; the rows have no key afterwards. Arguments as `map`.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"s": "to be"}, {"s": ""}]))
        >>> rows.flat_map(lambda row: [{"word": word} for word in row.s.split()], schema={"word": str}).collect().to_pylist()
        [{'word': 'to'}, {'word': 'be'}]
        """
        return self._plain_function("flat_map", function, schema, errors)

    def map_batches(
        self,
        function: Callable[[pa.RecordBatch], pa.RecordBatch],
        *,
        schema: Any = None,
        errors: ErrorPolicy | None = None,
    ) -> Stream:
        """Make a record batch of each record batch.

        As many rows come back as went in, in the same order: each keeps the event time of the row in its place. A function
        that drops, adds or rearranges rows returns an integer column ``_row`` as well: the number (from 0) of the input row
        that each row stems from. Times follow it, and it is no column of the output. Without it another number of rows is
        refused; another order cannot be seen, and gives rows the times of others.

        Parameters
        ----------
        function : callable
            Gets a `pyarrow.RecordBatch` of the declared types, returns one (or a `pyarrow.Table`), or None for no rows.
        schema, errors
            As for `map`. A batch that is refused is refused whole: nobody knows which row it was.

        Examples
        --------
        >>> import pyarrow as pa
        >>> from streamdsl import Topology, memory
        >>> rows = Topology("t").stream(memory("numbers", {"n": int}, [{"n": 3}, {"n": 0}, {"n": 5}]))
        >>> def without_zero(batch):
        ...     batch = batch.append_column("_row", pa.array(range(batch.num_rows)))
        ...     return batch.filter(pa.compute.not_equal(batch["n"], 0))
        >>> rows.map_batches(without_zero, schema={"n": int}).collect().to_pylist()
        [{'n': 3}, {'n': 5}]
        """
        return self._plain_function("batches", function, schema, errors, "map_batches")

    def _plain_function(self, mode: Mode, function: Callable[..., Any], schema: Any, errors: ErrorPolicy | None, verb: str = "") -> Stream:
        if schema is None:
            raise TopologyError(
                f"{verb or mode} needs schema=, the columns of the new rows",
                remedy=f'write {verb or mode}(function, schema={{"account": str, "amount": float}}), or give a dataclass',
            )
        result = self._plain(self._node, self._written)
        return result._function(mode, function, schema, errors, verb)

    def peek(self, function: Callable[[Any], Any], *, errors: ErrorPolicy | None = None) -> Self:
        """Show each row to `function` and pass it on; rows on which it fails are a matter of `errors`, as for `map`.

        Examples
        --------
        >>> seen = []
        >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 5}, {"x": 7}]))
        >>> rows.peek(lambda row: seen.append(row.x)).filter(col("x") > 5).collect().to_pylist()
        [{'x': 7}]
        >>> seen
        [5, 7]
        """
        return self._function("peek", function, None, errors)

    def counter(self, metric: str, *, where: Expr | None = None, errors: ErrorPolicy | None = None) -> Self:
        """Pass all rows on and count, under `metric`, those for which `where` is true (default: all).

        Examples
        --------
        >>> topology = Topology("t")
        >>> rows = topology.stream(memory("rows", {"x": "int | None"}))
        >>> rows.counter("nulls", where=col("x").is_null()).to(memory("out"))
        >>> driver = TopologyTestDriver(topology)
        >>> driver.send_batch("rows", [{"x": 5}, {"x": None}])
        >>> driver.metrics()["counters"]
        {'nulls': 1}
        """
        if not isinstance(metric, str) or not metric:
            raise TopologyError(f"counter needs the name of a metric, not {metric!r}")
        policy = checked_policy(errors, "counter")
        condition = lit(True).node if where is None else condition_of("counter: where", where)
        no_aggregates("counter", condition, keyed=self._keyed)
        predicate = Binder(self._node.schema, "counter").bind_bool(condition)
        node = CounterNode(inputs=(self._node,), where=here(), metric=metric, predicate=predicate, errors=policy)
        return self._next(node, self._says("counter", arguments(metric, where=where, errors=policy)))
