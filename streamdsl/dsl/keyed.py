"""KeyedStream: rows by key, and the verbs that keep state for each key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from streamdsl.dsl.aggregating import Grouping, aggregated, processed, reduced
from streamdsl.dsl.joining import connected
from streamdsl.dsl.operator import NativeOperator, is_processor, is_two_input, processor_name
from streamdsl.dsl.regrouping import GroupedTable
from streamdsl.dsl.stream import Stream
from streamdsl.dsl.table import Table
from streamdsl.dsl.unknown import unknown_verb
from streamdsl.dsl.unrun import Unrun
from streamdsl.dsl.updates import regrouped_updates, regroups
from streamdsl.dsl.windowed import WindowedStream
from streamdsl.dsl.written import Written, arguments, with_emit
from streamdsl.durations import Duration
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, count
from streamdsl.logical.aggregate import WINDOW_FIELDS
from streamdsl.logical.key_by import key_of
from streamdsl.logical.node import Node
from streamdsl.policies import ErrorPolicy
from streamdsl.windows import Emission, Frame, TableEmission, Window, table_emission

__all__ = ["ConnectedStreams", "FramedStream", "KeyedStream"]


class KeyedStream(Stream):
    """Rows that know their key. Verbs that change columns leave the key as it is. Made by `Stream.key_by`.

    Examples
    --------
    >>> sales = Topology("t").stream(memory("sales", rows=[{"city": "Lima", "n": 5}, {"city": "Lima", "n": 2}])).key_by("city")
    >>> sales.with_columns(before=col("n").lag()).collect().to_pylist()
    [{'city': 'Lima', 'n': 5, 'before': None}, {'city': 'Lima', 'n': 2, 'before': 5}]
    """

    _keyed = True

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the key's components.

        Examples
        --------
        >>> Topology("t").stream(memory("rows", {"city": str})).key_by("city", initial=col("city").str.head(1)).keys
        ('city', 'initial')
        """
        return key_of(self._node).keys

    def _grouping(self, verb: str, name: str | None) -> Grouping:
        return Grouping(self._node, verb, self._scope, name, None)

    @overload
    def window(self, window: Frame) -> FramedStream: ...

    @overload
    def window(self, window: Window, *, grace: Duration = 0, emit: Emission = "close", late: str = "late") -> WindowedStream: ...

    def window(
        self, window: Frame | Window, *, grace: Duration = 0, emit: Emission = "close", late: str = "late"
    ) -> FramedStream | WindowedStream:
        """Say which records belong together in what follows.

        Parameters
        ----------
        window : Frame or Window
            ``rolling(...)`` and ``expanding()`` set the frame of aggregates in with_columns, select and filter;
            ``tumbling(...)``, ``hopping(...)``, ``session(...)``, ``sliding(...)`` and ``count_window(...)`` make one row for
            each key and window.
        grace : duration
            How long a window waits for late records behind its end.
        emit : "close" | "update" | "on_time" | throttle("1s")
            One row when the window closes; a row whenever it changed; one when the watermark passes its last moment, and
            then one for each late record within grace; or changed windows at most once per so much of the wall clock.
            Sessions say in the column `op` what a row is, unless they are shown when they close.
        late : str
            Tag of the output of records that no window took.

        Examples
        --------
        >>> visits = memory("visits", {"at": int}, [{"at": 1_000}, {"at": 12_000}, {"at": 2_000}])
        >>> keyed = Topology("t").stream(visits, timestamp="at").key_by()
        >>> [row["count"] for row in keyed.window(tumbling("10s")).count().collect().to_pylist()]
        [1, 1]
        >>> [row["count"] for row in keyed.window(tumbling("10s"), grace="5s").count().collect().to_pylist()]
        [2, 1]
        """
        if isinstance(window, Frame):
            if grace or emit != "close" or late != "late":
                raise TopologyError(f"window({window}): grace=, emit= and late= belong to windows")
            return FramedStream(self._topology, self._node, self._says("window", str(window)), self._scope, window)
        if not isinstance(window, Window):
            raise TopologyError(
                f"window: {window!r} is not a window",
                remedy="use rolling, expanding, tumbling, hopping, session, sliding or count_window",
            )
        made = {field.name for field in WINDOW_FIELDS}
        for name in key_of(self._node).keys:
            if name in made:
                raise TopologyError(
                    f"window({window}): the key has the column {name!r}, which a window makes itself",
                    remedy=f'give the key another name: key_by(first=col("{name}"))',
                )
        complete = window.emitting(grace=grace, emit=emit, late=late)
        shown = arguments(grace=grace or None, emit=None if emit == "close" else emit, late=None if late == "late" else late)
        text = ", ".join(part for part in (str(window), shown) if part)
        return WindowedStream(self._topology, self._node, complete, self._says("window", text), self._scope)

    def aggregate(
        self,
        *columns: Expr,
        name: str | Expr | None = None,
        errors: ErrorPolicy | Expr | None = None,
        emit: TableEmission | Expr = "update",
        **named: Expr,
    ) -> Table:
        """Keep running aggregates for each key: a table with the key's columns and these.

        Of rows that take the place of earlier ones (windows with another emission than "close", changes of a table) the last ones
        count alone: they are kept, and an earlier one is taken out of the aggregates.

        Parameters
        ----------
        *columns : Expr
            Aggregates with a name.
        name : str, optional
            Identity of the state. (An expression makes a column called "name".)
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows for which an expression fails. (An expression makes a column called "errors".)
        emit : "update" | "batch" | throttle("1s")
            A row of the table leaves for each record; for each batch of records and key; or, of what has changed, at most once
            per so much of the wall clock, and at the end of the input. (An expression makes a column called "emit".)
        **named : Expr
            ``total=col("amount").sum()``; calculations with aggregates are welcome.

        Examples
        --------
        >>> from streamdsl import Topology, col, count, memory
        >>> rows = [{"channel": "web"}, {"channel": "shop"}, {"channel": "web"}]
        >>> sales = Topology("t").stream(memory("sales", {"channel": str}, rows)).key_by("channel")
        >>> sales.aggregate(n=count(), emit="batch").collect().to_pylist()
        [{'channel': 'shop', 'n': 1, 'op': 'add'}, {'channel': 'web', 'n': 2, 'op': 'add'}]
        """
        if isinstance(emit, Expr):
            named, emit = {"emit": emit, **named}, "update"
        return self._aggregated("aggregate", emit, columns, name, errors, dict(named))

    def _aggregated(
        self,
        verb: str,
        emit: TableEmission,
        columns: tuple[Expr, ...],
        name: str | Expr | None,
        errors: ErrorPolicy | Expr | None,
        named: dict[str, Any],
    ) -> Table:
        grouping = replace(self._grouping(verb, None), emit=table_emission(verb, emit))
        node, shown = aggregated(grouping, columns, name, errors, named)
        if regroups(node):
            table, keys = regrouped_updates(verb, self._node)
            scoped = f"{self._scope}{name}" if isinstance(name, str) else name
            rows = Table(self._topology, table, keys, self._written)
            node = GroupedTable(rows, self.keys, {})._grouped(verb, emit, columns, scoped, errors, named)._node
        return Table(self._topology, node, self.keys, self._says(verb, with_emit(shown, emit)))

    def count(self, *, name: str | None = None, emit: TableEmission = "update") -> Table:
        """Count the records of each key: a table with the column `count`. `emit` as of `aggregate`.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"s": "a"}, {"s": "b"}, {"s": "a"}]))
        >>> rows.key_by("s").count().collect().to_pylist()
        [{'s': 'a', 'count': 1, 'op': 'add'}, {'s': 'b', 'count': 1, 'op': 'add'}, {'s': 'a', 'count': 2, 'op': 'replace'}]
        """
        table = self._aggregated("count", emit, (), name, None, {"count": count()})
        return Table(self._topology, table._node, self.keys, self._says("count", with_emit(arguments(name=name), emit)))

    def reduce(
        self,
        function: Callable[[Any, Any], Any],
        *,
        name: str | None = None,
        errors: ErrorPolicy | None = None,
        emit: TableEmission = "update",
    ) -> Table:
        """Unite the rows of each key two by two: ``function(so_far, row)`` returns a row of the same columns.

        Parameters
        ----------
        function : callable
            Of the row so far and the next one.
        name : str, optional
            Identity of the state.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows for which the function fails.
        emit : "update" | "batch"
            A row of the table leaves for each record, or for each batch of records and key.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"s": "a", "x": 5}, {"s": "a", "x": 2}]))
        >>> smaller = rows.key_by("s").reduce(lambda so_far, row: row if row.x < so_far.x else so_far)
        >>> smaller.collect().to_pylist()
        [{'s': 'a', 'x': 5, 'op': 'add'}, {'s': 'a', 'x': 2, 'op': 'replace'}]
        """
        node = reduced(self._grouping("reduce", name), function, errors, table_emission("reduce", emit, throttles=False))
        shown = with_emit(arguments(function, name=name, errors=errors), emit)
        return Table(self._topology, node, self.keys, self._says("reduce", shown))

    def _stateful(self, operator: Any, name: str | None, errors: ErrorPolicy | None) -> Stream:
        if is_two_input(operator):
            raise TopologyError(
                f"process({processor_name(operator)}): a TwoInputProcessor has two inputs",
                remedy="write a.connect(b).process(...), both with a key",
            )
        if not is_processor(operator) and not isinstance(operator, NativeOperator):
            return super()._stateful(operator, name, errors)
        node = processed(self._grouping("process", name), operator, errors)
        label = processor_name(operator) if is_processor(operator) else "native(...)"
        return self._plain(node, self._says("process", ", ".join(part for part in (label, arguments(name=name)) if part)))

    def connect(self, other: KeyedStream) -> ConnectedStreams:
        """Process two streams by one `TwoInputProcessor`, which has one state for each key.

        Parameters
        ----------
        other : KeyedStream
            A stream with a key of the same types.

        Examples
        --------
        >>> from streamdsl import Topology, TwoInputProcessor, memory
        >>> class Guard(TwoInputProcessor):
        ...     output = {"account": str, "amount": int}
        ...
        ...     def open(self, ctx):
        ...         self.blocked = ctx.state.value("blocked", bool)
        ...
        ...     def process_left(self, row, ctx):
        ...         if not self.blocked.get(False):
        ...             yield row
        ...
        ...     def process_right(self, row, ctx):
        ...         self.blocked.set(row.blocked)
        >>> topology = Topology("t")
        >>> payments = topology.stream(memory("payments", {"account": str, "amount": int}, [{"account": "a", "amount": 5}]))
        >>> orders = topology.stream(memory("orders", {"account": str, "blocked": bool}, [{"account": "b", "blocked": True}]))
        >>> payments.key_by("account").connect(orders.key_by("account")).process(Guard).collect().to_pylist()
        [{'account': 'a', 'amount': 5}]
        """
        if not isinstance(other, KeyedStream):
            remedy = "write .key_by(...) on it" if isinstance(other, Stream) else "give another stream of the topology, with .key_by(...)"
            raise TopologyError(f"connect: {other!r} has no key", remedy=remedy)
        if other._topology is not self._topology:
            raise TopologyError("connect: the streams belong to different topologies")
        return ConnectedStreams(self, other)


