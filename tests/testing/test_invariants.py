"""assert_invariant: holds for honest topologies, finds out broken ones, and says what it found."""

import datetime
import math

import pytest

from streamdsl import Topology, TopologyError, UserCodeError, memory
from streamdsl.testing import Promise, assert_invariant, invariants
from tests.testing import jobs

HONEST = [
    "stateless",
    "functions",
    "frames",
    "rules",
    "windows",
    "float_windows",
    "late_windows",
    "updates",
    "window_of_windows",
    "table",
    "changes",
    "upserts",
    "reduced",
    "numbered",
    "two_floors",
    "window_processor",
    "sessions",
    "one_key",
    "computed_key",
    "origin",
    "letters",
    "own_aggregate",
    "two_sources",
    "external",
    "untimed",
]
#: What is broken, the promise that it breaks, and a word of what is said about why.
BROKEN = {
    "in_attribute": ("P2", "InAttribute keeps outside ctx.state"),
    "across_keys": ("P2", "AcrossKeys keeps outside ctx.state"),
    "batch_share": ("P1", "map_batches sees batches"),
    "counting_function": ("P1", "not on what it saw before"),
    "quiet": ("P1", "records later than T"),
    "in_batches": ("P1", "process_batch sees batches"),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_topologies_pass(name):
    make = getattr(jobs, name)
    for variety in range(3):
        data = {source: jobs.rows(50 * variety + i, 40 + 70 * variety, prefix="uv"[i]) for i, source in enumerate(make().sources())}
        assert_invariant(make, data, seeds=range(variety * 5, variety * 5 + 5))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_topologies_are_found_out(name):
    promise, hint = BROKEN[name]
    make = getattr(jobs, name)
    with pytest.raises(AssertionError, match=f"does not keep {promise}") as caught:
        assert_invariant(make, jobs.data(make()))
    assert hint in str(caught.value)
    # And one batch in one run, as most tests are, shows nothing: that is why there are seeds.
    assert_invariant(make, jobs.data(make()), seeds=0)


def test_late_rows_are_the_same_ones_in_every_run():
    for variety in range(5):
        for make in (jobs.frames, jobs.late_windows, jobs.window_processor):
            assert_invariant(make, {"in": jobs.rows(variety, late=200)}, seeds=range(20 * variety, 20 * variety + 20))


# What is said --------------------------------------------------------------------------------------------------------


def failure(make, **options):
    with pytest.raises(AssertionError) as caught:
        assert_invariant(make, jobs.data(make()), **options)
    return str(caught.value)


def test_a_failure_can_be_run_again():
    said = failure(jobs.in_attribute)
    seed = int(said.split("seeds=[")[1].split("]")[0])
    assert failure(jobs.in_attribute, seeds=[seed]) == said
    assert f"Simulation(topology, data, seed={seed})" in said
    assert_invariant(jobs.in_attribute, jobs.data(jobs.in_attribute()), seeds=range(seed))


def test_a_failure_shows_the_first_rows_that_differ():
    said = failure(jobs.in_attribute)
    lines = [line.strip() for line in said.splitlines()]
    assert lines[0] == "the sink 'out' of the topology 'in-attribute' does not keep P2, the rows of each user in their order"
    assert "keys differ; the first: user='u" in said
    expected, found = lines[lines.index("expected:") + 1], lines[lines.index("found:") + 1]
    assert expected != found
    assert expected.startswith("at ")
    assert len(said) < 3_000


def test_missing_and_extra_rows_are_told_apart():
    said = failure(jobs.quiet)
    assert "missing" in said
    assert "too many" in said
    assert "rows expected" in said


def test_a_run_that_fails_is_a_failure():
    with pytest.raises(AssertionError, match="a run of the topology 'refuses' failed") as caught:
        assert_invariant(jobs.refuses, jobs.data(jobs.refuses()))
    assert isinstance(caught.value.__cause__, UserCodeError)
    assert "seeds=[" in str(caught.value)


def test_a_topology_that_always_fails_just_fails():
    topology = Topology("fails")
    topology.stream(memory("in", schema={"n": int})).map(lambda row: {"n": 1 // row.n}, schema={"n": int}).to(memory("out"))
    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        assert_invariant(topology, {"in": [{"n": 0}]})


# What is compared ----------------------------------------------------------------------------------------------------


def check(promise, ignored=()):
    return invariants._Check("out", promise, frozenset(ignored), ())


ROWS = [(1, {"k": "a", "n": 1}), (2, {"k": "b", "n": 1}), (3, {"k": "a", "n": 2})]


def test_p1_counts_rows():
    p1 = check(Promise("P1"))
    assert not p1.difference(ROWS, ROWS[::-1])
    assert p1.difference(ROWS, ROWS[:2])
    assert p1.difference(ROWS, [*ROWS, ROWS[0]])
    assert p1.difference([*ROWS, ROWS[0]], [*ROWS, ROWS[1]])
    assert p1.difference(ROWS, [(9, ROWS[0][1]), *ROWS[1:]]), "event times are part of a row"


def test_p2_sees_the_order_within_a_key():
    p2 = check(Promise("P2", ("k",)))
    assert not p2.difference(ROWS, [ROWS[1], ROWS[0], ROWS[2]])
    assert p2.difference(ROWS, [ROWS[2], ROWS[1], ROWS[0]])
    assert p2.difference(ROWS, ROWS[1:])
    assert p2.difference(ROWS, [*ROWS, (4, {"k": "new", "n": 1})])
    assert check(Promise("P2")).difference(ROWS, [ROWS[1], ROWS[0], ROWS[2]])


def test_p3_sees_the_last_row_of_a_key():
    p3 = check(Promise("P3", ("k",)))
    assert not p3.difference(ROWS, ROWS[1:])
    assert not p3.difference(ROWS, [(7, ROWS[1][1]), ROWS[2]])
    assert p3.difference(ROWS, ROWS[:2])
    assert p3.difference(ROWS, [*ROWS, (4, {"k": "new", "n": 1})])


def test_p3_applies_withdrawals():
    p3 = check(Promise("P3", ("k",)))
    added = (1, {"k": "a", "n": 1, "op": "add"})
    replaced = (2, {"k": "a", "n": 1, "op": "replace"})
    withdrawn = (3, {"k": "a", "n": 1, "op": "withdraw"})
    assert not p3.difference([added], [added, replaced]), "how often it was replaced does not count"
    assert not p3.difference([added, withdrawn], [])
    assert p3.difference([added, withdrawn], [added])


def test_values_are_compared_as_values():
    p1 = check(Promise("P1"))
    assert not p1.difference([(1, {"x": math.nan, "l": [1.0, math.nan]})], [(1, {"x": float("nan"), "l": [1.0, float("nan")]})])
    assert not p1.difference([(1, {"x": 0.0})], [(1, {"x": -0.0})])
    assert p1.difference([(1, {"x": 0.1 + 0.2})], [(1, {"x": 0.3})]), "floats are promised to the bit"
    assert p1.difference([(1, {"s": {"a": 1}})], [(1, {"s": {"a": 2}})])
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    assert not p1.difference([(1, {"t": moment, "b": b"x", "n": None})], [(1, {"t": moment, "b": b"x", "n": None})])


def test_columns_can_be_ignored():
    assert not check(Promise("P1"), ["n"]).difference([(1, {"k": "a", "n": 1})], [(1, {"k": "a", "n": 2})])
    data = jobs.data(jobs.in_attribute())
    assert_invariant(jobs.in_attribute, data, ignore=["seen"])
    assert_invariant(jobs.in_attribute, data, ignore=["out.seen"])
    with pytest.raises(AssertionError):
        assert_invariant(jobs.in_attribute, data, ignore=["other.seen"])
    with pytest.raises(TopologyError, match=r"write \['seen'\]"):
        assert_invariant(jobs.in_attribute, data, ignore="seen")


def test_a_promise_can_be_insisted_on():
    data = jobs.data(jobs.in_attribute())
    assert_invariant(jobs.in_attribute, data, promise={"out": None})
    with pytest.raises(AssertionError, match="does not keep P1"):
        assert_invariant(jobs.in_attribute, data, promise="P1")
    with pytest.raises(AssertionError, match="the last row of each user"):
        assert_invariant(jobs.in_attribute, data, promise={"out": "P3"})
    with pytest.raises(AssertionError, match="the rows of each city in their order"):
        assert_invariant(jobs.stateless, jobs.data(jobs.stateless()), promise=Promise("P2", ("city",)))


def test_arguments_are_checked():
    data = jobs.data(jobs.stateless())
    with pytest.raises(TopologyError, match=r"no sink 'uot'.*\n.*did you mean 'out'"):
        assert_invariant(jobs.stateless, data, promise={"uot": "P1"})
    with pytest.raises(TopologyError, match="does not say by which columns P2"):
        assert_invariant(jobs.stateless, data, promise="P2")
    with pytest.raises(TopologyError, match="no column 'nobody'"):
        assert_invariant(jobs.stateless, data, promise=Promise("P2", ("nobody",)))
    with pytest.raises(TopologyError, match="no promise 'P7'"):
        assert_invariant(jobs.stateless, data, promise="P7")


def test_a_sink_that_deserves_nothing_says_why():
    same = {name: jobs.rows(i) for i, name in enumerate("ab")}
    with pytest.raises(TopologyError, match=r"deserves no promise: .*comes from 'a' and from 'b'"):
        assert_invariant(jobs.two_sources, same)
    assert_invariant(jobs.two_sources, same, promise={"out": None})
