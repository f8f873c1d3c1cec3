"""Numbers and times as text are Python's."""

from __future__ import annotations

import datetime
import math
import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from streamdsl._native.serdes.number_text import double_of_text, text_of_double, text_of_fixed, text_of_timestamp


@given(st.floats())
def test_a_double_is_its_repr_and_reads_back(x: float) -> None:
    assert text_of_double(x) == repr(x)
    back = double_of_text(repr(x).encode())
    assert back == x or math.isnan(x)


def test_doubles_of_all_sizes() -> None:
    chance = random.Random(7)
    doubles = [struct.unpack("d", struct.pack("Q", chance.getrandbits(64)))[0] for _ in range(20_000)]
    doubles += [round(chance.uniform(-1e6, 1e6), chance.randrange(8)) for _ in range(5_000)]
    # Powers of two have the uneven neighbourhoods, powers of ten the exact table entries.
    doubles += [2.0**k for k in range(-1074, 1024)] + [10.0**k for k in range(-323, 309)] + [k * 5e-324 for k in range(300)]
    for x in doubles:
        assert text_of_double(x) == repr(x)
        long = f"{x:.30e}"
        assert double_of_text(long.encode()) == x or math.isnan(x)


@given(st.floats() | st.integers(-(10**6), 10**6).map(lambda x: x / 1000), st.integers(0, 12))
def test_fixed_decimals_are_pythons_format(x: float, digits: int) -> None:
    assert text_of_fixed(x, digits) == format(x, f".{digits}f")


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_timestamps(ms: int) -> None:
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
    assert text_of_timestamp(ms) == moment.isoformat(timespec="milliseconds") + "Z"


def test_timestamps_beyond_the_calendar_of_python() -> None:
    assert text_of_timestamp(253402300800000) == "+10000-01-01T00:00:00.000Z"
    assert text_of_timestamp(-62167219200001) == "-0001-12-31T23:59:59.999Z"
    assert text_of_timestamp(2**63 - 1) == "+292278994-08-17T07:12:55.807Z"
    assert text_of_timestamp(-(2**63)) == "-292275055-05-16T16:47:04.192Z"


def test_what_is_no_number() -> None:
    for text in (b"", b" ", b"1_0", b"1e", b"1e+", b".", b"-", b"0x10", b"1.2.3", b"1 2", b"infinit", b"\xc2\xa01"):
        assert double_of_text(text) is None