class ConnectedStreams(Unrun):
    """Two streams that one processor is to see; see `KeyedStream.connect`, which makes them."""

    def __init__(self, left: KeyedStream, right: KeyedStream) -> None:
        self._left, self._right = left, right

    def process(self, processor: Any, *, name: str | None = None, errors: ErrorPolicy | None = None) -> Stream:
        """Give the rows of both streams to a `TwoInputProcessor`; see `KeyedStream.connect`.

        Rows with a null key are dropped and counted. Bounded streams are seen in event-time order; of live ones the earlier row comes
        first where both wait.

        Parameters
        ----------
        processor : TwoInputProcessor
            Class or instance.
        name : str, optional
            Identity of its state.
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows on which the processor raises.
        """
        if not is_two_input(processor):
            shown = processor_name(processor) if is_processor(processor) else repr(processor)
            raise TopologyError(
                f"connect(...).process({shown}): two streams need a TwoInputProcessor",
                remedy="subclass streamdsl.TwoInputProcessor: process_left(row, ctx) and process_right(row, ctx)",
            )
        left, right = self._left, self._right
        node = connected(left._node, right._node, processor, name, left._scope, errors)
        shown = ", ".join(part for part in (processor_name(processor), arguments(name=name)) if part)
        both = Written("connect", "", left._written, (right._written,))
        return left._plain(node, Written("process", shown, both))

    if not TYPE_CHECKING:

        def __getattr__(self, verb: str) -> Any:
            raise unknown_verb(self, verb)


