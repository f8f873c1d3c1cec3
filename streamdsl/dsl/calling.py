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


class _Asked:
    """Keys that were asked for together, and what became of them."""

    __slots__ = ("answers", "done")

    def __init__(self) -> None:
        self.answers: dict[Any, Any] = {}  # an exception where a key has none
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def answer(self, key: Any) -> Any:
        """Wait for the answer; raises what stands there instead of one."""
        # Others may wait, too: one that gives up must not take it from them.
        await asyncio.shield(self.done)
        found = self.answers[key]
        if isinstance(found, Exception):
            raise found
        return found


class _Caller:
    #: What a call returns that makes no row.
    nothing: Final = object()

    def __init__(self, shared: LookupFunction) -> None:
        self._shared = shared
        self._lookup = shared._lookup.copy()
        #: Of several rows, where the look-up answers for many keys at a time.
        self.many = self._many if type(self._lookup).get_many is not Lookup.get_many else None
        self._cache: OrderedDict[Any, tuple[float, Any]] = OrderedDict()
        self._asked: dict[Any, _Asked] = {}  # keys whose answers are awaited
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
        key = self._key(row)
        if key is None:
            return self._result(row, key, None)
        known, found = self._known(key)
        if not known:
            asked = self._asked.get(key) or self._ask([key])
            found = await asked.answer(key)
        return self._result(row, key, found)

    async def _many(self, rows: Sequence[Any], ended: Callable[[int, Any], None]) -> None:
        """Look several rows up at once: `ended` is told the result of each, or why there is none."""
        own: dict[Any, list[int]] = {}  # places of the rows by key
        others: dict[Any, list[int]] = {}  # the same of keys that are being asked for
        for place, row in enumerate(rows):
            key = self._key(row)
            known, found = (True, None) if key is None else self._known(key)
            if known:
                self._end(ended, place, row, key, found)
            else:
                (others if key in self._asked else own).setdefault(key, []).append(place)
        asked = self._ask(list(own)) if own else None
        waiting = {key: self._asked[key] for key in others}
        if asked is not None:
            await asyncio.shield(asked.done)
            for key, places in own.items():
                for place in places:
                    self._end(ended, place, rows[place], key, asked.answers[key])
        for key, places in others.items():
            await asyncio.shield(waiting[key].done)
            for place in places:
                self._end(ended, place, rows[place], key, waiting[key].answers[key])

    def _end(self, ended: Callable[[int, Any], None], place: int, row: Any, key: Any, found: Any) -> None:
        if not isinstance(found, Exception):
            try:
                found = self._result(row, key, found)
            except Exception as error:  # noqa: BLE001 - of this row alone
                found = error
        ended(place, found)

    def _key(self, row: Any) -> Any:
        """Return the key of a row, None if a part of it is null."""
        keys = self._shared._keys
        if len(keys) == 1:
            return row[keys[0]]
        values = tuple([row[key] for key in keys])
        return None if None in values else values

    def _result(self, row: Any, key: Any, found: Any) -> Any:
        shared = self._shared
        if found is None:
            if shared._on_miss == "drop":
                return self.nothing
            if shared._on_miss == "fail":
                values = tuple([row[name] for name in shared._keys])
                raise DataError(f"the look-up {shared._lookup.name!r} has nothing for the key {values!r}")
        else:
            for name in shared._needed:
                if not _has(found, name):
                    raise DataError(
                        f"the look-up {shared._lookup.name!r} answered with a {type(found).__name__} without {name!r}, which is not "
                        f"declared as {name}: ... | None, for the key {key if len(shared._keys) > 1 else (key,)!r}"
                    )
        result = {name: row[name] for name in shared._kept}
        for name, called in shared._names.items():
            result[called] = None if found is None else _picked(found, name)
        return result

    def _known(self, key: Any) -> tuple[bool, Any]:
        """Return whether the cache has an answer, and the answer."""
        known = self._cache.get(key)
        if known is None or known[0] <= time.monotonic():
            return False, None
        self._cache.move_to_end(key)
        return True, known[1]

    def _keep(self, key: Any, found: Any) -> None:
        """Put an answer into the cache in the turn of the loop in which it comes: whoever asks next would ask once more."""
        size = self._shared._cache_size
        if size:
            self._cache[key] = (time.monotonic() + self._shared._cache_ttl_s, found)
            self._cache.move_to_end(key)
            while len(self._cache) > size:
                self._cache.popitem(last=False)

    def _ask(self, keys: list[Any]) -> _Asked:
        """Ask for keys that nobody has asked for yet."""
        asked = _Asked()
        for key in keys:
            self._asked[key] = asked
        task = asyncio.get_running_loop().create_task(self._answer(asked, keys))
        self._asking.add(task)
        task.add_done_callback(self._answered)
        return asked

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it

    async def _answer(self, asked: _Asked, keys: list[Any]) -> None:
        try:
            answers = await self._lookup.get_many(keys) if self.many is not None else [await self._lookup.get(keys[0])]
            if len(answers) != len(keys):
                raise DataError(f"the look-up {self._lookup.name!r} was asked for {len(keys)} keys and answered {len(answers)}")
            for key, found in zip(keys, answers, strict=True):
                asked.answers[key] = found
                if not isinstance(found, Exception):
                    self._keep(key, found)
        except BaseException as error:
            # Whatever fails, nobody waits for ever.
            why = error if isinstance(error, Exception) else TimeoutError("the look-up was given up")
            for key in keys:
                asked.answers.setdefault(key, why)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            for key in keys:
                self._asked.pop(key, None)
            if not asked.done.done():
                asked.done.set_result(None)


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
