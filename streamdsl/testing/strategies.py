"""Hypothesis strategies: keyed, disordered rows for any schema, whole inputs of a topology, and cuts into batches.

Needs Hypothesis: ``pip install 'streamdsl[test]'``. It is imported when the first strategy is made.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamdsl.dsl.topology import Topology
from streamdsl.errors import TopologyError
from streamdsl.logical.types import is_decimal, is_integer, is_string, is_time
from streamdsl.schema import Field, Schema
from streamdsl.testing.data import TopologyLike, built
from streamdsl.testing.simulation import judged

if TYPE_CHECKING:
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
else:

    class _Hypothesis:
        """Imports Hypothesis once it is asked for something."""

        def __getattr__(self, name: str) -> Any:
            try:
                from hypothesis import strategies
            except ImportError as error:
                raise ImportError("streamdsl.testing.strategies needs Hypothesis: pip install 'streamdsl[test]'") from error
            return getattr(strategies, name)

    st = _Hypothesis()

__all__ = ["cuts", "keyed_rows", "streams", "values"]

Row = dict[str, Any]

#: Drawn times begin here (ms).
BEGIN_MS = 1_000
#: Time from one row to the next (ms), before disorder: mostly close together, with ties, sometimes far apart.
STEPS_MS = (0, 1, 7, 100, 1_000, 20_000)
#: Numbers stay so small that sums of them neither overflow nor lose digits.
LARGEST = 10**6

_EPOCH = datetime.datetime(1970, 1, 1)
_DAY = datetime.date(1970, 1, 1)


def keyed_rows(
    schema: Any,
    *,
    key: str | Sequence[str] = (),
    timestamp: str | None = None,
    keys: int = 3,
    max_disorder_ms: int = 0,
    max_size: int = 30,
    min_size: int = 0,
    columns: Mapping[str, SearchStrategy[Any]] | None = None,
) -> SearchStrategy[list[Row]]:
    """Rows for a schema: few keys, times that move on and are a little out of order, anything in the other columns.

    Parameters
    ----------
    schema : dataclass, pyarrow.Schema, mapping or Schema
        Columns of all types that a stream can have; those that may be null sometimes are (never the time).
    key : str or sequence of str
        Columns of the key; each takes `keys` different values, so that keys meet again.
    timestamp : str, optional
        Column of the event time: a timestamp, or integers of milliseconds.
    keys : int
        How many different values a column of the key takes.
    max_disorder_ms : int
        How far a time may be behind the greatest before it. A stream with at least this ``disorder=`` finds no row late.
    max_size, min_size : int
        Number of rows.
    columns : mapping of str to strategy, optional
        Strategies of one's own for some columns, those of the key included.

    Raises
    ------
    TopologyError
        A column does not exist, or the timestamp is not a time.

    Examples
    --------
    >>> from hypothesis import find
    >>> rows = keyed_rows({"user": str, "at": int, "n": "int8"}, key="user", timestamp="at")
    >>> [sorted(row) for row in find(rows, lambda found: len(found) == 2)]
    [['at', 'n', 'user'], ['at', 'n', 'user']]
    """
    declared = Schema.of(schema).visible()
    names = (key,) if isinstance(key, str) else tuple(key)
    own = dict(columns or {})
    for name in (*names, *own, *(() if timestamp is None else (timestamp,))):
        declared.index(name)
    if timestamp is not None and not (is_time(declared.field(timestamp).type) or is_integer(declared.field(timestamp).type)):
        raise TopologyError(f"timestamp={timestamp!r} is {declared.field(timestamp).type}, not a time")
    if keys < 1:
        raise TopologyError(f"keys={keys}: at least 1")
    drawn = {
        field.name: own[field.name] if field.name in own else _key_values(field, keys) if field.name in names else values(field)
        for field in declared.fields
        if field.name != timestamp
    }
    clock = None if timestamp is None else declared.field(timestamp)

    def rows(draw: DrawFn) -> list[Row]:
        now, made = BEGIN_MS, []
        for _ in range(draw(st.integers(min_size, max_size))):
            row = {name: draw(strategy) for name, strategy in drawn.items()}
            if clock is not None:
                now += draw(st.sampled_from(STEPS_MS))
                behind = draw(st.integers(0, max_disorder_ms)) if max_disorder_ms else 0
                row[clock.name] = _time(clock.type, _floored(clock.type, now) - _floored(clock.type, behind))
            made.append({field.name: row[field.name] for field in declared.fields})
        return made

    return st.composite(rows)()


def streams(
    topology: TopologyLike,
    *,
    keys: int = 3,
    max_size: int = 30,
    max_late_ms: int = 0,
    columns: Mapping[str, Mapping[str, SearchStrategy[Any]]] | None = None,
) -> SearchStrategy[dict[str, list[Row]]]:
    """Inputs of a topology, as `assert_invariant` and `Simulation` take them: rows for each of its sources.

    Schema, timestamp and disorder are those that the topology declares; the columns that its operators use as keys take few
    values.

    Parameters
    ----------
    topology : Topology or callable
    keys : int
        How many different values a column of a key takes.
    max_size : int
        Rows of a source at most.
    max_late_ms : int
        How far a row may be behind what the source's ``disorder=`` allows: such rows are late.
    columns : mapping, optional
        Strategies of one's own: ``{"transactions": {"amount": st.floats(0, 100)}}``.

    Examples
    --------
    >>> from hypothesis import find
    >>> from streamdsl import Topology, memory
    >>> topology = Topology("visits")
    >>> visits = topology.stream(memory("visits", schema={"user": str, "at": int}), timestamp="at", disorder="1s")
    >>> visits.key_by("user").count().to(memory("counts"))
    >>> found = find(streams(topology), lambda data: len(data["visits"]) == 1)
    >>> sorted(found["visits"][0])
    ['at', 'user']
    """
    made = built(topology)
    nodes = {node.name: node for node in made.plan().sources}
    own = dict(columns or {})
    for name in own:
        if name not in nodes:
            raise TopologyError(f"columns: there is no source {name!r}", remedy=f"the topology reads: {', '.join(nodes)}")
    used = _keys(made)
    return st.fixed_dictionaries(
        {
            name: keyed_rows(
                node.declared,
                key=used.get(name, ()),
                timestamp=None if node.timestamp is None or not node.timestamp.as_it_is else node.timestamp.column,
                keys=keys,
                max_disorder_ms=node.disorder_ms + max_late_ms,
                max_size=max_size,
                columns=own.get(name),
            )
            for name, node in nodes.items()
        }
    )


def _keys(topology: Topology) -> dict[str, tuple[str, ...]]:
    """Return the columns of each source that are a key somewhere."""
    empty: dict[str, list[Any]] = {node.name: [] for node in topology.plan().sources}
    return {name: tuple(sorted(used)) for name, used in judged(topology, empty).keys.items()}


def cuts(n: int) -> SearchStrategy[list[slice]]:
    """Cuts of `n` rows into batches: slices that follow one another, none of them empty.

    Examples
    --------
    >>> from hypothesis import find
    >>> first, second = find(cuts(5), lambda found: len(found) == 2)
    >>> (first.start, second.start - first.stop, second.stop)
    (0, 0, 5)

    In a test::

        @given(st.data())
        def test_cuts_do_not_show(data):
            for cut in data.draw(cuts(len(ROWS))):
                driver.send_batch("visits", ROWS[cut])
    """
    if n < 0:
        raise TopologyError(f"cuts({n}): a number of rows is not negative")
    if n < 2:
        return st.just([slice(0, n)] if n else [])
    inner = st.sets(st.integers(1, n - 1))
    return inner.map(lambda at: [slice(a, b) for a, b in zip([0, *sorted(at)], [*sorted(at), n], strict=True)])


# Values --------------------------------------------------------------------------------------------------------------


def values(field: Field) -> SearchStrategy[Any]:
    """Values of a column of any type; null among them if it may be.

    Numbers are small enough to be added up; floats are finite. For others give `columns=`.

    Examples
    --------
    >>> from hypothesis import find
    >>> from streamdsl import Field
    >>> import pyarrow as pa
    >>> 100 < find(values(Field("n", pa.int8(), nullable=False)), lambda n: n > 100) < 128
    True
    """
    plain = _values(field.type)
    return st.none() | plain if field.nullable else plain


def _values(type_: pa.DataType) -> SearchStrategy[Any]:
    types = pa.types
    if types.is_boolean(type_):
        return st.booleans()
    if is_integer(type_):
        return st.integers(*_range(type_))
    if types.is_floating(type_):
        return st.floats(-LARGEST, LARGEST, width=32 if type_ == pa.float32() else 64, allow_nan=False, allow_infinity=False)
    if is_string(type_):
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    if types.is_binary(type_) or types.is_large_binary(type_):
        return st.binary(max_size=8)
    if is_time(type_):
        return st.integers(0, LARGEST).map(lambda ms: _time(type_, ms))
    if types.is_date32(type_):
        return st.integers(0, 20_000).map(lambda days: _DAY + datetime.timedelta(days=days))
    if types.is_decimal(type_):
        most = min(LARGEST, 10**type_.precision - 1)
        return st.integers(-most, most).map(lambda digits: decimal.Decimal(digits).scaleb(-type_.scale))
    if types.is_fixed_size_list(type_):
        return st.lists(_inner(type_.value_field), min_size=type_.list_size, max_size=type_.list_size)
    if types.is_list(type_) or types.is_large_list(type_):
        return st.lists(_inner(type_.value_field), max_size=3)
    if types.is_struct(type_):
        return st.fixed_dictionaries({inner.name: _inner(inner) for inner in type_})
    if types.is_map(type_):
        entries = st.dictionaries(_values(type_.key_type), _inner(type_.item_field), max_size=3)
        return entries.map(lambda found: list(found.items()))
    raise TopologyError(f"there are no values for {type_}", remedy="give a strategy of your own: columns={...}")


def _inner(field: pa.Field) -> SearchStrategy[Any]:
    return values(Field(field.name, field.type, field.nullable))


def _range(type_: pa.DataType) -> tuple[int, int]:
    bits = type_.bit_width
    if pa.types.is_unsigned_integer(type_):
        return 0, min(LARGEST, 2**bits - 1)
    return max(-LARGEST, -(2 ** (bits - 1))), min(LARGEST, 2 ** (bits - 1) - 1)


def _key_values(field: Field, keys: int) -> SearchStrategy[Any]:
    """Return `keys` different values, and null if the column may be null: such rows have no key."""
    made: Callable[[int], Any]
    if pa.types.is_boolean(field.type):
        made, keys = bool, min(keys, 2)
    elif is_integer(field.type):
        made, keys = int, min(keys, _range(field.type)[1])
    elif pa.types.is_floating(field.type):
        made = float
    elif is_string(field.type):
        made = _letters
    elif pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
        made = _letters_in_bytes
    elif is_time(field.type):
        made = lambda i: _time(field.type, 1_000 * i)  # noqa: E731
    elif is_decimal(field.type):
        made, keys = decimal.Decimal, min(keys, 10 ** (field.type.precision - field.type.scale))
    elif pa.types.is_date32(field.type):
        made = lambda i: _DAY + datetime.timedelta(days=i)  # noqa: E731
    else:
        raise TopologyError(f"column {field.name!r} ({field.type}) cannot be a key", remedy="take one of its parts")
    chosen = st.sampled_from([made(i) for i in range(keys)])
    return chosen | st.none() if field.nullable else chosen


def _letters(i: int) -> str:
    """Return a, b, …, z, then ba, bb, …"""
    text = chr(ord("a") + i % 26)
    return text if i < 26 else _letters(i // 26) + text


def _letters_in_bytes(i: int) -> bytes:
    return _letters(i).encode()


def _floored(type_: pa.DataType, ms: int) -> int:
    """Return the part of a time or duration that the column can hold: disorder must not grow by rounding."""
    return ms - ms % 1_000 if is_time(type_) and type_.unit == "s" else ms


def _time(type_: pa.DataType, ms: int) -> Any:
    if is_integer(type_):
        unsigned = pa.types.is_unsigned_integer(type_)
        return max(0 if unsigned else -(2 ** (type_.bit_width - 1)), min(ms, 2 ** (type_.bit_width - 1) - 1))
    moment = _EPOCH + datetime.timedelta(milliseconds=_floored(type_, ms))
    return moment if type_.tz is None else moment.replace(tzinfo=datetime.UTC)
