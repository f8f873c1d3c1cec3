"""Durations: one parser for windows, settings, times to live and timers."""

import datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdsl import Config, ConfigError, Processor, Topology, UserCodeError, col, hopping, kafka, memory, rolling, tumbling
from streamdsl.config import parse_bytes
from streamdsl.durations import MAX_DURATION_MS, format_duration, parse_duration
from streamdsl.errors import StreamError, TopologyError
from streamdsl.testing import TopologyTestDriver
from tests.dsl.fakes import refused

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class Whole:
    """A whole number of another library, as NumPy has them."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def __repr__(self):
        return f"Whole({self.value})"


class timedelta64:
    """What NumPy's own looks like."""

    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("60s", 60_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("2d", 172_800_000),
        ("1w", 604_800_000),
        ("100ms", 100),
        ("1h30m", 5_400_000),
        ("1h 30m 5ms", 5_400_005),
        ("1.5s", 1_500),
        ("2.3h", 8_280_000),
        ("1.005s", 1_005),
        ("0.1w", 60_480_000),
        (" 10 s ", 10_000),
        (250, 250),
        ("0s", 0),
        (datetime.timedelta(minutes=2), 120_000),
        (datetime.timedelta(days=999_999_999), 86_399_999_913_600_000),
        (Whole(7), 7),
        (timedelta64(datetime.timedelta(seconds=7)), 7_000),
        (MAX_DURATION_MS, MAX_DURATION_MS),
    ],
)
def test_durations(value, ms):
    assert parse_duration(value) == ms


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "60",
        "s",
        "60 sec",
        "-1s",
        "1s2",
        1.5,
        True,
        None,
        "0.5ms",
        -1,
        datetime.timedelta(microseconds=1),
        "1,5s",
        "1e3s",
        "1s1s",
        "1m 1h 1m",
        "١s",
        "1_0s",
        "1h-30m",
        b"1s",
        Decimal(1),
        Whole(-1),
        timedelta64(5),
        2**62 + 1,
        "99999999999w",
        "P1D",
        "00:01:00",
    ],
)
def test_bad_durations(value):
    with refused("gap"):
        parse_duration(value, "gap")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("1M", '"1m" for minutes, "30d" for a month'),
        ("30M", '"30m" for minutes, "30d" for a month'),
        ("2.5 hours", 'write "2.5h"'),
        ("1d12H", 'write "12h"'),
        ("12M", "a month or a minute"),
        ("1MS", '"1ms"'),
        ("1mo", "30d"),
        ("1y", "365d"),
        ("2Y", "365d"),
        ("1q", "30d"),
        ("1H", '"1h"'),
        ("5S", '"5s"'),
        ("5min", '"5m"'),
        ("5 Minutes", '"5m"'),
        ("5us", "milliseconds"),
        ("60", "has no unit"),
    ],
)
def test_units_that_are_not_clear_are_refused(value, hint):
    with refused("size", hint):
        parse_duration(value, "size")


@given(
    st.lists(
        st.tuples(st.decimals(0, 1000, places=3), st.sampled_from(list(UNITS))), min_size=1, max_size=3, unique_by=lambda part: part[1]
    )
)
def test_decimals_are_exact(parts):
    text = "".join(f"{number}{unit}" for number, unit in parts)
    wanted = sum(Fraction(number) * UNITS[unit] for number, unit in parts)
    if wanted.denominator == 1:
        assert parse_duration(text) == wanted
    else:
        with refused("finer than a millisecond"):
            parse_duration(text)


@pytest.mark.parametrize(("ms", "text"), [(0, "0s"), (100, "100ms"), (90_000, "90s"), (60_000, "1m"), (86_400_000, "1d")])
def test_durations_print_in_their_largest_unit(ms, text):
    assert format_duration(ms) == text
    assert parse_duration(text) == ms


