"""Topology: where streams begin, and what runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Union

from streamdsl.connectors.base import Lookup, Sink, Source
from streamdsl.connectors.ticks import Ticks
from streamdsl.dsl.binding import bound_sink, changes_of_a_table, check_bindings, check_kind, check_partitioned, with_sources
from streamdsl.dsl.lookup_calls import LookupFunction
from streamdsl.dsl.reading import declared_schema, event_time_of, kept_for
from streamdsl.dsl.running import Running
from streamdsl.dsl.stream import Stream
from streamdsl.dsl.table import Table
from streamdsl.dsl.unknown import unknown_verb
from streamdsl.dsl.unrun import Unrun
from streamdsl.dsl.updates import in_order
from streamdsl.dsl.written import Typed, Written, arguments, here
from streamdsl.durations import Duration, format_duration, parse_duration
from streamdsl.errors import TopologyError
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan, build
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import EventTime, SourceNode, readable
from streamdsl.logical.table import TableNode
from streamdsl.policies import ErrorPolicy, checked_policy

__all__ = ["Bindings", "Topology"]

#: What stands behind the names of sources and sinks in one run.
Bindings = Mapping[str, Union[Source, Sink]]

COLLECT = "_collect"
#: The column of a source by which its records take rows of a table away.
REMOVED: Final = "_deleted"

#: What numbers of event time count.
TimeUnit = Literal["s", "ms", "us", "ns"]


class Topology(Unrun, Running):
    """A description of what to read, compute and write. It runs with `run` or `start`.

    Parameters
    ----------
    name : str
        Name of the job; checkpoints and metrics carry it.
    errors : "fail" | "skip" | dead_letter(sink), optional
        What becomes of bad records where neither a verb nor its source says so (default: what `Config(errors=)` says).

    Examples
    --------
    >>> topology = Topology("shop")
    >>> orders = topology.stream(memory("orders", rows=[{"id": 1, "amount": 5}, {"id": 2, "amount": 50}]))
    >>> out = memory("large")
    >>> orders.filter(col("amount") > 9).to(out)
    >>> topology.run().finished
    True
    >>> out.rows()
    [{'id': 2, 'amount': 50}]
    """

    _own = frozenset({"name", "errors"})

    def __init__(self, name: str, *, errors: ErrorPolicy | None = None) -> None:
        if not isinstance(name, str) or not name:
            raise TopologyError(f"a topology needs a name, not {name!r}")
        self.name = name
        self.errors = checked_policy(errors, f"Topology({name!r})")
        self._sources: dict[str, SourceNode] = {}
        self._sinks: list[SinkNode] = []
        self._ends: list[Written] = []
        # Of a topology that collects one stream: the sinks it left out, which `bind` may still name.
        self._left_out: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Topology({self.name!r})"

    def __bool__(self) -> bool:
        return True

    def __copy__(self) -> NoReturn:
        self.__reduce__()

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce__()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise unknown_verb(self, name)

    def stream(
        self,
        source: Source,
        *,
        timestamp: str | None = None,
        unit: TimeUnit | None = None,
        format: str | None = None,
        tz: str | None = None,
        disorder: Duration = "0s",
        idle_timeout: Duration | None = None,
        max_ahead: Duration | None = None,
        max_drift: Duration | None = None,
        watermarks: Literal["bounded", "external"] = "bounded",
        errors: ErrorPolicy | None = None,
        name: str | None = None,
    ) -> Stream:
        """Read a source.

        Parameters
        ----------
        source : Source
        timestamp : str, optional
            Column of the event time: a timestamp, a number, or a text (default: the record's own time). Integers count
            milliseconds since 1970 unless `unit` says otherwise; integers that look like another unit are refused.
        unit : "s" | "ms" | "us" | "ns", optional
            What the numbers of `timestamp` count. Floats need it; what is finer than a millisecond is floored.
        format : str, optional
            How its texts are read, as for `datetime.strptime` (default: ISO 8601).
        tz : str, optional
            Zone of times that say none, such as ``"Europe/Berlin"`` (default: UTC, which the log says once). In the hour that
            comes twice in autumn the first is meant; a time in the hour that is skipped in spring is that hour's end.
        disorder : duration
            By how much event times may be out of order within a split.
        idle_timeout : duration, optional
            After so long without records a split no longer holds back the watermark (default: the source's own).
        max_ahead : duration, optional
            Records whose event time is further ahead of the clock are handled by `errors` (default: the source's own).
        max_drift : duration, optional
            A live source waits while its next record is later by more than this than the next one of any other split, of whatever
            source, that has records to read (default: it never waits). What is idle, or has nothing to read, holds nobody back.
            Bounded sources do not need it: they are read together in event-time order. A source without event time takes no part.
            It is Flink's watermark alignment (FLIP-182).
        watermarks : "bounded" | "external"
            Whether they are made from the event times, or come from the source or the driver.
        errors : "fail" | "skip" | dead_letter(sink), optional
            What becomes of records that cannot be decoded, and of bad records in all verbs behind it that say nothing themselves
            (default: the source's own, then the topology's).
        name : str, optional
            Name of the source in this topology (default: the source's own); `bind` and tests use it.

        Examples
        --------
        >>> rows = [{"at": "2026-07-01 12:00:00", "n": 1}, {"at": "2026-07-01 12:00:09", "n": 2}]
        >>> visits = Topology("t").stream(memory("visits", rows=rows), timestamp="at", tz="Europe/Vienna", disorder="5s")
        >>> visits.select("n", time=event_time().dt.to_string()).collect().to_pylist()
        [{'n': 1, 'time': '2026-07-01 10:00:00.000+00:00'}, {'n': 2, 'time': '2026-07-01 10:00:09.000+00:00'}]
        """
        node = self._read(
            "stream",
            source,
            timestamp=event_time_of(source, timestamp, unit, format, tz, "stream"),
            disorder=disorder,
            idle_timeout=idle_timeout,
            max_ahead=max_ahead,
            max_drift=max_drift,
            watermarks=watermarks,
            errors=errors,
            name=name,
        )
        shown = arguments(
            source,
            timestamp=timestamp,
            unit=unit,
            format=format,
            tz=tz,
            disorder=disorder if parse_duration(disorder) else None,
            idle_timeout=idle_timeout,
            max_ahead=max_ahead,
            max_drift=max_drift,
            watermarks=None if watermarks == "bounded" else watermarks,
            errors=errors,
            name=name,
        )
        return Stream(self, node, Written("stream", shown))

    def table(
        self,
        source: Source,
        *,
        key: str | Sequence[str],
        timestamp: str | None = None,
        unit: TimeUnit | None = None,
        format: str | None = None,
        tz: str | None = None,
        disorder: Duration = "0s",
        idle_timeout: Duration | None = None,
        bootstrap: bool = False,
        broadcast: bool = False,
        versioned: Duration | None = None,
        errors: ErrorPolicy | None = None,
        name: str | None = None,
    ) -> Table:
        """Read a source whose rows replace one another by key; the last one by arrival counts.

        Parameters
        ----------
        source : Source
        key : str or sequence of str
            Columns of the key.
        timestamp, unit, format, tz, disorder, idle_timeout, errors, name
            As for `stream`. The table's state has the name of the source.
        bootstrap : bool
            Read all that is there when the job starts before any other source is read. What comes later is read as it comes.
        broadcast : bool
            Give every task the whole table: streams that join it stay in their tasks. For small tables, such as rules: it is part
            of every checkpoint as a whole, and not of `state_memory`.
        versioned : duration, optional
            Keep rows by their event time, those that were replaced for so long: a stream that joins the table meets the row that
            was the last one at the record's own time, in whatever order they arrive (as KIP-889's versioned stores).

        Examples
        --------
        >>> from streamdsl import Topology, memory
        >>> topology = Topology("t")
        >>> rates = [{"currency": "EUR", "at": 1, "rate": 1.1}, {"currency": "EUR", "at": 9, "rate": 1.2}]
        >>> table = topology.table(
        ...     memory("rates", {"currency": str, "at": int, "rate": float}, rows=rates),
        ...     key="currency", timestamp="at", bootstrap=True, versioned="1d",
        ... )
        >>> orders = topology.stream(memory("orders", {"currency": str, "at": int}, [{"currency": "EUR", "at": 5}]), timestamp="at")
        >>> orders.join(table, on="currency").collect().to_pylist()
        [{'currency': 'EUR', 'at': 5, 'at_right': 1, 'rate': 1.1}]
        """
        times = event_time_of(source, timestamp, unit, format, tz, "table")
        for option, value in (("bootstrap", bootstrap), ("broadcast", broadcast)):
            if not isinstance(value, bool):
                raise TopologyError(f"table: {option}={value!r} is not True or False")
        keep_ms = None if versioned is None else kept_for(versioned)
        if broadcast and keep_ms is not None:
            raise TopologyError("table: broadcast= and versioned= do not go together", remedy="leave one of them out")
        node = self._read(
            "table",
            source,
            timestamp=times,
            disorder=disorder,
            idle_timeout=idle_timeout,
            errors=errors,
            name=name,
            bootstrap=bootstrap,
            keys=(key,) if isinstance(key, str) else tuple(key),
        )
        keys = (key,) if isinstance(key, str) else tuple(key)
        rows = Stream(
            self,
            node,
            Written(
                "table",
                arguments(
                    source,
                    key=key,
                    timestamp=timestamp,
                    unit=unit,
                    format=format,
                    tz=tz,
                    bootstrap=bootstrap or None,
                    broadcast=broadcast or None,
                    versioned=versioned,
                    name=name,
                ),
            ),
        )
        keyed = rows.key_by(*keys)._node
        assert isinstance(keyed, KeyByNode)
        removed = None if REMOVED in node.declared else REMOVED
        table = TableNode(
            inputs=(keyed,),
            where=here(),
            name=f"table.{node.name}",
            named=name is not None,
            removed=removed,
            by_time=keep_ms is not None,
            keep_ms=keep_ms,
            broadcast=broadcast,
        )
        return Table(self, table, keys, rows._written)

    def every(self, interval: Duration, *, name: str | None = None) -> Stream:
        """Return a stream of ticks: a record whenever so much time has passed by the wall clock.

        A record has the columns `time`, a multiple of `interval` since 1970, which is its event time, and `n`, which multiple it is.
        Ticks that were missed while the job stood still are one. A stream of ticks does not end.

        Parameters
        ----------
        interval : duration
        name : str, optional
            Name of the source (default: ``"every 10s"``); in tests `TopologyTestDriver.advance_processing_time` makes its ticks.

        Examples
        --------
        >>> from streamdsl import Topology, memory
        >>> from streamdsl.testing import TopologyTestDriver
        >>> topology = Topology("t")
        >>> topology.every("10s").select("n").to(memory("out"))
        >>> driver = TopologyTestDriver(topology)
        >>> driver.advance_processing_time(20_000)
        >>> driver.read("out")
        [{'n': 2}]
        """
        every_ms = parse_duration(interval, "every")
        if every_ms < 1:
            raise TopologyError(f"every: {interval!r} is shorter than a millisecond")
        ticks = Ticks(every_ms, name or f"every {format_duration(every_ms)}")
        written = Written("every", arguments(interval, name=name))
        node = self._read("every", ticks, timestamp=None, disorder="0s", idle_timeout=None, errors=None, name=ticks.name)
        return Stream(self, node, written)

    def _read(
        self,
        verb: str,
        source: Source,
        *,
        timestamp: EventTime | None,
        disorder: Duration,
        idle_timeout: Duration | None,
        errors: ErrorPolicy | None,
        name: str | None,
        max_ahead: Duration | None = None,
        max_drift: Duration | None = None,
        watermarks: str = "bounded",
        bootstrap: bool = False,
        keys: tuple[str, ...] | None = None,
    ) -> SourceNode:
        if watermarks not in ("bounded", "external"):
            raise TopologyError(f"{verb}: watermarks={watermarks!r} is unknown", remedy='use "bounded" or "external"')
        _check_name(verb, name)
        chosen = name or source.name
        if chosen in self._sources:
            raise TopologyError(
                f"two sources are called {chosen!r} ({self._sources[chosen].where} and {here()})",
                remedy="use the first stream twice, or give one of them another name with name=",
            )
        declared = declared_schema(source, verb)
        if source.changes and keys is None:
            raise changes_of_a_table(verb, source)
        check_partitioned(source, declared, verb)
        node = SourceNode(
            where=here(),
            name=chosen,
            source=source,
            declared=declared,
            columns=readable(declared).names,
            timestamp=timestamp,
            disorder_ms=parse_duration(disorder, "disorder"),
            idle_timeout_ms=None if idle_timeout is None else parse_duration(idle_timeout, "idle_timeout"),
            max_ahead_ms=None if max_ahead is None else parse_duration(max_ahead, "max_ahead"),
            max_drift_ms=None if max_drift is None else parse_duration(max_drift, "max_drift"),
            # At equal times the rows of tables come first: a record meets what was true at its time.
            rank=len(self._sources) + (0 if verb == "table" else TABLES),
            bootstrap=bootstrap,
            table_keys=keys,
            external_watermarks=watermarks == "external",
            errors=checked_policy(errors, verb),
        )
        self._sources[chosen] = node
        return node

    def _end(
        self,
        node: Node,
        sink: Sink,
        name: str | None,
        written: Written,
        *,
        keys: tuple[str, ...] = (),
        changes: bool = False,
        withdraws: bool = False,
        errors: ErrorPolicy | None = None,
    ) -> None:
        if not isinstance(sink, Sink):
            raise TopologyError(f"to: {sink!r} is not a sink", remedy="use kafka(...), files(...) or console()")
        _check_name("to", name)
        chosen = name or sink.name
        for other in self._sinks:
            if other.name == chosen:
                raise TopologyError(
                    f"two sinks are called {chosen!r} ({other.where} and {here()})",
                    remedy="merge the streams before .to(...), or name one of them: .to(sink, name=...)",
                )
        check_kind("to", sink, withdraws=withdraws)
        sink.check(node.schema.visible(), keys)
        policy = checked_policy(errors, "to")
        self._sinks.append(
            SinkNode(
                inputs=(in_order(node),),
                where=here(),
                name=chosen,
                sink=sink,
                keys=keys,
                changes=changes,
                withdraws=withdraws,
                errors=policy,
            )
        )
        self._ends.append(written)

    # What the compiler asks for --------------------------------------------------------------------------------

    def typed(self) -> Typed:
        """Return the topology as it was typed.

        Examples
        --------
        >>> topology = Topology("t")
        >>> topology.stream(memory("rows", {"x": int})).filter(col("x") > 0).to(memory("out"))
        >>> print(topology.typed())
        topology = Topology('t')
        s1 = topology.stream(rows)
        s2 = s1.filter(col("x") > 0)
        s2.to(out)
        """
        return Typed(self.name, tuple(self._ends))

    def sources(self) -> dict[str, Source]:
        """Return the sources by their names in this topology.

        Examples
        --------
        >>> topology = Topology("t")
        >>> topology.stream(memory("rows", {"x": int}), name="numbers").to(memory("out"))
        >>> list(topology.sources())
        ['numbers']
        """
        return {name: node.source for name, node in self._sources.items()}

    def sinks(self) -> dict[str, Sink]:
        """Return the sinks by their names in this topology, those of dead letters included.

        Examples
        --------
        >>> topology = Topology("t", errors=dead_letter(memory("bad")))
        >>> topology.stream(memory("rows", {"x": int})).filter(col("x") > 0).to(memory("out"))
        >>> sorted(topology.sinks())
        ['bad', 'out']
        """
        return {sink.name: sink.sink for sink in build(self.name, self._sinks, errors=self.errors or "fail").sinks}

    def lookups(self) -> dict[str, Lookup]:
        """Return what `join_lookup` asks, by name.

        Examples
        --------
        >>> async def name_of(customer):
        ...     return {"name": "Ann"}
        >>> topology = Topology("t")
        >>> orders = topology.stream(memory("orders", {"customer": int}))
        >>> orders.join_lookup(name_of, on="customer", schema={"name": str}).to(memory("out"))
        >>> list(topology.lookups())
        ['name_of']
        """
        called = [node.function for node in self.plan().nodes if isinstance(node, PythonFunctionNode)]
        found = [function.lookup for function in called if isinstance(function, LookupFunction)]
        return {lookup.name: lookup for lookup in found}

    def plan(self, *, bind: Bindings | None = None, strict_names: bool = False, errors: ErrorPolicy = "fail") -> LogicalPlan:
        """Return what the topology means, with `bind` in place of its sources and sinks; `errors` is the policy where none is said.

        Raises
        ------
        TopologyError
            Nothing is written, names clash, or `bind` does not fit.

        Examples
        --------
        >>> topology = Topology("t")
        >>> topology.stream(memory("rows", {"x": int})).filter(col("x") > 0).to(memory("out"))
        >>> print(topology.plan())
        %0 = source rows (x)
        %1 = filter %0: x > 0
        %2 = sink %1: out (x)
        """
        bindings = dict(bind or {})
        read = with_sources(LogicalPlan(self.name, tuple(self._sinks)), bindings)
        built = build(self.name, read.sinks, strict_names=strict_names, errors=self.errors or errors)
        # Sources that no sink needs and the sinks a collecting topology left out may be bound as well.
        check_bindings(bindings, self._sources, {sink.name for sink in built.sinks} | self._left_out)
        # Dead letters of a sink are read from it: it must be bound there, too.
        return built.rewritten(lambda node: bound_sink(node, bindings) if isinstance(node, SinkNode) else node)

    def collecting(self, stream: Stream, sink: Sink) -> Topology:
        """Return a topology that does nothing but write `stream` to `sink`, under the name ``"_collect"``.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", {"x": int}))
        >>> list(rows.topology.collecting(rows, memory("out")).sinks())
        ['_collect']
        """
        if stream._topology is not self:
            raise TopologyError("collecting: the stream belongs to another topology")
        alone = Topology(self.name, errors=self.errors)
        alone._sources = self._sources
        alone._left_out = frozenset(other.name for other in self._sinks)
        alone._end(stream._node, sink, COLLECT, Written("to", COLLECT, stream._written))
        return alone


#: So many places are in front of those of streams, for the sources of tables.
TABLES: Final = 1_000_000


def _check_name(verb: str, name: Any) -> None:
    if name is not None and not isinstance(name, str):
        raise TopologyError(f"{verb}: name={name!r} is no name", remedy='write name="orders"')
