"""Tables: the last row of each key, and its changes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, memory
from streamdsl.testing import TopologyTestDriver

SCHEMA = {"v": int | None, "k": str | None, "s": str | None}


def driven(**options):
    topology = Topology("job")
    topology.table(memory("in", schema=SCHEMA), key="k", disorder="1h").to_stream().to(memory("out"))
    return TopologyTestDriver(topology, **options)


def send(driver, *rows):
    driver.send_batch("in", [{"k": k, "v": v, "s": s} for k, v, s in rows], timestamps=[0] * len(rows))


def changes(driver):
    return [(out["op"], out["k"], out["v"], out["s"]) for out in driver.read("out")]


def test_a_key_is_added_replaced_and_withdrawn():
    driver = driven()
    send(driver, ("a", 1, "x"), ("b", 2, None), ("a", None, "y"))
    assert changes(driver) == [("add", "a", 1, "x"), ("add", "b", 2, None), ("replace", "a", None, "y")]
    send(driver, ("a", None, None), ("c", None, None), ("a", 7, "z"), ("b", None, None))
    assert changes(driver) == [("withdraw", "a", None, "y"), ("add", "a", 7, "z"), ("withdraw", "b", 2, None)]


def test_a_withdrawal_shows_the_row_of_the_same_batch():
    driver = driven()
    send(driver, ("a", 1, "long " * 100), ("a", None, None), ("a", None, None), ("a", 2, ""), ("a", None, None))
    assert changes(driver) == [
        ("add", "a", 1, "long " * 100),
        ("withdraw", "a", 1, "long " * 100),
        ("add", "a", 2, ""),
        ("withdraw", "a", 2, ""),
    ]


TEXTS = st.none() | st.sampled_from(["", "x", "text of some length"])
ROWS = st.tuples(st.sampled_from(["a", "b", ""]), st.none() | st.integers(-3, 3), TEXTS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ROWS, min_size=1, max_size=8), max_size=6), st.integers(0, 6), st.integers(1, 3))
def test_tables_answer_as_a_dict_does(batches, restore, parallelism):
    driver, held, expected, found = driven(), {}, {}, {}
    for number, batch in enumerate(batches):
        if number == restore:
            driver.checkpoint()
            driver.crash_and_restore(parallelism)
        send(driver, *batch)
        for key, *rest in batch:
            if rest == [None, None]:
                change = ("withdraw", key, *held.pop(key)) if key in held else None
            else:
                change = ("replace" if key in held else "add", key, *rest)
                held[key] = rest
            if change:
                expected.setdefault(key, []).append(change)
    for change in changes(driver):
        found.setdefault(change[1], []).append(change)
    assert found == expected
