"""Operators of users in Cython: the page about them is compiled as a user would, and its state survives a crash."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamdsl import Topology, TopologyError, memory, native
from streamdsl.testing import TopologyTestDriver

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "native.md"
EVENTS = {"payments": [("a", 1), ("b", 10), ("a", 2)]}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def topology(tmp_path_factory):
    """The topology of the page, over the operator that its setup.py has compiled."""
    place = tmp_path_factory.mktemp("totals")
    (operator,) = blocks("cython")
    setup, use = blocks("python")
    (place / "totals.pyx").write_text(operator)
    (place / "setup.py").write_text(setup)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    here = {**os.environ, "PYTHONPATH": str(PAGE.parents[2])}  # this tree, wherever another one is installed
    built = subprocess.run(command, check=False, cwd=place, env=here, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    sys.path.insert(0, str(place))
    try:
        namespace = {"__name__": "page"}
        exec(compile(use, str(PAGE), "exec", dont_inherit=True), namespace)
    finally:
        sys.path.remove(str(place))
    return namespace["topology"]


def totals(driver):
    return [(row["account"], row["total"]) for row in driver.read("out")]


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_its_state_survives_a_crash_at_any_parallelism(topology, parallelism):
    driver = TopologyTestDriver(topology)
    for account, amount in EVENTS["payments"]:
        driver.send("payments", {"account": account, "amount": amount})
    assert sorted(totals(driver)) == [("a", 1), ("a", 3), ("b", 10)]
    driver.checkpoint()
    driver.crash_and_restore(parallelism=parallelism)
    driver.send("payments", {"account": "b", "amount": 5})
    driver.send("payments", {"account": "a", "amount": 7})
    assert sorted(totals(driver)) == [("a", 10), ("b", 15)]


def test_what_is_no_operator_is_refused_by_name():
    topology = Topology("t")
    rows = topology.stream(memory("in", {"k": str}, [{"k": "a"}])).key_by("k")
    rows.process(native(lambda: "nothing", output={"k": str}), name="mine").to(memory("out"))
    with pytest.raises(TopologyError, match=r"mine: native.* got 'str' from its factory"):
        topology.run()
