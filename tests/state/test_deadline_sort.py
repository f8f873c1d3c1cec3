"""Deadlines are sorted by time, number and key, whatever they look like and however they stand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.state.store import StateStore
from streamdsl._native.state.testing import TableView, sorted_deadlines

#: Digits, keys that begin alike, one that begins another, keys longer than what is compared as numbers.
KEYS = st.one_of(
    st.integers(0, 300).map(lambda n: b"key %d" % n),
    st.binary(max_size=20),
    st.integers(0, 9).map(lambda n: b"a long beginning of all " + b"\xff" * n),
    st.integers(0, 2**64 - 1).map(lambda n: b"\x02" + n.to_bytes(8, "big")),
)


def in_order(deadlines: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    view = TableView(StateStore("task", 8).add_table("rows", "lookup", "bytes"))
    return sorted_deadlines(view, deadlines)


@settings(max_examples=200, deadline=None)
@given(
    deadlines=st.lists(st.tuples(st.integers(-3, 40), st.sampled_from([0, 0, 0, -1, 7]), KEYS), max_size=200),
    widely=st.booleans(),
    by_time=st.booleans(),
)
def test_any_deadlines(deadlines: list[tuple[int, int, bytes]], widely: bool, by_time: bool) -> None:
    if widely:
        deadlines = [(time * 2**55, number, key) for time, number, key in deadlines]
    if by_time:
        deadlines.sort(key=lambda one: one[:2])
    assert in_order(deadlines) == sorted(deadlines)


def test_many_of_one_time() -> None:
    for alike in (1, 31, 32, 33, 34, 70):
        deadlines = [(time, 0, b"key %d" % (i * 7919 % alike)) for time in range(5) for i in range(alike)]
        assert in_order(deadlines) == sorted(deadlines)
