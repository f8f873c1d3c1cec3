"""Each pass alone, as text; and that the sinks get the same columns with and without it."""

import pytest

from streamdsl import Topology, col, count, expanding, rolling
from streamdsl.compiler import compile
from streamdsl.errors import InternalError
from streamdsl.optimizer import PASSES
from streamdsl.optimizer.fuse import fuse
from streamdsl.optimizer.gather_keyed import gather_keyed
from streamdsl.optimizer.prune_columns import prune_columns
from streamdsl.optimizer.push_filters import push_filters
from tests.dsl.fakes import FakeSink, FakeSource, payments


def optimised(topology, *passes):
    return str(compile(topology, passes=passes).optimised).splitlines()


# prune_columns


def test_prune_reaches_the_source():
    topology, stream = payments()
    stream.with_columns(double=col("amount") * 2).filter(col("city") == "x").select("id").to(FakeSink())
    assert optimised(topology, prune_columns) == [
        "%0 = source payments (id, time, city)  time=time",
        "%1 = project %0: id, city",
        "%2 = filter %1: city == 'x'",
        "%3 = project %2: id",
        "%4 = sink %3: out (id)",
    ]


def test_prune_keeps_what_the_key_and_late_rows_need():
    topology, stream = payments()
    framed = stream.key_by("account").window(rolling("1m")).with_columns(n=count())
    framed.select("n").to(FakeSink())
    framed.output("late").select("city").to(FakeSink("late"))
    assert optimised(topology, prune_columns)[0] == "%0 = source payments (account, time, city)  time=time"


def test_prune_keeps_all_columns_for_python():
    topology, stream = payments()
    stream.filter(lambda row: True).select("id").to(FakeSink())
    assert (
        optimised(topology, prune_columns)[0]
        == "%0 = source payments (id, account, time, amount, city + _topic, _partition, _offset)  time=time"
    )


def test_prune_of_merged_streams_is_even():
    topology = Topology("two")
    one, two = (topology.stream(FakeSource(name)) for name in ("one", "two"))
    one.filter(col("amount") > 1).merge(two).select("id").to(FakeSink())
    assert optimised(topology, prune_columns) == [
        "%0 = source one (id, amount)",
        "%1 = filter %0: amount > 1.0",
        "%2 = project %1: id",
        "%3 = source two (id)",
        "%4 = merge %2, %3",
        "%5 = sink %4: out (id)",
    ]


def test_prune_leaves_a_column_where_none_is_read():
    topology, stream = payments(timestamp=None)
    stream.key_by().count().to(FakeSink())
    assert optimised(topology, prune_columns)[0] == "%0 = source payments (id)"


# push_filters


def test_filters_move_in_front_of_projections():
    topology, stream = payments()
    stream.with_columns(half=col("amount") / 2).filter(col("half") > 1).to(FakeSink())
    assert optimised(topology, push_filters)[1:3] == [
        "%1 = filter %0: (amount / 2.0) > 1.0",
        "%2 = project %1: id, account, time, amount, city; half = amount / 2.0",
    ]


def test_filters_stay_behind_what_may_refuse_a_row():
    topology, stream = payments()
    stream.with_columns(double=col("id") * 2).filter(col("amount") > 1).to(FakeSink())
    assert optimised(topology, push_filters)[1].startswith("%1 = project")


def test_filters_move_through_key_by_and_merge_but_not_past_frames():
    topology = Topology("two")
    one, two = (topology.stream(FakeSource(name)) for name in ("one", "two"))
    keyed = one.merge(two).key_by("account").filter(col("amount") > 1)
    keyed.with_columns(n=count().over(expanding())).filter(col("city") == "x").to(FakeSink())
    assert [line.split("=", 1)[1].split()[0] for line in optimised(topology, push_filters)] == [
        *("source", "filter", "source", "filter", "merge", "key_by", "frame", "filter", "sink"),
    ]


def test_filters_stay_where_others_read_the_rows():
    topology, stream = payments()
    keyed = stream.key_by("account")
    keyed.filter(col("amount") > 1).to(FakeSink("a"))
    keyed.count().to(FakeSink("b"))
    assert optimised(topology, push_filters)[1] == "%1 = key_by %0: account"


def test_filters_stay_behind_counters_and_python():
    topology, stream = payments()
    stream.counter("all").filter(col("amount") > 1).peek(print).filter(col("amount") > 2).to(FakeSink())
    assert optimised(topology, push_filters) == optimised(topology)


