"""Two streams seen by one processor: one state and one set of timers for each key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Config, Processor, Topology, TopologyError, TwoInputProcessor, dead_letter, memory
from streamdsl.testing import TopologyTestDriver

PAYMENTS = {"account": str | None, "at": int, "amount": int}
BLOCKS = {"who": str | None, "at": int, "blocked": bool}


class Guard(TwoInputProcessor):
    """Lets payments pass unless their account is blocked, and tells when an account was quiet for 10 ms."""

    output = {"account": str, "amount": int, "seen": int}
    outputs = {"refused": {"account": str, "amount": int}}

    def open(self, ctx):
        self.blocked = ctx.state.value("blocked", bool)
        self.seen = ctx.state.value("seen", int)

    def process_left(self, row, ctx):
        if row.amount < 0:
            raise ValueError("a negative amount")
        self.seen.set(self.seen.get(0) + 1)
        ctx.set_timer(ctx.timestamp + 10)
        if self.blocked.get(False):
            ctx.emit({"account": ctx.key, "amount": row.amount}, to="refused")
        else:
            yield {"account": row.account, "amount": row.amount, "seen": self.seen.get()}

    def process_right(self, row, ctx):
        assert row.who == ctx.key
        self.blocked.set(row.blocked)

    def on_timer(self, timer, ctx):
        yield {"account": ctx.key, "amount": -1, "seen": self.seen.get()}


def job(errors=None):
    topology = Topology("t")
    payments = topology.stream(memory("payments", PAYMENTS), timestamp="at").key_by("account")
    blocks = topology.stream(memory("blocks", BLOCKS), timestamp="at").key_by("who")
    guarded = payments.connect(blocks).process(Guard, name="guard", errors=errors)
    guarded.to(memory("out"))
    guarded.output("refused").to(memory("refused"))
    return topology


EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.booleans() | st.integers(1, 9)), max_size=20)


@settings(max_examples=80, deadline=None)
@given(EVENTS, st.sampled_from([1, 3]), st.integers(0, 20))
def test_both_sides_share_their_state(events, parallelism, crash_at):
    driver = TopologyTestDriver(job(), parallelism=parallelism)
    blocked, seen, expected, refused = {}, {}, [], []
    for number, (key, value) in enumerate(events):
        if number == crash_at:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=4 - parallelism)
        if isinstance(value, bool):
            blocked[key] = value
            driver.send("blocks", {"who": key, "at": 0, "blocked": value})
        else:
            seen[key] = seen.get(key, 0) + 1
            driver.send("payments", {"account": key, "at": 0, "amount": value})
            if blocked.get(key):
                refused.append({"account": key, "amount": value})
            else:
                expected.append({"account": key, "amount": value, "seen": seen[key]})
    assert driver.read("out") == expected
    assert driver.read("refused") == refused
    driver.end()
    timers = [row for row in driver.read("out") if row["amount"] == -1]
    assert sorted(row["account"] for row in timers) == sorted(seen)


def test_records_that_fail_leave_nothing_and_say_where_they_stood():
    topology = Topology("t")
    payments = topology.stream(memory("payments", PAYMENTS), timestamp="at").key_by("account")
    blocks = topology.stream(memory("blocks", {**BLOCKS, "more": str}), timestamp="at").key_by("who")

    class Fails(Guard):
        def process_right(self, row, ctx):
            self.blocked.set(True)
            raise ValueError("no blocks today")

    payments.connect(blocks).process(Fails(), errors=dead_letter(memory("letters"))).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send("blocks", {"who": "a", "at": 1, "blocked": True, "more": "x"})
    driver.send("payments", {"account": "a", "at": 2, "amount": -5})
    driver.send("payments", {"account": "a", "at": 3, "amount": 5})
    assert driver.read("out") == [{"account": "a", "amount": 5, "seen": 1}]
    letters = driver.read("letters")
    assert [(row["topic"], row["offset"]) for row in letters] == [("blocks", 0), ("payments", 0)]
    assert "no blocks today" in letters[0]["error"]


def test_history_is_seen_in_order_of_time_and_null_keys_are_dropped():
    for parallelism in (1, 2):
        topology = Topology("t")
        rows = [{"account": "a", "at": at, "amount": at} for at in (1, 3, 5, 7)] + [{"account": None, "at": 8, "amount": 8}]
        payments = topology.stream(memory("payments", PAYMENTS, rows), timestamp="at").key_by("account")
        turns = [{"who": "a", "at": 2, "blocked": True}, {"who": None, "at": 3, "blocked": True}, {"who": "a", "at": 6, "blocked": False}]
        blocks = topology.stream(memory("blocks", BLOCKS, turns), timestamp="at").key_by("who")
        found = payments.connect(blocks).process(Guard).collect(Config(parallelism=parallelism)).to_pylist()
        assert [row["amount"] for row in found if row["amount"] > 0] == [1, 7]


def test_an_error_names_the_method_and_the_record():
    driver = TopologyTestDriver(job())
    with pytest.raises(Exception, match=r"guard: Guard.process_left failed: ValueError: a negative amount; row .*'amount': -1"):
        driver.send("payments", {"account": "a", "at": 1, "amount": -1})


def test_what_cannot_be_is_refused():
    topology = Topology("t")
    payments = topology.stream(memory("payments", PAYMENTS), timestamp="at").key_by("account")
    blocks = topology.stream(memory("blocks", BLOCKS), timestamp="at")
    numbers = topology.stream(memory("numbers", {"n": int})).key_by("n")
    with pytest.raises(TopologyError, match=r"has no key\n.*key_by"):
        payments.connect(blocks)
    with pytest.raises(TopologyError, match="'account' is string on the left, 'n' is int64"):
        payments.connect(numbers).process(Guard)
    with pytest.raises(TopologyError, match="has two inputs"):
        payments.process(Guard)

    class One(Processor):
        output = {"n": int}

    with pytest.raises(TopologyError, match=r"process\(One\): two streams need a TwoInputProcessor"):
        payments.connect(blocks.key_by("who")).process(One)

    class Silent(TwoInputProcessor):
        pass

    with pytest.raises(TopologyError, match="does not say what its rows look like"):
        payments.connect(blocks.key_by("who")).process(Silent)
