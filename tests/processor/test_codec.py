"""The codec of state values: round trip, determinism, and nothing but StateError on hostile bytes."""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.serdes.codec import decode, encode
from streamdsl.errors import StateError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3)), timezone(timedelta(hours=5, minutes=30))]))
    | st.dates()
    | st.decimals(allow_nan=False)
)
KEYS = st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple),
    max_leaves=30,
)


def shape(value: Any) -> Any:
    """Return the value with its types: 1, True and 1.0 differ, and so do the orders of dicts."""
    if isinstance(value, (list, tuple)):
        return type(value), [shape(item) for item in value]
    if isinstance(value, dict):
        return dict, [(shape(key), shape(item)) for key, item in value.items()]
    return type(value), repr(value) if isinstance(value, float) else value


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_round_trip(value: Any) -> None:
    data = encode(value)
    assert shape(decode(data)) == shape(value)
    assert encode(value) == data
    assert encode(decode(data)) == data


@pytest.mark.parametrize("value", [0, 127, 128, -1, -32, -33, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 10**500, -(10**500)])
def test_ints_of_any_size(value: int) -> None:
    assert decode(encode(value)) == value


def test_floats_keep_their_bits() -> None:
    assert math.isnan(decode(encode(math.nan)))
    assert math.copysign(1.0, decode(encode(-0.0))) == -1.0
    assert decode(encode(math.inf)) == math.inf


def test_lone_surrogates_survive() -> None:
    assert decode(encode("a\ud800b")) == "a\ud800b"


def test_unknown_types_and_deep_nesting_are_refused() -> None:
    with pytest.raises(StateError, match="object"):
        encode(object())
    with pytest.raises(StateError, match="set"):
        encode([{1, 2}])
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(StateError, match="deep"):
        encode(endless)


def test_other_versions_are_named() -> None:
    with pytest.raises(StateError, match="version 9"):
        decode(b"\x09\xd0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x01\xd0\xd0",
        b"\x01\xa5ab",
        b"\x01\xd8\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x01\xd6\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x01" + b"\x81" * 1000,
        b"\x01\xc1\x80\x01",
        b"\x01\xc2\x01\x01\x01\x01",
        b"\x01\xa1\xff",
        b"\x01\xdb\x01\xd4\x14" + b"\x7f" * 20,
        b"\x01\xdb\x09\x01\x01",
        b"\x01\xdc\xd4\x09" + b"\x7f" * 9,
        b"\x01\xdd\x01x",
        b"\x01\xde",
    ],
)
def test_damaged_bytes(data: bytes) -> None:
    with pytest.raises(StateError):
        decode(data)


def test_ten_thousand_hostile_strings() -> None:
    rng = random.Random(20_240_607)
    mixed = [1, "text", {"k": (2.5, None)}, b"raw", datetime(2024, 1, 1, tzinfo=UTC), date(2024, 1, 1), Decimal("1.5")]
    sane = [encode(mixed), encode("x" * 300)]
    for _ in range(10_000):
        if rng.random() < 0.5:
            data = bytearray(b"\x01" + rng.randbytes(rng.randrange(60)))
        else:
            data = bytearray(rng.choice(sane))
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(1, len(data))] = rng.randrange(256)
            del data[rng.randrange(1, len(data) + 1) :]
        try:
            value = decode(bytes(data))
        except StateError:
            continue
        decode(encode(value))
