"""What `join_lookup` calls: a look-up by key, with a cache and its connection in each task."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, Literal

from streamdsl.connectors.base import Lookup
from streamdsl.errors import DataError
from streamdsl.schema import Schema

__all__ = ["FunctionLookup", "LookupFunction", "OnMiss"]

OnMiss = Literal["null", "drop", "fail"]


class FunctionLookup(Lookup):
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

    __slots__ = ("answers", "asking", "done", "keys", "waiting")

    def __init__(self, keys: Sequence[Any]) -> None:
        self.keys = keys
        self.answers: dict[Any, Any] = {}  # an exception where a key has none
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asking: asyncio.Task[None] | None = None
        self.waiting = 0  # attempts that wait for it


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
            with self._waiting(asked):
                await asyncio.shield(asked.done)
            found = asked.answers[key]
            if isinstance(found, Exception):
                raise found
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
        asks = {self._asked[key]: None for key in others}  # each once, in order
        if own:
            asks = {self._ask(list(own)): None, **asks}
            others = {**own, **others}
        with self._waiting(*asks):
            for asked in asks:
                await asyncio.shield(asked.done)
                for key in asked.keys:
                    for place in others.get(key, ()):
                        self._end(ended, place, rows[place], key, asked.answers[key])

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
        asked = _Asked(keys)
        for key in keys:
            self._asked[key] = asked
        asked.asking = task = asyncio.get_running_loop().create_task(self._answer(asked))
        self._asking.add(task)
        task.add_done_callback(self._answered)
        return asked

    @contextlib.contextmanager
    def _waiting(self, *asks: _Asked) -> Iterator[None]:
        """An attempt waits. Who waits too is not given up with it, but who asks later asks anew: these answers may never come."""
        for asked in asks:
            asked.waiting += 1
        try:
            yield
        except asyncio.CancelledError:
            for asked in asks:
                self._forget(asked)
            raise
        finally:
            for asked in asks:
                asked.waiting -= 1
                if not asked.waiting and asked.asking is not None:
                    asked.asking.cancel()  # without effect once it has ended

    def _forget(self, asked: _Asked) -> None:
        for key in asked.keys:
            if self._asked.get(key) is asked:
                del self._asked[key]

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it

    async def _answer(self, asked: _Asked) -> None:
        keys = asked.keys
        try:
            answers = await self._lookup.get_many(keys) if self.many is not None else [await self._lookup.get(keys[0])]
            if len(answers) != len(keys):
                raise DataError(f"the look-up {self._lookup.name!r} was asked for {len(keys)} keys and answered {len(answers)}")
            for key, found in zip(keys, answers, strict=True):
                asked.answers[key] = found
                # Of a key that has been asked for anew since, this answer is the older one.
                if not isinstance(found, Exception) and self._asked.get(key) is asked:
                    self._keep(key, found)
        except BaseException as error:
            # Whatever fails, nobody waits for ever.
            why = error if isinstance(error, Exception) else TimeoutError("the look-up was given up")
            for key in keys:
                asked.answers.setdefault(key, why)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._forget(asked)
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
