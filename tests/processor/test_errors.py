"""What becomes of records on which user code fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from streamdsl import Processor, Topology, UserCodeError, dead_letter, memory
from streamdsl.schema import Schema
from streamdsl.testing import TopologyTestDriver

from .jobs import ROW, driven, row, send

SIDE = {"side": {"n": int}}


class Picky(Processor):
    """Refuses negative numbers, after it has emitted something."""

    output = Schema.of({"k": str, "n": int})
    outputs = SIDE

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state.value("seen", int)

    def process(self, row: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        self.seen.set(self.seen.get(0) + 1)
        ctx.emit({"n": row.n}, to="side")
        yield {"k": row.k, "n": row.n}
        if row.n < 0:
            raise ValueError(f"{row.n} is negative")


def test_fail_names_operator_key_and_row() -> None:
    driver = driven(Picky)
    with pytest.raises(UserCodeError) as caught:
        send(driver, (1, row("a", 1)), (2, row("b", -7)))
    assert caught.value.operator == "op"
    assert isinstance(caught.value.__cause__, ValueError)
    for part in ("op", "Picky.process", "-7 is negative", "'b'"):
        assert part in str(caught.value)


def test_skip_takes_back_what_the_record_emitted() -> None:
    driver = driven(Picky, errors="skip", tags=("side",))
    send(driver, (1, row("a", 1)), (2, row("b", -7)), (3, row("a", 2)))
    assert [found["n"] for found in driver.read("out")] == [1, 2]
    assert [found["n"] for found in driver.read("side")] == [1, 2]


def test_dead_letters() -> None:
    driver = driven(Picky, errors=dead_letter(memory("dead")))
    send(driver, (1, row("a", 1)), (2, row("b", -7)), (3, row("a", 2)))
    assert [found["n"] for found in driver.read("out")] == [1, 2]
    (letter,) = driver.read("dead")
    assert json.loads(letter["value"]) == row("b", -7)
    assert letter["operator"] == "op"
    assert "-7 is negative" in letter["error"]


class Wrong(Processor):
    """Returns what its schema does not have."""

    output = Schema.of({"k": str, "n": int})

    def process(self, row: Any, ctx: Any) -> Any:
        return [{"k": row.k}, {"k": row.k, "n": 1.5}, {"k": row.k, "n": 1, "m": 2}, {"k": 3, "n": 1}, 7][row.n]


@pytest.mark.parametrize(("case", "words"), [(0, "'n'"), (1, "1.5"), (2, "'m'"), (3, "'k'"), (4, "7")])
def test_rows_that_do_not_fit_the_schema(case: int, words: str) -> None:
    with pytest.raises(UserCodeError, match=r"Wrong\.process") as caught:
        send(driven(Wrong), (1, row("a", case)))
    assert words in str(caught.value)


class Opening(Processor):
    """Cannot be opened."""

    output = Schema.of({"k": str})

    def open(self, ctx: Any) -> None:
        raise RuntimeError("no model")


def test_open_that_fails() -> None:
    with pytest.raises(UserCodeError, match="no model"):
        driven(Opening)


def mapped(function: Any, **arguments: Any) -> TopologyTestDriver:
    topology = Topology("job")
    topology.stream(memory("in", schema=ROW)).map(function, schema={"n": int}, **arguments).to(memory("out"))
    return TopologyTestDriver(topology)


def test_map_function() -> None:
    driver = mapped(lambda found: {"n": 10 // found.n}, errors="skip")
    send(driver, (1, row("a", 1)), (2, row("a", 0)), (3, row("a", 5)))
    assert driver.read("out", timestamps=True) == [(1, {"n": 10}), (3, {"n": 2})]
    with pytest.raises(UserCodeError) as caught:
        send(mapped(lambda found: {"n": 10 // found.n}), (1, row("a", 0)))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
