"""Asynchronous calls: of a function of the row, and of a look-up by key."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from streamdsl.connectors.base import Lookup
from streamdsl.dsl.written import Written, arguments, here
from streamdsl.durations import Duration, parse_duration
from streamdsl.errors import DataError, TopologyError
from streamdsl.functions import check_async_function
from streamdsl.logical.node import Node
from streamdsl.logical.python_function import AsyncCalls, PythonFunctionNode
from streamdsl.policies import ErrorPolicy, checked_policy
from streamdsl.schema import Field, Schema

if TYPE_CHECKING:
    from streamdsl.dsl.stream import Stream

__all__ = ["AsyncVerbs", "LookupFunction", "OnMiss"]

OnMiss = Literal["null", "drop", "fail"]
#: Keys that are asked for together, at most.
_TOGETHER = 256


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
        rows.field(key)
    if on_miss not in ("null", "drop", "fail"):
        raise TopologyError(f"join_lookup: on_miss={on_miss!r} is unknown", remedy='"null", "drop" or "fail"')
    if not isinstance(cache_size, int) or isinstance(cache_size, bool) or cache_size < 0:
        raise TopologyError(f"join_lookup: cache_size={cache_size!r} is not a number of keys", remedy="0 keeps none")
    given = lookup.lookup(keys) if hasattr(lookup, "lookup") else lookup
    if not isinstance(given, Lookup):
        check_async_function("join_lookup", given)
        if schema is None:
            raise TopologyError("join_lookup with a function needs schema=, the columns that it adds")
        given = _FunctionLookup(given, Schema.of(schema))
    elif schema is not None:
        given = given.with_schema(Schema.of(schema))
    added = [field for field in given.schema.visible().fields if field.name not in keys]
    names = {field.name: field.name + suffix if field.name in rows else field.name for field in added}
    nullable = on_miss == "null"
    output = Schema(
        (*rows.fields, *(Field(names[field.name], field.type, nullable=field.nullable or nullable) for field in added)),
    )
    ttl_s = None if cache_ttl is None else parse_duration(cache_ttl, "cache_ttl") / 1000
    return LookupFunction(given, keys, names, output, cache_size if ttl_s else 0, ttl_s or 0.0, on_miss)


class _FunctionLookup(Lookup):
    """A user's coroutine function of the key."""

    def __init__(self, function: Callable[[Any], Awaitable[Any]], schema: Schema) -> None:
        self.schema = schema
        self.name = getattr(function, "__name__", type(function).__name__)
        self._function = function

    async def get(self, key: Any) -> Any:
        """Call the function."""
        return await self._function(key)


class LookupFunction:
    """Adds what a look-up has for a row. Its methods run in the event loop of one task, or in those of several."""

    def __init__(
        self,
        lookup: Lookup,
        keys: tuple[str, ...],
        names: dict[str, str],
        schema: Schema,
        cache_size: int,
        cache_ttl_s: float,
        on_miss: OnMiss,
    ) -> None:
        self.schema = schema
        self._lookup = lookup
        self._keys = keys
        self._names = names
        self._needed = [field.name for field in lookup.schema.visible().fields if field.name in names and not field.nullable]
        self._kept = [field.name for field in schema.fields if field.name not in names.values()]
        self._cache_size = cache_size
        self._cache_ttl_s = cache_ttl_s
        self._on_miss = on_miss
        self.__name__ = lookup.name

    @property
    def lookup(self) -> Lookup:
        """What is asked."""
        return self._lookup

    def __deepcopy__(self, memo: object) -> LookupFunction:
        return self

    async def __call__(self, row: Any) -> Any:
        """Not called: each task calls what `per_task` returns."""
        raise NotImplementedError

    def per_task(self) -> Callable[[Any], Awaitable[Any]]:
        """Return what one task calls: its cache and its connection are its own."""
        return _Caller(self)


