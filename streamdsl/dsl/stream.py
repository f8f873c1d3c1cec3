"""Stream: rows that flow, and the verbs that need no key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from streamdsl.connectors.base import Sink
from streamdsl.dsl.calling import AsyncVerbs
from streamdsl.dsl.column_verbs import ColumnVerbs
from streamdsl.dsl.columns import Place, computed, items_of, no_aggregates, policy_of, with_name
from streamdsl.dsl.function_verbs import FunctionVerbs
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
from streamdsl.expr import Expr, Operand
from streamdsl.logical.bind import Binder
from streamdsl.logical.expression import ColumnRef
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node
from streamdsl.logical.output import OutputNode
from streamdsl.logical.types import is_passed_through
from streamdsl.policies import DeadLetter, ErrorPolicy, checked_policy
from streamdsl.schema import Schema
from streamdsl.windows import Frame

if TYPE_CHECKING:
    import pyarrow as pa

    from streamdsl.config import Config
    from streamdsl.dsl.keyed import KeyedStream
    from streamdsl.dsl.topology import Bindings, Topology

__all__ = ["Stream"]

S = TypeVar("S", bound="Stream")


class Stream(Unrun, Shown, ColumnVerbs, FunctionVerbs, Reshaping, JoinVerbs, AsyncVerbs):
    """Rows that flow. Every verb returns a new stream; nothing runs before the topology does.

    Made by `Topology.stream` and by the verbs of other streams.

    Examples
    --------
    >>> sales = Topology("t").stream(memory("sales", rows=[{"city": "Lima", "amount": 5}, {"city": "Ica", "amount": None}]))
    >>> sales
    <Stream of 't': city: string, amount: int64>
    >>> large = sales.filter(col("amount") > 1).select("city", twice=col("amount") * 2)
    >>> large.collect().to_pylist()
    [{'city': 'Lima', 'twice': 10}]
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
        """The topology it belongs to.

        Examples
        --------
        >>> Topology("shop").stream(memory("rows", rows=[{"x": 1}])).topology
        Topology('shop')
        """
        return self._topology

    @property
    def schema(self) -> Schema:
        """Columns of the rows.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", {"x": int, "s": "str | None"}))
        >>> print(rows.select("s", half=col("x") / 2).schema)
        s: string, half: double
        """
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

    # Several streams -------------------------------------------------------------------------------------------

    def merge(self, *streams: Stream, columns: Literal["same", "union"] = "same") -> Stream:
        """Unite streams; the rows have no key afterwards.

        Parameters
        ----------
        *streams : Stream
        columns : "same" | "union"
            "same": all have the same columns, in any order. "union": a column that a stream lacks is null in its rows; those of
            the first stream come first. Types agree either way.

        Examples
        --------
        >>> topology = Topology("t")
        >>> web = topology.stream(memory("web", rows=[{"id": 1, "url": "/"}]))
        >>> shop = topology.stream(memory("shop", rows=[{"id": 2}]))
        >>> web.merge(shop, columns="union").collect().to_pylist()
        [{'id': 1, 'url': '/'}, {'id': 2, 'url': None}]
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

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 5}, {"x": 50}, {"x": None}]))
        >>> parts = rows.branch(large=col("x") > 9, small=col("x") >= 0)
        >>> {name: part.collect()["x"].to_pylist() for name, part in parts.items()}
        {'large': [50], 'small': [5], 'other': [None]}
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
        """Return the rows that left the nearest operator before by `tag`, such as ``"late"``.

        Examples
        --------
        >>> visits = memory("visits", {"at": int}, [{"at": 1_000}, {"at": 12_000}, {"at": 2_000}])
        >>> counts = Topology("t").stream(visits, timestamp="at").key_by().window(tumbling("10s")).count()
        >>> counts.output("late").collect().to_pylist()
        [{'at': 2000}]
        """
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

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"city": "Lima"}, {"city": "LIMA"}, {"city": None}]))
        >>> rows.key_by(town=col("city").str.to_lowercase()).count(emit="batch").collect().to_pylist()
        [{'town': 'lima', 'count': 2, 'op': 'add'}]
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

        Examples
        --------
        >>> @operator
        ... def cheap(rows, *, most):
        ...     return rows.filter(col("price") <= most)
        >>> rows = Topology("t").stream(memory("rows", rows=[{"price": 5}, {"price": 50}]))
        >>> rows.process(cheap(most=9)).collect().to_pylist()
        [{'price': 5}]
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

        Examples
        --------
        >>> topology = Topology("t")
        >>> out = memory("out")
        >>> topology.stream(memory("rows", rows=[{"x": 5}])).to(out, name="results")
        >>> topology.run().finished
        True
        >>> out.rows()
        [{'x': 5}]
        """
        self._topology._end(self._node, sink, name, self._says("to", arguments(sink, name=name, errors=errors)), errors=errors)

    def collect(self, config: Config | None = None, *, bind: Bindings | None = None) -> pa.Table:
        """Run the topology for this stream alone, to the end of its (bounded) input, and return its rows.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", {"x": int}))
        >>> rows.collect(bind={"rows": memory("other", {"x": int}, [{"x": 5}])}).to_pylist()
        [{'x': 5}]
        """
        from streamdsl import launch

        return launch.collect(self, config, bind)

    def head(self, n: int = 10, config: Config | None = None, *, bind: Bindings | None = None) -> pa.Table:
        """Run the topology for this stream alone and return its first `n` rows.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"x": x} for x in range(100)]))
        >>> rows.head(2).to_pylist()
        [{'x': 0}, {'x': 1}]
        """
        from streamdsl import launch

        if not isinstance(n, int) or isinstance(n, bool) or n < 0:
            raise TopologyError(f"head: n={n!r} is not a number of rows", remedy="use an int of 0 or more; a stream has no last rows")

        return launch.collect(self, config, bind, limit=n)
