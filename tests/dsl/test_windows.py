"""Durations, frames and windows."""

import datetime

import pytest

from streamdsl import count_window, expanding, hopping, rolling, session, sliding, tumbling
from streamdsl.windows import format_duration, parse_duration
from tests.dsl.fakes import refused


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("60s", 60_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("2d", 172_800_000),
        ("100ms", 100),
        ("1h30m", 5_400_000),
        ("1.5s", 1_500),
        (" 10 s ", 10_000),
        (250, 250),
        ("0s", 0),
        (datetime.timedelta(minutes=2), 120_000),
    ],
)
def test_durations(value, ms):
    assert parse_duration(value) == ms


@pytest.mark.parametrize("value", ["", "60", "s", "60 sec", "-1s", "1s2", 1.5, True, None, "0.5ms", -1, datetime.timedelta(microseconds=1)])
def test_bad_durations(value):
    with refused("gap"):
        parse_duration(value, "gap")


@pytest.mark.parametrize(("ms", "text"), [(0, "0s"), (100, "100ms"), (90_000, "90s"), (60_000, "1m"), (86_400_000, "1d")])
def test_durations_print_in_their_largest_unit(ms, text):
    assert format_duration(ms) == text
    assert parse_duration(text) == ms


def test_windows_print_as_they_are_written():
    assert str(rolling("60s", exclude_current=True)) == 'rolling("1m", exclude_current=True)'
    assert str(expanding()) == "expanding()"
    assert str(tumbling("10s", offset="2s")) == 'tumbling("10s", offset="2s")'
    assert str(hopping("10s", "2s")) == 'hopping("10s", "2s")'


def test_offsets_are_taken_modulo_the_step():
    assert tumbling("10s", offset="12s") == tumbling("10s", offset="2s")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: sliding("10s", "2s"), ["sliding(size, every) does not exist", "hopping('10s', '2s')"]),
        (lambda: sliding("10s"), ["not supported yet", "rolling(size)"]),
        (lambda: session("10s"), ["not supported yet"]),
        (lambda: count_window(10), ["not supported yet"]),
        (lambda: rolling("0s"), ["longer than 0"]),
        (lambda: hopping("2s", "10s"), ["leaves gaps"]),
        (lambda: tumbling("10"), ["'10' is not a duration"]),
        (lambda: tumbling("1s").emitting(grace=0, emit="on_time", late="late"), ["on_time", "not supported yet"]),
        (lambda: tumbling("1s").emitting(grace=0, emit="often", late="late"), ["unknown", 'emit="close"']),
    ],
)
def test_refused(make, parts):
    with refused(*parts):
        make()
