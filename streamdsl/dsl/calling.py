"""Asynchronous calls: of a function of the row, and of a look-up by key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from streamdsl.connectors.base import Lookup
from streamdsl.dsl.lookup_calls import FunctionLookup, LookupFunction, OnMiss
from streamdsl.dsl.written import Written, arguments, here
from streamdsl.durations import Duration, parse_duration
from streamdsl.errors import TopologyError
from streamdsl.functions import check_async_function
from streamdsl.logical.node import Node
from streamdsl.logical.python_function import AsyncCalls, PythonFunctionNode
from streamdsl.logical.types import is_passed_through
from streamdsl.policies import ErrorPolicy, checked_policy
from streamdsl.schema import Field, Schema

if TYPE_CHECKING:
    from streamdsl.dsl.stream import Stream

__all__ = ["AsyncVerbs"]


class AsyncVerbs:
    """The verbs of a `Stream` whose functions are asynchronous."""

    _node: Node

    if TYPE_CHECKING:

        def _plain(self, node: Node, written: Written) -> Stream: ...

        def _says(self, verb: str, text: str = "", *others: Stream) -> Written: ...

    def map_async(
        self,
        function: Callable[[Any], Awaitable[Any]],
        *,
        schema: Any = None,
        capacity: int = 100,
        timeout: Duration = "10s",
        retry: int = 2,
        ordered: bool = True,
        name: str | None = None,
        errors: ErrorPolicy | None = None,
    ) -> Stream:
        """Make one row of each row by an asynchronous function; the rows have no key afterwards.

        Many calls are under way while the task goes on reading. Watermarks wait behind the rows that came before them. Calls that
        are under way are part of a checkpoint, and are made again after a restore: so a call may be made twice, its row comes once.

        Parameters
        ----------
        function : coroutine function
            Gets the row, returns a row as in `map`. It runs in an event loop of its own; what blocks there holds up all calls.
        schema : schema
            Columns of the new rows.
        capacity : int
            Calls under way in each task; at so many, it reads no further.
        timeout : duration
            Of one attempt.
        retry : int
            Attempts behind the first, with growing pauses.
        ordered : bool
            Rows come out in the order they came in; otherwise as their calls end, but none passes a watermark.
        name : str, optional
            Identity of the calls in a checkpoint (default: that of the function).
        errors : "fail" | "skip" | dead_letter(sink)
            What becomes of rows whose last attempt has failed.

        Examples
        --------
        >>> import asyncio
        >>> from streamdsl import Topology, memory
        >>> async def doubled(row):
        ...     await asyncio.sleep(0.001)
        ...     return {"n": 2 * row.n}
        >>> rows = Topology("t").stream(memory("numbers", {"n": int}, [{"n": 3}, {"n": 5}]))
        >>> rows.map_async(doubled, schema={"n": int}).collect().to_pylist()
        [{'n': 6}, {'n': 10}]
        """
        node = async_calls(
            self._node, function, schema, errors, capacity=capacity, timeout=timeout, retry=retry, ordered=ordered, name=name
        )
        return self._plain(node, self._says("map_async", arguments(function, errors=errors)))

    def join_lookup(
        self,
        lookup: Any,
        *,
        on: str | Sequence[str],
        schema: Any = None,
        capacity: int = 100,
        timeout: Duration = "10s",
        retry: int = 2,
        ordered: bool = True,
        cache_size: int = 10_000,
        cache_ttl: Duration | None = None,
        on_miss: OnMiss = "null",
        suffix: str = "_right",
        name: str | None = None,
        errors: ErrorPolicy | None = None,
    ) -> Stream:
        """Add the columns that a look-up has for each row: a table of a database, or a function.

        What is found is what stands there when the call is made, so results are not reproducible. Use `join` with a table where
        they have to be.

        Parameters
        ----------
        lookup : Lookup, source that can be looked up in, or coroutine function
            ``postgres(dsn, "customers", schema=Customer)``; or an asynchronous function of the key (several columns: a tuple) that
            returns a row or None.
        on : str or sequence of str
            Columns of the key. A null in one is a miss.
        schema : schema
            Columns that the look-up adds, where it is a function.
        capacity, timeout, retry, ordered, name, errors
            As of `map_async`.
        cache_size : int
            Keys whose answers are kept in each task, the latest used; 0: none.
        cache_ttl : duration, optional
            How long an answer is kept; without it nothing is cached.
        on_miss : "null" | "drop" | "fail"
            What becomes of a row whose key is not found.
        suffix : str
            Added to names of the look-up's columns that the stream has already.

        Examples
        --------
        >>> from streamdsl import Topology, memory
        >>> async def name_of(customer):
        ...     return {"name": {1: "Ann"}.get(customer)}
        >>> orders = Topology("t").stream(memory("orders", {"customer": int}, [{"customer": 1}]))
        >>> orders.join_lookup(name_of, on="customer", schema={"name": "str | None"}).collect().to_pylist()
        [{'customer': 1, 'name': 'Ann'}]
        """
        found = looked_up(self._node, lookup, on, schema, cache_size=cache_size, cache_ttl=cache_ttl, on_miss=on_miss, suffix=suffix)
        node = async_calls(
            self._node,
            found,
            found.schema,
            errors,
            capacity=capacity,
            timeout=timeout,
            retry=retry,
            ordered=ordered,
            name=name,
            verb="join_lookup",
        )
        return self._plain(node, self._says("join_lookup", arguments(lookup, errors=errors, on=on)))


def async_calls(
    node: Node,
    function: Callable[[Any], Awaitable[Any]],
    schema: Any,
    errors: ErrorPolicy | None,
    *,
    capacity: int,
    timeout: Duration,
    retry: int,
    ordered: bool,
    name: str | None,
    verb: str = "map_async",
) -> PythonFunctionNode:
    """Return the node of a function whose calls run side by side."""
    check_async_function(verb, function)
    if schema is None:
        raise TopologyError(
            f"{verb} needs schema=, the columns of the new rows",
            remedy=f'write {verb}(function, schema={{"account": str, "score": float}})',
        )
    if not isinstance(capacity, int) or isinstance(capacity, bool) or not 1 <= capacity <= 100_000:
        raise TopologyError(f"{verb}: capacity={capacity!r} is not a number from 1 to 100,000")
    if not isinstance(retry, int) or isinstance(retry, bool) or retry < 0:
        raise TopologyError(f"{verb}: retry={retry!r} is not a number of attempts", remedy="0 is one attempt and no other")
    if not isinstance(ordered, bool):
        raise TopologyError(f"{verb}: ordered={ordered!r} is neither True nor False")
    timeout_ms = parse_duration(timeout, "timeout")
    if timeout_ms == 0:
        raise TopologyError(f"{verb}: timeout must be longer than 0")
    called = name or f"{verb}.{getattr(function, '__name__', type(function).__name__)}"
    return PythonFunctionNode(
        inputs=(node,),
        where=here(),
        mode="async",
        function=function,
        output=Schema.of(schema),
        errors=checked_policy(errors, verb),
        calls=AsyncCalls(called, capacity, timeout_ms, retry, ordered),
    )


def looked_up(
    node: Node,
    lookup: Any,
    on: str | Sequence[str],
    schema: Any,
    *,
    cache_size: int,
    cache_ttl: Duration | None,
    on_miss: OnMiss,
    suffix: str,
) -> LookupFunction:
    """Return the function that adds what a look-up has for a row."""
    rows = node.schema.visible()
    keys = (on,) if isinstance(on, str) else tuple(on)
    if not keys:
        raise TopologyError("join_lookup: on= names no column")
    for key in keys:
        if is_passed_through(rows.field(key).type):
            raise TopologyError(f"join_lookup: {key!r} ({rows.field(key).type}) cannot be a key", remedy="take one of its parts")
    if on_miss not in ("null", "drop", "fail"):
        raise TopologyError(f"join_lookup: on_miss={on_miss!r} is unknown", remedy='"null", "drop" or "fail"')
    if not isinstance(cache_size, int) or isinstance(cache_size, bool) or cache_size < 0:
        raise TopologyError(f"join_lookup: cache_size={cache_size!r} is not a number of keys", remedy="0 keeps none")
    given = lookup.lookup(keys) if hasattr(lookup, "lookup") else lookup
    if not isinstance(given, Lookup):
        check_async_function("join_lookup", given)
        if schema is None:
            raise TopologyError("join_lookup with a function needs schema=, the columns that it adds")
        given = FunctionLookup(given, Schema.of(schema))
    elif schema is not None:
        given = given.with_schema(Schema.of(schema))
    added = [field for field in given.schema.visible().fields if field.name not in keys]
    names = _added_names(rows, [field.name for field in added], suffix)
    nullable = on_miss == "null"
    output = Schema(
        (*rows.fields, *(Field(names[field.name], field.type, nullable=field.nullable or nullable) for field in added)),
    )
    ttl_s = None if cache_ttl is None else parse_duration(cache_ttl, "cache_ttl") / 1000
    return LookupFunction(given, keys, names, output, cache_size if ttl_s else 0, ttl_s or 0.0, on_miss)


def _added_names(rows: Schema, added: Sequence[str], suffix: str) -> dict[str, str]:
    """Return what the look-up's columns are called beside those of the stream."""
    names = {name: f"{name}{suffix}" if name in rows else name for name in added}
    taken = set(rows.names)
    for name, shown in names.items():
        if shown in taken:
            raise TopologyError(
                f"join_lookup: the column {name!r} of the look-up would be called {shown!r}, and there is such a column already",
                remedy="give another suffix=, or rename(...) the stream's column first",
            )
        taken.add(shown)
    return names
