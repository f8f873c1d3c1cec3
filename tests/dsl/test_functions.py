"""Functions whose result is not what a verb needs are refused where they are given."""

import asyncio
import functools

import pytest

from streamdsl import Aggregate, Processor, Topology, col, memory, native, operator, tumbling
from streamdsl.functions import check_function
from tests.dsl.fakes import payments, refused


async def coroutine(*args):
    return False


async def async_generator(*args):
    yield False


def generator(*args):
    yield False


class AsyncCall:
    async def __call__(self, *args):
        return False


class GeneratorCall:
    def __call__(self, *args):
        yield False


class Methods:
    async def look(self, row):
        return False

    def steps(self, row):
        yield False


ASYNC = {
    "coroutine": coroutine,
    "async generator": async_generator,
    "call": AsyncCall(),
    "method": Methods().look,
    "partial": functools.partial(coroutine, 1),
    "partial of partial": functools.partial(functools.partial(AsyncCall(), 1), 2),
    "lambda": lambda *args: coroutine(*args),  # noqa: PLW0108
    "lambda of lambda": lambda row, other=None: ASYNC_LAMBDA(row),
    "cached": functools.lru_cache(coroutine),
    "partial of lambda": functools.partial(lambda number, row: coroutine(row), 1),
}
ASYNC_LAMBDA = lambda row: coroutine(row)  # noqa: E731, PLW0108
GENERATORS = {
    "generator": generator,
    "call": GeneratorCall(),
    "method": Methods().steps,
    "partial": functools.partial(generator, 1),
    "lambda": lambda *args: generator(*args),  # noqa: PLW0108
    "generator lambda": lambda row: (yield row),
}


def keyed(stream):
    return stream.key_by("account")


VERBS = {
    "filter": lambda stream, function: stream.filter(function),
    "branch": lambda stream, function: stream.branch(one=function),
    "second branch": lambda stream, function: stream.branch(one=col("id") > 1, two=function),
    "peek": lambda stream, function: stream.peek(function),
    "map": lambda stream, function: stream.map(function, schema={"id": int}),
    "map_batches": lambda stream, function: stream.map_batches(function, schema={"id": int}),
    "reduce": lambda stream, function: keyed(stream).reduce(function),
    "window reduce": lambda stream, function: keyed(stream).window(tumbling("1m")).reduce(function),
    "native": lambda stream, function: native(function),
    "init": lambda stream, function: Aggregate(function, max, type=int),
    "add": lambda stream, function: Aggregate(int, function, type=int),
    "merge": lambda stream, function: Aggregate(int, max, function, type=int),
}


@pytest.mark.parametrize("function", ASYNC)
@pytest.mark.parametrize("verb", [*VERBS, "flat_map"])
def test_async_functions(verb, function):
    stream = payments()[1]
    with refused("is async", "plain function"):
        if verb == "flat_map":
            stream.flat_map(ASYNC[function], schema={"id": int})
        VERBS[verb](stream, ASYNC[function])


@pytest.mark.parametrize("function", GENERATORS)
@pytest.mark.parametrize("verb", VERBS)
def test_generators(verb, function):
    with refused("is a generator", "flat_map"):
        VERBS[verb](payments()[1], GENERATORS[function])


@pytest.mark.parametrize("function", GENERATORS)
def test_generators_where_rows_are_yielded(function):
    payments()[1].flat_map(GENERATORS[function], schema={"id": int})


def waits(row):
    return asyncio.run(coroutine(row))


@functools.wraps(coroutine)
def wrapped(row):
    return asyncio.run(coroutine(row))


def kept(row):
    return any(generator(row))


@pytest.mark.parametrize("function", [waits, wrapped, kept, bool, str.isdigit, functools.partial(max, 1), lambda row: any(generator(row))])
def test_functions_that_wait_or_collect(function):
    check_function("filter", function, "a function")


async def _later(self, *args):
    return None


async def _streamed(self, *args):
    yield None


def _yielding(self, *args):
    yield None


@pytest.mark.parametrize("kind", [_later, _streamed])
@pytest.mark.parametrize("method", ["open", "process", "process_batch", "process_window", "on_timer", "close"])
def test_async_methods_of_processors(method, kind):
    processor = type("Looks", (Processor,), {"output": {"id": int}, method: kind})
    for one in (processor, processor()):
        with refused("process(Looks)", "is async"):
            keyed(payments()[1]).process(one)


@pytest.mark.parametrize("method", ["open", "process_batch", "close"])
def test_generator_methods_of_processors(method):
    with refused("process(Looks)", "is a generator"):
        keyed(payments()[1]).process(type("Looks", (Processor,), {"output": {"id": int}, method: _yielding}))


def test_processors_may_yield_rows():
    methods = dict.fromkeys(("process", "on_timer", "process_window"), _yielding)
    processor = type("Yields", (Processor,), {"output": {"id": int}, **methods})
    assert keyed(payments()[1]).process(processor).schema.names == ("id",)
    assert keyed(payments()[1]).window(tumbling("1m")).process(processor).schema.names == ("id",)


def test_async_operators():
    with refused("operator", "is async"):
        operator(coroutine)


def test_a_function_is_refused_before_it_has_seen_a_row():
    rows = Topology("t").stream(memory("m", schema={"a": int}, rows=[{"a": 1}]))
    with refused("filter: never is async"):

        async def never(row):
            raise AssertionError

        rows.filter(never)