class Keeps(Processor):
    """Uses durations wherever a Processor takes one."""

    output = {"n": int}

    def __init__(self, how, value):
        self.how, self.value = how, value

    def open(self, ctx):
        self.state = ctx.state.value("state", int, ttl=self.value if self.how == "declared" else None)
        self.map = ctx.state.map("map", int, int)

    def process(self, row, ctx):
        if self.how == "set":
            self.state.set(1, ttl=self.value)
        elif self.how == "put":
            self.map.put(1, 1, ttl=self.value)
        elif self.how == "every":
            ctx.set_timer(0, every=self.value)
            ctx.cancel_timer(0, every=self.value)


def processed(how, value):
    topology = Topology("job")
    rows = topology.stream(memory("in", schema={"k": str}), watermarks="external")
    rows.key_by("k").process(Keeps(how, value), name="op").to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send("in", {"k": "a"}, timestamp=0)


def stream(**options):
    return Topology("t").stream(memory("m", schema={"a": int}, rows=[]), timestamp="a", **options)


PLACES = {
    "tumbling": tumbling,
    "offset": lambda value: tumbling("1h", offset=value),
    "hopping": lambda value: hopping(value, "1ms"),
    "hopping every": lambda value: hopping("1w", value),
    "rolling": rolling,
    "grace": lambda value: stream().key_by("a").window(tumbling("1h"), grace=value),
    "truncate": col("a").dt.truncate,
    "disorder": lambda value: stream(disorder=value),
    "idle_timeout": lambda value: stream(idle_timeout=value),
    "max_ahead": lambda value: stream(max_ahead=value),
    "checkpoint_interval": lambda value: Config(checkpoint_interval=value).checkpoint_interval_ms,
    "checkpoint_timeout": lambda value: Config(checkpoint_timeout=value).checkpoint_timeout_ms,
    "kafka idle_timeout": lambda value: kafka("topic", schema={"a": int}, idle_timeout=value),
    **{how: lambda value, how=how: processed(how, value) for how in ("declared", "set", "put", "every")},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", ["1.5s", "1h30m", datetime.timedelta(seconds=2), 1500, Whole(1500)], ids=str)
def test_every_place_takes_every_form(place, value):
    PLACES[place](value)


# Steps of a calendar may be years, and offsets of windows negative.
@pytest.mark.parametrize("place", [place for place in PLACES if place not in ("truncate", "offset")])
@pytest.mark.parametrize("value", ["1M", "1y", "60", "1.0001s", -1, True], ids=str)
def test_every_place_refuses_the_same(place, value):
    with pytest.raises(StreamError) as caught:
        PLACES[place](value)
    assert isinstance(caught.value, TopologyError | ConfigError | UserCodeError)
    assert any(part in str(caught.value) for part in ("is not a duration", "finer than a millisecond", "is negative"))


@pytest.mark.parametrize("value", ["1M", "-1y", "- 60", "-1.0001s", "--1s", "1h-1m", "-", "", True], ids=str)
def test_a_duration_that_may_be_negative_refuses_what_is_none(value):
    with pytest.raises(TopologyError, match=r"is not a duration|finer than a millisecond"):
        tumbling("1h", offset=value)


def test_a_duration_that_may_be_negative_is_not_longer_than_there_are_times():
    with pytest.raises(TopologyError, match="too long"):
        tumbling("1h", offset=-(2**62) - 1)
    with pytest.raises(TopologyError, match="too long"):
        rows = stream()
        rows.join(rows, on="a", before=2**63, after="1s")


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 2**26), ("1.5 GiB", 3 * 2**29), ("2gb", 2 * 10**9), ("0.1kB", 100), ("512", 512), (7, 7)]
)
def test_sizes_are_exact(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "infGiB", "nan", "-1MiB", "1M", "1e3MiB", "64 MiB MiB", True, 1.5, None])
def test_bad_sizes(text):
    with pytest.raises(ConfigError, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize("how", ["declared", "set", "put"])
@pytest.mark.parametrize("ttl", [2**62 + 1, 2**63, 2**70, "99999999999999w"], ids=str)
def test_a_time_to_live_beyond_all_times_is_the_longest(how, ttl):
    processed(how, ttl)
