"""Stream: rows that flow, and the verbs that need no key."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from streamdsl.connectors.base import Sink
from streamdsl.dsl.calling import AsyncVerbs
from streamdsl.dsl.columns import Place, computed, filtered_by, items_of, no_aggregates, policy_of, state_name, with_name
from streamdsl.dsl.join_verbs import JoinVerbs
from streamdsl.dsl.merging import branched, merged
from streamdsl.dsl.operator import BoundOperator, NativeOperator, Operator, is_processor, processor_name
from streamdsl.dsl.reshaping import Reshaping
from streamdsl.dsl.showing import Shown
from streamdsl.dsl.unknown import unknown_verb
from streamdsl.dsl.unrun import Unrun
from streamdsl.dsl.updates import check_told
from streamdsl.dsl.written import Written, arguments, here
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, Operand, condition_of, lit
from streamdsl.functions import check_function
from streamdsl.logical.bind import Binder
from streamdsl.logical.counter import CounterNode
from streamdsl.logical.expression import ColumnRef
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node
from streamdsl.logical.output import OutputNode
from streamdsl.logical.project import ProjectNode, narrowed, passed
from streamdsl.logical.python_function import Mode, PythonFunctionNode
from streamdsl.logical.types import is_passed_through
from streamdsl.policies import DeadLetter, ErrorPolicy, checked_policy
from streamdsl.schema import Schema, nearest
from streamdsl.windows import Frame

if TYPE_CHECKING:
    import pyarrow as pa

    from streamdsl.config import Config
    from streamdsl.dsl.keyed import KeyedStream
    from streamdsl.dsl.topology import Bindings, Topology

__all__ = ["Stream"]

S = TypeVar("S", bound="Stream")

#: What each verb with a function needs, for errors.
_FUNCTIONS: dict[Mode, str] = {
    "map": "a function of the row that returns a row",
    "flat_map": "a function of the row that returns or yields rows",
    "filter": "an expression, or a function of the row that returns True or False",
    "peek": "a function of the row",
    "batches": "a function of the record batch that returns a record batch",
}


class Stream(Unrun, Shown, Reshaping, JoinVerbs, AsyncVerbs):
    """Rows that flow. Every verb returns a new stream; nothing runs before the topology does.

    Made by `Topology.stream` and by the verbs of other streams.
    """

    _keyed = False

    def __init__(self, topology: Topology, node: Node, written: Written, scope: str = "") -> None:
        check_told(written.verb, node)
        self._topology = topology
        self._node = node
        self._written = written
        self._scope = scope

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._topology.name!r}: {self.schema}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise unknown_verb(self, name)

    @property
    def topology(self) -> Topology:
        """The topology it belongs to."""
        return self._topology

    @property
    def schema(self) -> Schema:
        """Columns of the rows."""
        return self._node.schema.visible()

    @property
    def _frame(self) -> Frame | None:
        return None

    def _place(self, verb: str, name: str | None = None, errors: ErrorPolicy | None = None) -> Place:
        return Place(self._node, verb, self._keyed, self._frame, self._scope, name, errors)

    def _says(self, verb: str, text: str = "", *others: Stream) -> Written:
        return Written(verb, text, self._written, tuple(other._written for other in others))

    def _next(self: S, node: Node, written: Written) -> S:
        """Return the stream after one more step that leaves key and frame as they are."""
        return type(self)(self._topology, node, written, self._scope)

    def _plain(self, node: Node, written: Written) -> Stream:
        """Return the stream after a step whose rows have no key any more."""
        return Stream(self._topology, node, written, self._scope)

    # Columns and rows ------------------------------------------------------------------------------------------

    def filter(
        self: S,
        condition: Expr | Callable[[Any], bool],
        *,
        errors: ErrorPolicy | None = None,
        name: str | None = None,
    ) -> S:
        """Keep the rows for which `condition` is true.

        Parameters
        ----------
        condition : Expr or callable
            Null counts as false. A function gets the row.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows on which the condition fails (default: the nearest policy around it, see `streamdsl.policies`).
        name : str, optional
            Name of the state, if the condition holds aggregates.
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
        self: S,
        *columns: str | Expr,
        name: str | Expr | None = None,
        errors: ErrorPolicy | Expr | None = None,
        **named: Operand,
    ) -> S:
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
        """
        name, named = state_name(name, named)
        policy, named = policy_of("select", errors, named)
        items = items_of("select", columns, named)
        if not items:
            raise TopologyError("select needs at least one column")
        node = computed(self._place("select", name, policy), items, keep=False)
        return self._next(node, self._says("select", arguments(*columns, **with_name(name, named, policy))))

    def with_columns(
        self: S,
        *columns: Expr,
        name: str | Expr | None = None,
        errors: ErrorPolicy | Expr | None = None,
        **named: Operand,
    ) -> S:
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
        """
        name, named = state_name(name, named)
        policy, named = policy_of("with_columns", errors, named)
        items = items_of("with_columns", columns, named)
        if not items:
            raise TopologyError("with_columns needs at least one column")
        node = computed(self._place("with_columns", name, policy), items, keep=True)
        return self._next(node, self._says("with_columns", arguments(*columns, **with_name(name, named, policy))))

    def drop(self: S, *columns: str) -> S:
        """Leave columns out."""
        schema = self._node.schema
        try:
            schema.drop(columns)
        except TopologyError as error:
            raise TopologyError(f"drop: {error.message}", remedy=error.remedy) from None
        kept = narrowed(self._node, [name for name in schema.names if name not in columns])
        if not kept.schema.visible().fields:
            raise TopologyError("drop: no column would be left")
        return self._next(kept, self._says("drop", arguments(*columns)))

    def rename(self: S, mapping: Mapping[str, str] | None = None, **names: str) -> S:
        """Give columns other names: ``rename(old="new")`` or ``rename({"old": "new"})``."""
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

    # Python functions ------------------------------------------------------------------------------------------

    def _function(self: S, mode: Mode, function: Callable[..., Any], output: Any, errors: ErrorPolicy | None, verb: str = "") -> S:
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
        """
        return self._plain_function("map", function, schema, errors)

    def flat_map(self, function: Callable[[Any], Any], *, schema: Any = None, errors: ErrorPolicy | None = None) -> Stream:
        """Make any number of rows of each row; the rows have no key afterwards. Arguments as `map`."""
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

    def peek(self: S, function: Callable[[Any], Any], *, errors: ErrorPolicy | None = None) -> S:
        """Show each row to `function` and pass it on; rows on which it fails are a matter of `errors`, as for `map`."""
        return self._function("peek", function, None, errors)

    def counter(self: S, metric: str, *, where: Expr | None = None, errors: ErrorPolicy | None = None) -> S:
        """Pass all rows on and count, under `metric`, those for which `where` is true (default: all)."""
        if not isinstance(metric, str) or not metric:
            raise TopologyError(f"counter needs the name of a metric, not {metric!r}")
        policy = checked_policy(errors, "counter")
        condition = lit(True).node if where is None else condition_of("counter: where", where)
        no_aggregates("counter", condition, keyed=self._keyed)
        predicate = Binder(self._node.schema, "counter").bind_bool(condition)
        node = CounterNode(inputs=(self._node,), where=here(), metric=metric, predicate=predicate, errors=policy)
        return self._next(node, self._says("counter", arguments(metric, where=where, errors=policy)))

    # Several streams -------------------------------------------------------------------------------------------

    def merge(self, *streams: Stream, columns: Literal["same", "union"] = "same") -> Stream:
        """Unite streams; the rows have no key afterwards.

        Parameters
        ----------
        *streams : Stream
        columns : "same" | "union"
            "same": all have the same columns, in any order. "union": a column that a stream lacks is null in its rows; those of
            the first stream come first. Types agree either way.
        """
        for other in streams:
            if not isinstance(other, Stream):
                raise TopologyError(f"merge: {other!r} is not a stream", remedy="a table has .to_stream()")
            if other._topology is not self._topology:
                raise TopologyError("merge: the streams belong to different topologies")
        if columns not in ("same", "union"):
            raise TopologyError(f"merge: columns={columns!r} is unknown", remedy='use "same" or "union"')
        node = merged([self._node, *(other._node for other in streams)], union=columns == "union")
        return self._plain(node, self._says("merge", "" if columns == "same" else f"columns={columns!r}", *streams))

    def branch(
        self: S,
        *,
        default: str | None = "other",
        name: str | Expr | Callable[[Any], bool] | None = None,
        errors: ErrorPolicy | Expr | Callable[[Any], bool] | None = None,
        **conditions: Expr | Callable[[Any], bool],
    ) -> dict[str, S]:
        """Part the rows: each goes to the first branch whose condition is true (null is not).

        Parameters
        ----------
        default : str, optional
            Branch of the rows that match nothing; None drops them.
        name : str, optional
            Name of the state, if a condition holds aggregates: they see every row. (A condition makes a branch called "name".)
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows for which a condition fails, as for `filter`. (A condition makes a branch called "errors".)
        **conditions : Expr or callable
            A function gets the row.

        Returns
        -------
        dict
            A stream for each name.
        """
        state = name if isinstance(name, str) else None
        if name is not None and not isinstance(name, str):
            conditions = {"name": name, **conditions}
        policy: ErrorPolicy | None = None
        if isinstance(errors, Expr) or (callable(errors) and not isinstance(errors, DeadLetter)):
            conditions = {"errors": errors, **conditions}
        else:
            policy = checked_policy(errors, "branch")
        parts = branched(self._place("branch", state, policy), conditions, default)
        shown = self._says("branch", arguments(**with_name(state, conditions, policy), default=default))
        result: dict[str, S] = {}
        for branch, node in parts.items():
            result[branch] = self._next(node, Written(f"[{branch!r}]", "", shown))
        return result

    def output(self, tag: str) -> Stream:
        """Return the rows that left the nearest operator before by `tag`, such as ``"late"``."""
        node, known = self._node, dict[str, None]()
        while True:
            if tag in node.tags:
                found = OutputNode(inputs=(node,), where=here(), tag=tag)
                return self._plain(found, self._says("output", arguments(tag)))
            known.update(dict.fromkeys(node.tags))
            if len(node.inputs) != 1:
                shown = ", ".join(known) or "none"
                raise TopologyError(f"output: nothing before has the output {tag!r}", remedy=f"known: {shown}")
            node = node.inputs[0]

    # Keys and operators ----------------------------------------------------------------------------------------

    def key_by(self, *columns: str | Expr, errors: ErrorPolicy | Expr | None = None, **named: Operand) -> KeyedStream:
        """Bring the rows of one key together; computed components become columns.

        `errors` says what becomes of rows for which a component fails, as for `filter`. (An expression makes a component called "errors".)

        Rows in which a component is null are dropped and counted. Without columns everything is one key.
        """
        from streamdsl.dsl.keyed import KeyedStream

        policy, named = policy_of("key_by", errors, named)
        items = items_of("key_by", columns, named)
        for item in items:
            no_aggregates("key_by", item.value, keyed=self._keyed)
        node = self._node
        made = [item for item in items if item.value != ColumnRef(item.name)]
        if made:
            node = computed(self._place("key_by", None, policy), made, keep=True)
        binder = Binder(node.schema, "key_by")
        for item in items:
            type_ = binder.bind(ColumnRef(item.name)).type
            if is_passed_through(type_):
                raise TopologyError(f"key_by: {item.name!r} ({type_}) cannot be a key", remedy="take one of its parts")
        keys = tuple(item.name for item in items)
        keyed = KeyByNode(inputs=(node,), where=here(), keys=keys)
        return KeyedStream(self._topology, keyed, self._says("key_by", arguments(*columns, **with_name(None, named, policy))), self._scope)

    def process(self, operator: Any, *, name: str | None = None, errors: ErrorPolicy | None = None) -> Stream:
        """Apply an operator of one's own.

        Parameters
        ----------
        operator : Operator, Processor or native(...)
            A function marked with `operator`, with its settings; a `Processor`, class or instance (on keyed
            streams); or a native operator.
        name : str, optional
            Identity of its state; for a function, the beginning of the names of all state in it.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows on which a processor raises; nothing is left of what it did for them.
        """
        if isinstance(operator, (Operator, BoundOperator)):
            return self._expanded(operator, name, errors)
        return self._stateful(operator, name, errors)

    def _expanded(self, operator: Operator | BoundOperator, name: str | None, errors: ErrorPolicy | None) -> Stream:
        bound = operator() if isinstance(operator, Operator) else operator
        if checked_policy(errors, "process") is not None:
            raise TopologyError(f"process({bound}): errors= belongs to the verbs inside the operator", remedy="give it to them")
        inner = self._next(self._node, self._written)
        if name is not None:
            inner._scope = f"{self._scope}{name}."
        result = bound.expand(inner)
        if result._topology is not self._topology:
            raise TopologyError(f"the operator {bound.name} returned a stream of another topology")
        outer = result._next(result._node, result._written)
        outer._scope = self._scope
        return outer

    def _stateful(self, operator: Any, name: str | None, errors: ErrorPolicy | None) -> Stream:
        if is_processor(operator) or isinstance(operator, NativeOperator):
            shown = processor_name(operator) if is_processor(operator) else "native"
            raise TopologyError(
                f"process({shown}) keeps state by key and needs one",
                remedy="write .key_by(...) first; .key_by() without columns is everything as one key",
            )
        raise TopologyError(
            f"process: {operator!r} is not an operator",
            remedy="give a function marked with @operator, a Processor or native(...)",
        )

    # Ends ------------------------------------------------------------------------------------------------------

    def to(self, sink: Sink, *, name: str | None = None, errors: ErrorPolicy | None = None) -> None:
        """Write the rows to a sink.

        Parameters
        ----------
        sink : Sink
        name : str, optional
            Name of the sink in this topology (default: the sink's own); `bind` and tests use it.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows that the sink cannot write, as for `filter`.
        """
        self._topology._end(self._node, sink, name, self._says("to", arguments(sink, name=name, errors=errors)), errors=errors)

    def collect(self, config: Config | None = None, *, bind: Bindings | None = None) -> pa.Table:
        """Run the topology for this stream alone, to the end of its (bounded) input, and return its rows."""
        from streamdsl import launch

        return launch.collect(self, config, bind)

    def head(self, n: int = 10, config: Config | None = None, *, bind: Bindings | None = None) -> pa.Table:
        """Run the topology for this stream alone and return its first `n` rows."""
        from streamdsl import launch

        if not isinstance(n, int) or isinstance(n, bool) or n < 0:
            raise TopologyError(f"head: n={n!r} is not a number of rows", remedy="use an int of 0 or more; a stream has no last rows")

        return launch.collect(self, config, bind, limit=n)
