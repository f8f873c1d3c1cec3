"""A few chains of parallelisms; `rescale.py` does as many as there is time for."""

from __future__ import annotations

import pathlib
import sys
from collections import Counter

from streamdsl._native.state import restore

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import rescale


def test_chains_of_parallelisms_write_what_one_task_does(tmp_path):
    happened, wrong = rescale.chains(6, 1, tmp_path)
    assert not wrong, "\n".join(wrong)
    for name in ("rescales", "restores", "deaths in a checkpoint", "stops", "broken starts", "states compared"):
        assert happened[name] > 0, f"no {name}: the test has lost its power ({happened})"


def test_a_shard_that_is_lost_on_the_way_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(restore, "planted", lambda name: name == "shard-lost")
    assert rescale.chains(2, 1, tmp_path)[1]


def test_the_checker_of_state_sees_a_lost_key_and_one_that_is_owned_twice():
    rows = Counter([(1, "a", 1, 1), (2, "a", 2, 1), (3, "b", 1, 1)])
    assert rescale.difference_of_state([{"a": {"seen": 2}}, {"b": {"seen": 1}}], rows) == ""
    assert "lost" in rescale.difference_of_state([{"a": {"seen": 2}}, {}], rows)
    assert "two tasks" in rescale.difference_of_state([{"a": {"seen": 2}}, {"b": {"seen": 1}, "a": {"seen": 2}}], rows)