class FramedStream(KeyedStream):
    """A keyed stream whose aggregates see the records of one frame, unless they say otherwise."""

    def __init__(self, topology: Any, node: Node, written: Written, scope: str, frame: Frame) -> None:
        super().__init__(topology, node, written, scope)
        self._set_frame = frame

    @property
    def _frame(self) -> Frame | None:
        return self._set_frame

    def _next(self, node: Node, written: Written) -> FramedStream:
        return FramedStream(self._topology, node, written, self._scope, self._set_frame)

    def aggregate(
        self,
        *columns: Expr,
        name: str | Expr | None = None,
        errors: ErrorPolicy | Expr | None = None,
        emit: TableEmission | Expr = "update",
        **named: Expr,
    ) -> Table:
        """Refused: a frame gives each row its aggregates; see `with_columns`."""
        raise self._one_row_each("aggregate")

    def count(self, *, name: str | None = None, emit: TableEmission = "update") -> Table:
        """Refused, as `aggregate`."""
        raise self._one_row_each("count")

    def reduce(
        self,
        function: Callable[[Any, Any], Any],
        *,
        name: str | None = None,
        errors: ErrorPolicy | None = None,
        emit: TableEmission = "update",
    ) -> Table:
        """Refused, as `aggregate`."""
        raise self._one_row_each("reduce")

    def _one_row_each(self, verb: str) -> TopologyError:
        return TopologyError(
            f"{verb}: {self._set_frame} gives every row its aggregates, not one row for many",
            remedy="use with_columns(n=count()), or a tumbling or hopping window",
        )
