"""Which promise each sink deserves, read off the plan and the data; and how rows must be dealt out for it."""

import pytest

from streamdsl import Processor, Topology, TopologyError, col, count, expanding, memory, tumbling
from streamdsl.testing import Promise, assert_invariant
from streamdsl.testing.simulation import judged
from tests.testing import jobs


def verdict(topology, data=None, sink="out"):
    return judged(topology, jobs.data(topology) if data is None else data).sinks[sink]


PROMISED = {
    jobs.stateless: Promise("P1"),
    jobs.functions: Promise("P1"),
    jobs.frames: Promise("P2", ("user",)),
    jobs.rules: Promise("P2", ("user",)),
    jobs.windows: Promise("P1"),
    jobs.float_windows: Promise("P1"),
    jobs.late_windows: Promise("P1"),
    jobs.updates: Promise("P3", ("user", "window_start", "window_end")),
    jobs.window_of_windows: Promise("P1"),
    jobs.table: Promise("P3", ("user",)),
    jobs.changes: Promise("P3", ("user",)),
    jobs.upserts: Promise("P3", ("user",)),
    jobs.reduced: Promise("P3", ("user",)),
    jobs.numbered: Promise("P2", ("user",)),
    jobs.two_floors: Promise("P2", ("city", "user")),
    jobs.window_processor: Promise("P1"),
    jobs.sessions: Promise("P1"),
    jobs.one_key: Promise("P2"),
    jobs.computed_key: Promise("P2", ("initial",)),
    jobs.two_sources: Promise("P2", ("user",)),
    jobs.external: Promise("P1"),
}


@pytest.mark.parametrize("make", PROMISED, ids=lambda make: make.__name__)
def test_what_a_sink_deserves(make):
    assert verdict(make()).promise == PROMISED[make]


def of(function, **options):
    topology = Topology("made")
    stream = jobs.source(topology, **options)
    function(stream).to(memory("out"))
    return topology


def numbered(stream, name=None):
    return stream.with_columns(k=count().over(expanding()), name=name)


def test_a_row_that_has_lost_its_key_is_compared_without_order():
    assert verdict(of(lambda s: numbered(s.key_by("user")).select("k"))).promise == Promise("P1")
    assert verdict(of(lambda s: numbered(s.key_by("user")).rename(user="who"))).promise == Promise("P2", ("who",))


def test_rows_of_one_key_that_come_from_several_tasks_have_no_order():
    found = verdict(of(lambda s: numbered(numbered(s.key_by("user")).rename(k="j").key_by("city"), "again")))
    assert found.promise is None
    assert "from several tasks" in found.reason


def test_windows_put_rows_in_order_again():
    made = of(lambda s: numbered(s.key_by("user").window(tumbling("50ms")).aggregate(n=count()).key_by("user")))
    assert verdict(made).promise == Promise("P1")


def test_what_works_on_updates_deserves_nothing():
    found = verdict(of(lambda s: s.key_by("user").count().to_stream().key_by("user").with_columns(before=col("count").lag())))
    assert "update rows, whose number may differ" in found.reason
    found = verdict(of(lambda s: s.key_by("user").count().to_stream().select("count")))
    assert "lost user" in found.reason
    found = verdict(of(lambda s: s.key_by("user").count().to_stream().map(lambda row: {"n": 1}, schema={"n": int})))
    assert "update rows" in found.reason


def test_a_key_from_two_sources_has_no_order():
    same = {name: jobs.rows(i) for i, name in enumerate("ab")}
    found = verdict(jobs.two_sources(), same)
    assert found.promise is None
    assert "user='u0' comes from 'a' and from 'b'" in found.reason
    assert verdict(jobs.two_sources(), same, "windows").promise == Promise("P1")


def test_streams_of_other_keys_merge_without_order():
    topology = Topology("other-keys")
    stream = jobs.source(topology)
    by_user, by_city = numbered(stream.key_by("user")), numbered(stream.key_by("city"))
    by_user.merge(by_city).to(memory("out"))
    numbered(by_user.merge(by_city).rename(k="j").key_by("user"), "again").to(memory("again"))
    assert verdict(topology).promise == Promise("P1")
    assert "different ways" in verdict(topology, sink="again").reason


def test_timers_give_up_the_order():
    topology = Topology("after-timers")
    sessions = jobs.source(topology).key_by("user").process(jobs.Sessions, name="sessions")
    sessions.to(memory("out"))
    numbered(sessions.key_by("user")).to(memory("again"))
    assert verdict(topology).promise == Promise("P1")
    assert "timers of sessions" in verdict(topology, sink="again").reason


