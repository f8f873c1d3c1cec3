"""Frames and windows."""

from datetime import timedelta

import pytest

from streamdsl import count_window, expanding, hopping, rolling, session, sliding, throttle, tumbling
from tests.dsl.fakes import refused


def test_windows_print_as_they_are_written():
    assert str(rolling("60s", exclude_current=True)) == 'rolling("1m", exclude_current=True)'
    assert str(expanding()) == "expanding()"
    assert str(tumbling("10s", offset="2s")) == 'tumbling("10s", offset="2s")'
    assert str(hopping("10s", "2s")) == 'hopping("10s", "2s")'
    assert str(session("30m")) == 'session("30m")'
    assert str(sliding("10s")) == 'sliding("10s")'
    assert str(count_window(5)) == "count_window(5)"
    assert str(count_window(5, every=2)) == "count_window(5, every=2)"
    assert str(tumbling("1d", tz="Europe/Berlin", offset="6h")) == 'tumbling("1d", offset="6h", tz="Europe/Berlin")'


def test_offsets_are_taken_modulo_the_step():
    assert tumbling("10s", offset="12s") == tumbling("10s", offset="2s")
    assert tumbling("10s", offset="-12s") == tumbling("10s", offset=-2_000) == tumbling("10s", offset="8s")
    assert hopping("10s", "4s", offset=timedelta(seconds=-13)) == hopping("10s", "4s", offset="3s")
    assert tumbling("1d", tz="UTC", offset=" -8h ") == tumbling("1d", tz="UTC", offset="16h")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: sliding("10s", "2s"), ["sliding(size, every) does not exist", "hopping('10s', '2s')"]),
        (lambda: sliding("0s"), ["longer than 0"]),
        (lambda: session("0s"), ["longer than 0"]),
        (lambda: count_window(0), ["n=0", "positive number"]),
        (lambda: count_window(True), ["positive number"]),
        (lambda: count_window(2, every=3), ["leaves out records"]),
        (lambda: count_window(2).emitting(grace="1s", emit="close", late="late"), ["know no lateness"]),
        (lambda: tumbling("1d", tz="Mars/Olympus"), ["not a time zone", "tzdata"]),
        (lambda: tumbling("1h", tz="Europe/Berlin"), ["whole days", "offset="]),
        (lambda: rolling("0s"), ["longer than 0"]),
        (lambda: hopping("2s", "10s"), ["leaves gaps"]),
        (lambda: tumbling("10"), ["'10' is not a duration"]),
        (lambda: tumbling("1s").emitting(grace=0, emit="throttle", late="late"), ["unknown", 'emit=throttle("1s")']),
        (lambda: throttle("0s"), ["longer than 0"]),
        (lambda: tumbling("1s").emitting(grace=0, emit="often", late="late"), ["unknown", '"on_time"']),
    ],
)
def test_refused(make, parts):
    with refused(*parts):
        make()
