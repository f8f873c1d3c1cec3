"""Joins of bounded streams, as a user runs them: any parallelism, any cut into batches, a stream with itself, little memory."""

import random

import pytest

from streamdsl import Config, Topology, TopologyError, col, lit, memory

LEFT = {"k": str | None, "at": int, "n": int}
RIGHT = {"k": str | None, "at": int, "m": int}
KEYS = ["a", "b", "c", None]


def drawn(seed, n, name):
    chance = random.Random(seed)
    return [{"k": chance.choice(KEYS), "at": chance.randrange(-500, 500), name: i} for i in range(n)]


def paired(left, right, how, before, after):
    """All pairs, by brute force."""
    found, matched = [], (set(), set())
    for a in left:
        for b in right:
            if a["k"] is not None and a["k"] == b["k"] and -before <= b["at"] - a["at"] <= after:
                found.append((a["k"], a["n"], b["m"]))
                matched[0].add(a["n"])
                matched[1].add(b["m"])
    if how in ("left", "outer"):
        found += [(a["k"], a["n"], None) for a in left if a["n"] not in matched[0]]
    if how in ("right", "outer"):
        found += [(b["k"], None, b["m"]) for b in right if b["m"] not in matched[1]]
    return sorted(found, key=repr)


@pytest.mark.parametrize("how", ["inner", "left", "right", "outer"])
@pytest.mark.parametrize(("parallelism", "batch_rows"), [(1, 1000), (1, 7), (2, 50), (4, 13)])
def test_the_pairs_of_two_bounded_streams(how, parallelism, batch_rows):
    left, right = drawn(1, 150, "n"), drawn(2, 200, "m")
    topology = Topology("t")
    a = topology.stream(memory("left", LEFT, left), timestamp="at", disorder=2_000)
    b = topology.stream(memory("right", RIGHT, right), timestamp="at", disorder=2_000)
    rows = a.join(b, on="k", how=how, before=20, after=50).collect(Config(parallelism=parallelism, batch_rows=batch_rows)).to_pylist()
    assert sorted(((row["k"], row["n"], row["m"]) for row in rows), key=repr) == paired(left, right, how, 20, 50)


@pytest.mark.parametrize("how", ["inner", "left", "outer"])
@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_stream_is_joined_with_itself(how, parallelism):
    left = drawn(3, 80, "n")
    topology = Topology("t")
    stream = topology.stream(memory("in", LEFT, left), timestamp="at", disorder=2_000)
    rows = stream.join(stream, on="k", how=how, within=30).collect(Config(parallelism=parallelism)).to_pylist()
    renamed = [{**row, "m": row["n"]} for row in left]
    assert sorted(((row["k"], row["n"], row["n_right"]) for row in rows), key=repr) == paired(left, renamed, how, 30, 30)


def test_two_branches_of_one_stream_are_joined():
    rows = drawn(4, 120, "n")
    topology = Topology("t")
    stream = topology.stream(memory("in", LEFT, rows), timestamp="at", disorder=2_000).key_by("k")
    even, odd = stream.filter(col("n") % 2 == 0), stream.filter(col("n") % 2 == 1).select("k", "at", m=col("n"))
    found = even.join(odd, within=30).collect().to_pylist()
    expected = paired([row for row in rows if row["n"] % 2 == 0], [{**row, "m": row["n"]} for row in rows if row["n"] % 2], "inner", 30, 30)
    assert sorted(((row["k"], row["n"], row["m"]) for row in found), key=repr) == expected


def test_a_null_key_of_a_keyed_stream_comes_out_unmatched_too():
    topology = Topology("t")
    a = topology.stream(memory("left", LEFT, [{"k": None, "at": 1, "n": 1}]), timestamp="at").key_by("k").filter(col("n") > 0)
    b = topology.stream(memory("right", RIGHT, [{"k": None, "at": 1, "m": 1}]), timestamp="at").key_by("k")
    assert [row["n"] for row in a.join(b, how="left", within=5).collect().to_pylist()] == [1]


def test_buffers_of_ten_times_the_memory_give_the_same_rows(tmp_path):
    n = 20_000
    left = [{"k": f"k{i % 9_973}", "at": i, "n": i} for i in range(n)]
    right = [{"k": f"k{(i * 7) % 9_973}", "at": i, "m": i} for i in range(n)]
    found = []
    for limit in ("64MiB", "200KiB"):
        topology = Topology("t")
        a = topology.stream(memory("left", LEFT, left), timestamp="at")
        b = topology.stream(memory("right", RIGHT, right), timestamp="at")
        config = Config(state_memory=limit, state_dir=str(tmp_path / limit), checkpoint_interval="200ms")
        rows = a.join(b, on="k", how="outer", within=15_000).collect(config)
        found.append(sorted(zip(*(rows[name].to_pylist() for name in ("k", "n", "m")), strict=True), key=repr))
    assert len(found[0]) > n
    assert found[0] == found[1]


def test_columns_of_both_sides():
    topology = Topology("t")
    a = topology.stream(memory("left", {"id": int, "at": int, "city": str}, [{"id": 1, "at": 0, "city": "x"}]), timestamp="at")
    b = topology.stream(memory("right", {"person": int, "at": int, "city": str}, [{"person": 1, "at": 5, "city": "y"}]), timestamp="at")
    joined = a.join(b, left_on="id", right_on="person", how="outer", within="10ms", suffix="_of_person")
    assert joined.schema.names == ("id", "at", "city", "at_of_person", "city_of_person")
    assert joined.collect().to_pylist() == [{"id": 1, "at": 0, "city": "x", "at_of_person": 5, "city_of_person": "y"}]


def two():
    topology = Topology("t")
    return topology.stream(memory("left", LEFT), timestamp="at"), topology.stream(memory("right", {**RIGHT, "i": int}), timestamp="at")


REFUSED = {
    "no time": (dict(on="k"), 'give within="10m"'),
    "no key": (dict(within=5), 'on="account"'),
    "an unknown column": (dict(on="kk", within=5), "did you mean 'k'"),
    "one key name": (dict(left_on="k", within=5), "right_on="),
    "two ways of saying the key": (dict(on="k", left_on="k", right_on="k", within=5), "on= and left_on="),
    "other types": (dict(left_on="k", right_on="m", within=5), "cast"),
    "two ways of saying the time": (dict(on="k", within=5, before=5), "within= and before="),
    "a time that cannot be": (dict(on="k", before=-5, after=3), "-before <= after"),
    "an unknown how": (dict(on="k", within=5, how="full"), "how='outer'"),
    "a clash": (dict(on="k", within=5, suffix=""), "suffix="),
    "keys of other lengths": (dict(left_on=["k", "n"], right_on="k", within=5), "as many"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_join_that_says_too_little_or_too_much_is_refused(name):
    given, remedy = REFUSED[name]
    a, b = two()
    with pytest.raises(TopologyError) as caught:
        a.join(b, **given)
    assert remedy in str(caught.value)


def test_a_key_that_was_changed_is_named():
    a, b = two()
    with pytest.raises(TopologyError, match="no longer has the column 'k'"):
        a.key_by("k").with_columns(k=lit("x")).join(b.key_by("k"), within=5)
