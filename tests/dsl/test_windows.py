"""Frames and windows."""

import pytest

from streamdsl import count_window, expanding, hopping, rolling, session, sliding, tumbling
from tests.dsl.fakes import refused


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