# fuse


def test_neighbours_are_fused():
    topology, stream = payments()
    one = stream.filter(col("amount") > 1).filter(col("city") == "x")
    one.select("id", half=col("amount") / 2).select(quarter=col("half") / 2).to(FakeSink())
    assert optimised(topology, fuse)[1:3] == [
        "%1 = filter %0: (amount > 1.0) & (city == 'x')",
        "%2 = project %1: quarter = (amount / 2.0) / 2.0",
    ]


def test_a_fused_filter_asks_the_second_only_where_the_first_is_true():
    topology, stream = payments()
    stream.filter(col("city") == "x").filter(col("city").cast(int) > 1).to(FakeSink())
    assert optimised(topology, fuse)[1] == "%1 = filter %0: coalesce(city == 'x', False) & (parse_i64(city, True) > 1)"


def test_a_projection_that_may_refuse_a_row_is_not_lost():
    topology, stream = payments()
    stream.with_columns(n=col("city").cast(int)).select("id").to(FakeSink())
    assert optimised(topology, fuse)[1].startswith("%1 = project %0: id, account, time, amount, city; n = parse_i64")


def test_expressions_do_not_grow_without_end():
    topology, stream = payments()
    for _ in range(40):
        stream = stream.with_columns(amount=col("amount") + col("amount"))
    stream.to(FakeSink())
    assert len(compile(topology).optimised.nodes) < 12


# gather_keyed


def test_steps_move_behind_a_shared_key_by():
    topology, stream = payments()
    stream.key_by("account").count(name="all").to(FakeSink("a"))
    large = stream.filter(col("amount") > 1).with_columns(half=col("amount") / 2)
    large.key_by("account").count(name="large").to(FakeSink("b"))
    assert optimised(topology, gather_keyed) == [
        "%0 = source payments (id, account, time, amount, city)  time=time",
        "%1 = key_by %0: account",
        "%2 = aggregate %1: count = count()  [state all]",
        "%3 = sink %2: a (account, count)  upsert by account",
        "%4 = filter %1: amount > 1.0",
        "%5 = project %4: id, account, time, amount, city; half = amount / 2.0",
        "%6 = aggregate %5: count = count()  [state large]",
        "%7 = sink %6: b (account, count)  upsert by account",
    ]


def test_a_changed_key_is_another_key():
    topology, stream = payments()
    stream.key_by("account").count(name="all").to(FakeSink("a"))
    changed = stream.with_columns(account=col("account").str.to_lowercase())
    changed.key_by("account").count(name="lower").to(FakeSink("b"))
    assert sum("key_by" in line for line in optimised(topology, gather_keyed)) == 2


# all of them


def rich():
    """A topology with something for every pass."""
    topology, stream = payments()
    accounts = stream.with_columns(half=col("amount") / 2).key_by("account")
    fast = accounts.window(rolling("1m")).with_columns(n=count()).filter(col("n") > 2).select("id", "half", why=col("city"))
    stream.key_by("account").count().to(FakeSink("counts"))
    rest = stream.select("id", half=col("amount"), why=col("city")).filter(col("half") > 3)
    fast.merge(rest).filter(col("id") > 1).select("id").to(FakeSink())
    return topology


@pytest.mark.parametrize("left_out", [None, *PASSES])
def test_every_pass_can_be_switched_off(left_out):
    passes = [one for one in PASSES if one is not left_out]
    plans = compile(rich(), passes=passes)
    before = {sink.name: sink.inputs[0].schema.visible() for sink in plans.logical.sinks}
    assert {sink.name: sink.inputs[0].schema.visible() for sink in plans.optimised.sinks} == before
    assert set(plans.physical.state_names) == {"frame.account.n.rolling_1m", "aggregate.account.count"}


def test_optimising_twice_changes_nothing():
    once = compile(rich(), passes=PASSES)
    assert str(compile(rich(), passes=PASSES * 2).optimised) == str(once.optimised)


def test_a_pass_that_loses_a_column_is_found_out():
    def careless(plan):
        return plan.with_sinks(sink.with_inputs([sink.inputs[0].inputs[0]]) for sink in plan.sinks)

    topology, stream = payments()
    stream.select("id").to(FakeSink())
    with pytest.raises(InternalError, match="careless changed what the sinks get"):
        compile(topology, passes=[careless])