class _Caller:
    #: What a call returns that makes no row.
    nothing: Final = object()

    def __init__(self, shared: LookupFunction) -> None:
        self._shared = shared
        self._lookup = shared._lookup.copy()
        self._many = type(self._lookup).get_many is not Lookup.get_many
        self._cache: OrderedDict[Any, tuple[float, Any]] = OrderedDict()
        self._asked: dict[Any, list[asyncio.Future[Any]]] = {}  # who waits for a key's answer
        self._wanted: list[Any] = []
        self._asking: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect."""
        await self._lookup.open()

    async def close(self) -> None:
        """Let the connection go."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self._lookup.close()

    async def __call__(self, row: Any) -> Any:
        shared = self._shared
        values = tuple([row[key] for key in shared._keys])
        found = None
        if None not in values:
            found = await self._found(values if len(values) > 1 else values[0])
        if found is None:
            if shared._on_miss == "drop":
                return self.nothing
            if shared._on_miss == "fail":
                raise DataError(f"the look-up {shared._lookup.name!r} has nothing for the key {values!r}")
        else:
            for name in shared._needed:
                if not _has(found, name):
                    raise DataError(
                        f"the look-up {shared._lookup.name!r} answered with a {type(found).__name__} without {name!r}, which is not "
                        f"declared as {name}: ... | None, for the key {values!r}"
                    )
        result = {name: row[name] for name in shared._kept}
        for name, called in shared._names.items():
            result[called] = None if found is None else _picked(found, name)
        return result

    async def _found(self, key: Any) -> Any:
        known = self._cache.get(key)
        if known is not None and known[0] > time.monotonic():
            self._cache.move_to_end(key)
            return known[1]
        loop = asyncio.get_running_loop()
        # Others may wait for the same answer: one that gives up must not take it from them.
        answer: asyncio.Future[Any] = loop.create_future()
        waiting = self._asked.get(key)
        if waiting is not None:
            waiting.append(answer)
        else:
            self._asked[key] = [answer]
            self._wanted.append(key)
            if len(self._wanted) == 1:
                loop.call_soon(self._ask)
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancelled():
                answer.exception()  # it came too late: nobody else has it
            raise

    def _keep(self, key: Any, found: Any) -> None:
        """Put an answer into the cache in the turn of the loop in which it comes: whoever asks next would ask once more."""
        size = self._shared._cache_size
        if size:
            self._cache[key] = (time.monotonic() + self._shared._cache_ttl_s, found)
            self._cache.move_to_end(key)
            while len(self._cache) > size:
                self._cache.popitem(last=False)

    def _ask(self) -> None:
        """Ask for the keys that have come up in this turn of the loop."""
        wanted, self._wanted = self._wanted, []
        size = _TOGETHER if self._many else 1
        for at in range(0, len(wanted), size):
            task = asyncio.get_running_loop().create_task(self._answer(wanted[at : at + size]))
            self._asking.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it

    async def _answer(self, keys: list[Any]) -> None:
        left = dict.fromkeys(keys)
        try:
            answers = await self._lookup.get_many(keys) if self._many else [await self._lookup.get(keys[0])]
            if len(answers) != len(keys):
                raise DataError(f"the look-up {self._lookup.name!r} was asked for {len(keys)} keys and answered {len(answers)}")
            for key, found in zip(keys, answers, strict=True):
                if not isinstance(found, Exception):
                    self._keep(key, found)
                del left[key]
                self._tell(key, found)
        except BaseException as error:
            # Whatever fails, nobody waits for ever.
            for key in left:
                self._tell(key, error if isinstance(error, Exception) else TimeoutError("the look-up was given up"))
            if isinstance(error, asyncio.CancelledError):
                raise

    def _tell(self, key: Any, found: Any) -> None:
        for answer in self._asked.pop(key):
            if answer.done():
                continue
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)


def _has(found: Any, name: str) -> bool:
    if type(found) is dict:
        return name in found
    return name in found.keys() if hasattr(found, "keys") else hasattr(found, name)  # noqa: SIM118 - a row of a driver


def _picked(found: Any, name: str) -> Any:
    if type(found) is dict:
        return found.get(name)
    if hasattr(found, "keys"):
        return found.get(name) if hasattr(found, "get") else found[name]
    return getattr(found, name)
