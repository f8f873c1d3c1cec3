"""Messages of a client to columns."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, groupby
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamdsl._native.serdes.messages import runs, within


@dataclass
class Told:
    """A message as the client's, with its methods."""

    of: int
    at: int
    holds: bytes | None
    wrong: str | None

    def partition(self) -> int:
        return self.of

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes | None:
        return self.holds

    def error(self) -> str | None:
        return self.wrong


METHODS: tuple[Any, ...] = (Told.partition, Told.offset, Told.value, Told.error)
messages = st.lists(
    st.builds(
        Told,
        of=st.integers(0, 2),
        at=st.sampled_from([0, 1, 7, 2**62]),
        holds=st.none() | st.binary(max_size=3),
        wrong=st.sampled_from([None, None, None, "end of partition"]),
    ),
    max_size=12,
)


@given(given_messages=messages)
def test_as_a_plain_loop_finds_them(given_messages: list[Told]) -> None:
    expected = []
    number = count()
    for (partition, wrong), group in groupby(given_messages, lambda told: (told.of, told.wrong)):
        members = [(next(number), told) for told in group]
        if wrong is None:
            expected.append((members[0][0], partition, [told.at for _, told in members], [told.holds for _, told in members]))
    found, wrong_ones = runs(given_messages, *METHODS)
    assert [(first, partition, list(offsets), values) for first, partition, offsets, values in found] == expected
    assert all(offsets.typecode == "q" for _, _, offsets, _ in found)
    assert wrong_ones == [index for index, told in enumerate(given_messages) if told.wrong is not None]


@given(values=st.lists(st.none() | st.binary(max_size=4)), limit=st.integers(0, 4))
def test_within(values: list[bytes | None], limit: int) -> None:
    assert within(values, limit) == all(value is not None and len(value) <= limit for value in values)