class Tags(Processor):
    output = {"user": str}
    outputs = {"other": {"user": str, "n": int}, "nameless": {"n": int}}

    def process(self, row, ctx):
        ctx.emit({"user": row.user, "n": row.n}, to="other")


def test_tagged_outputs_are_judged_for_themselves():
    topology = Topology("tags")
    tags = jobs.source(topology).key_by("user").process(Tags, name="tags")
    tags.output("other").to(memory("other"))
    tags.output("nameless").to(memory("nameless"))
    assert verdict(topology, sink="other").promise == Promise("P2", ("user",))
    assert verdict(topology, sink="nameless").promise == Promise("P1")


# Late rows -----------------------------------------------------------------------------------------------------------


def test_late_rows_want_one_split():
    late = {"in": jobs.rows(1, late=300)}
    assert judged(jobs.windows(), jobs.data(jobs.windows())).alone == frozenset()
    assert judged(jobs.windows(), late).alone == {"in"}
    assert judged(jobs.frames(), late).alone == {"in"}  # a rolling frame
    assert judged(jobs.numbered(), late).alone == frozenset()
    assert judged(jobs.table(), late).alone == frozenset()


def test_late_rows_have_no_promise_where_others_hold_time_back():
    late = {"a": jobs.rows(1, late=300), "b": jobs.rows(2, prefix="v")}
    assert "depends on how far 'b'" in verdict(jobs.two_sources(), late, "windows").reason
    twice = of(lambda s: numbered(s.key_by("user")).key_by("city").window(tumbling("50ms")).aggregate(n=count()))
    assert "other tasks" in verdict(twice, {"in": jobs.rows(1, late=300)}).reason
    assert "no timer" in verdict(jobs.sessions(), {"in": jobs.rows(1, late=300)}).reason


# How rows are dealt out ----------------------------------------------------------------------------------------------


def test_rows_of_a_key_stay_together_where_order_counts():
    def dealing(make):
        found = judged(make(), jobs.data(make()))
        return dict(found.together), set(found.alone)

    assert dealing(jobs.windows) == ({}, set())
    assert dealing(jobs.frames) == ({"in": [("user",)]}, set())
    assert dealing(jobs.float_windows) == ({"in": [("city",)]}, set())
    assert dealing(jobs.one_key) == ({}, {"in"})
    assert dealing(jobs.computed_key) == ({}, {"in"})
    assert dealing(jobs.two_sources) == ({"a": [("user",)], "b": [("user",)]}, set())


def test_a_key_is_traced_through_new_names():
    made = of(lambda s: numbered(s.rename(user="who").with_columns(y=col("n") + 1).key_by("who")))
    assert judged(made, jobs.data(made)).together == {"in": [("user",)]}


def test_promises_are_checked():
    assert str(Promise("P1")) == "P1, the same rows in any order"
    assert str(Promise("P2")) == "P2, the rows in their order"
    assert str(Promise("P3", ("a", "b"))) == "P3, the last row of each a, b"
    with pytest.raises(TopologyError, match="no promise 'P9'"):
        Promise("P9")
    with pytest.raises(TopologyError, match="by no columns"):
        Promise("P1", ("a",))


def as_of(times, other=False):
    """Trades beside the latest quote, whose times are given; `other`: quotes of two sources."""
    topology = Topology("as-of")
    trades = topology.stream(memory("trades", schema={"ticker": str, "at": int}), timestamp="at")
    schema = {"ticker": str, "quoted": int, "n": int}
    quotes = topology.stream(memory("quotes", schema=schema), timestamp="quoted")
    data = {
        "trades": [{"ticker": "ab"[i % 2], "at": 3 * i} for i in range(20)],
        "quotes": [{"ticker": "ab"[i % 2], "quoted": at, "n": i} for i, at in enumerate(times)],
    }
    if other:
        quotes = quotes.merge(topology.stream(memory("others", schema=schema), timestamp="quoted"))
        data["others"] = data["quotes"]
    trades.join_asof(quotes, by="ticker").to(memory("out"))
    return topology, data


def test_of_quotes_of_one_time_the_last_to_arrive_counts_so_they_come_from_one_split():
    tied, data = as_of([i // 6 * 6 for i in range(60)])
    judgements = judged(tied, data)
    assert judgements.sinks["out"].promise == Promise("P1")
    assert judgements.together == {"quotes": [("ticker",)]}
    assert_invariant(tied, data, seeds=12)
    free, data = as_of(range(60))
    assert judged(free, data).together == {}
    # Bounded sources are read together by time: of two rows of one time, that of the source that was declared first comes first.
    assert_invariant(*as_of(range(60), other=True), seeds=12)
