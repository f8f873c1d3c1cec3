"""Look-ups whose answers never come: an attempt that has waited long enough asks anew."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Sequence
from typing import Any

import pytest

from streamdsl import Config, Topology, TopologyError, dead_letter, memory
from streamdsl.connectors.base import Lookup
from streamdsl.schema import Schema

SCHEMA = {"id": int, "at": int}


class HangsAtFirst(Lookup):
    """Answers nothing the first time that it is asked for key 1, and says how many questions it hangs in."""

    name = "hangs"
    schema = Schema.of({"name": str})

    def __init__(self) -> None:
        self.asked: collections.Counter[int] = collections.Counter()
        self.hanging = 0

    async def get(self, key: int) -> Any:
        self.asked[key] += 1
        if key == 1 and self.asked[key] == 1:
            self.hanging += 1
            try:
                await asyncio.sleep(3_600)
            finally:
                self.hanging -= 1
        return {"name": f"n{key}"}


class ManyHangAtFirst(HangsAtFirst):
    """The same for many keys at a time."""

    async def get_many(self, keys: Sequence[int]) -> Sequence[Any]:
        return [await self.get(key) for key in keys]


def looked_up(lookup: Lookup, letters: Any, **options: Any) -> list[dict[str, Any]]:
    topology, out = Topology("t"), memory("out")
    rows = [{"id": i % 2, "at": i} for i in range(8)]
    stream = topology.stream(memory("in", schema=SCHEMA, rows=rows), timestamp="at")
    stream.join_lookup(lookup, on="id", timeout="100ms", errors=dead_letter(letters), **options).to(out, name="out")
    topology.run(Config(parallelism=1))
    return out.rows()


@pytest.mark.parametrize("lookup", [HangsAtFirst, ManyHangAtFirst])
@pytest.mark.parametrize("capacity", [1, 4, 100])
def test_an_attempt_after_a_time_out_asks_anew(lookup: Any, capacity: int) -> None:
    letters, asked = memory("letters"), lookup()
    found = looked_up(asked, letters, retry=2, capacity=capacity)
    assert [row["name"] for row in found] == [f"n{i % 2}" for i in range(8)]
    assert letters.rows() == []
    # What nobody waits for is given up, and does not hold a connection for ever.
    assert asked.hanging == 0


@pytest.mark.parametrize("lookup", [HangsAtFirst, ManyHangAtFirst])
def test_rows_that_come_after_a_time_out_are_not_lost_with_it(lookup: Any) -> None:
    letters = memory("letters")
    found = looked_up(lookup(), letters, retry=0, capacity=1)
    assert [row["offset"] for row in letters.rows()] == [1]
    assert [row["at"] for row in found] == [0, 2, 3, 4, 5, 6, 7]


def test_a_list_is_no_key() -> None:
    stream = Topology("t").stream(memory("in", schema={"tags": list[str]}))
    with pytest.raises(TopologyError, match=r"join_lookup: 'tags' .* cannot be a key"):
        stream.join_lookup(HangsAtFirst(), on="tags")
