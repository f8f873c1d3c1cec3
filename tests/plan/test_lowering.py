"""Stages, edges, lookups and tags of physical plans."""

import pytest

from streamdsl import Aggregate, Topology, col, count, dead_letter, expanding, hopping, rolling, tumbling
from streamdsl.compiler import compile
from streamdsl.physical import node as physical
from streamdsl.physical.node import Edge, FrameSpec, Input, WindowSpec
from tests.dsl.fakes import FakeSink, FakeSource, payments


def lowered(topology, parallelism=1, **options):
    return compile(topology, parallelism=parallelism, **options).physical


def kinds(stage):
    return [type(one).__name__.removeprefix("Physical") for one in stage.operators]


def find(plan, kind):
    """Return the only operator of a kind, and its stage."""
    ((stage, operator),) = [(s, o) for s in plan.stages for o in s.operators if isinstance(o, kind)]
    return stage, operator


def check(plan):
    """What every physical plan promises."""
    ends = (physical.PhysicalSource, physical.PhysicalSink)
    names = [one.name for stage in plan.stages for one in stage.operators if not isinstance(one, ends)]
    assert len(names) == len(set(names))
    for number, stage in enumerate(plan.stages):
        assert stage.id == number
        for edge in stage.edges:
            assert edge.stage < stage.id
            assert edge.partition != "forward" or plan.stages[edge.stage].parallelism == stage.parallelism
        for at, operator in enumerate(stage.operators):
            for one in operator.inputs:
                assert -1 <= one.operator < at
                assert one.operator >= 0 or one.edge < len(stage.edges)
            if hasattr(operator, "lookup"):
                assert isinstance(stage.operators[operator.lookup], physical.PhysicalKeyLookup)


def test_stateless_chains_stay_in_the_task_of_their_source():
    topology, stream = payments()
    kept = stream.filter(col("amount") > 1)
    kept.select("id").to(FakeSink("a", gathers=False))
    kept.select("city").to(FakeSink("b", gathers=False))
    plan = lowered(topology, 4)
    check(plan)
    (stage,) = plan.stages
    assert kinds(stage) == ["Source", "Filter", "Project", "Sink", "Project", "Sink"]
    assert [one.inputs for one in stage.operators[1:]] == [(Input(at),) for at in (0, 1, 2, 1, 4)]


def test_keyed_operators_share_one_lookup():
    topology, stream = payments()
    for name in ("a", "b"):
        stream.key_by("account").count(name=name).to(FakeSink(name, gathers=False))
    plan = lowered(topology, 2)
    check(plan)
    assert [kinds(stage) for stage in plan.stages] == [
        ["Source", "KeyEncode"],
        ["KeyLookup", "Aggregate", "Sink", "Aggregate", "Sink"],
    ]
    assert plan.stages[1].edges == (Edge(0, 1, "", "hash"),)
    assert plan.state_names == ("a", "b")


def test_streams_of_different_sources_meet_in_a_stage_of_their_own():
    topology = Topology("two")
    one, two = (topology.stream(FakeSource(name)) for name in ("one", "two"))
    one.merge(two, one.filter(col("amount") > 1)).to(FakeSink())
    plan = lowered(topology)
    check(plan)
    assert [kinds(stage) for stage in plan.stages] == [["Source", "Filter", "Merge"], ["Source"], ["Merge", "Sink"]]
    assert plan.stages[2].edges == (Edge(0, 2, "", "forward"), Edge(1, 0, "", "forward"))
    assert plan.stages[2].operators[0].inputs == (Input(-1, 0), Input(-1, 1))


def test_gathering_sinks_stand_alone_when_there_are_several_tasks():
    topology, stream = payments()
    stream.to(FakeSink("one"))
    stream.to(FakeSink("many", gathers=False))
    assert [(s.parallelism, kinds(s)) for s in lowered(topology, 3).stages] == [(3, ["Source", "Sink"]), (1, ["Sink"])]
    assert [kinds(s) for s in lowered(topology).stages] == [["Source", "Sink", "Sink"]]


def test_sources():
    topology, stream = payments(disorder="5s", idle_timeout="1m", max_ahead="1h", watermarks="external", errors="skip")
    stream.select("city", offset=col("_offset")).to(FakeSink())
    _, source = find(lowered(topology), physical.PhysicalSource)
    assert source.columns == ("time", "city", "_offset")
    assert source.timestamp == 0
    assert (source.disorder_ms, source.idle_timeout_ms, source.max_ahead_ms) == (5_000, 60_000, 3_600_000)
    assert source.external_watermarks
    assert source.errors == "skip"
    assert [field.hidden for field in source.schema.fields] == [False, False, True]


def test_a_source_may_have_the_time_of_its_records():
    topology, stream = payments(timestamp=None)
    stream.select("id").to(FakeSink())
    _, source = find(lowered(topology), physical.PhysicalSource)
    assert (source.columns, source.timestamp) == (("id",), -1)


def test_sinks_write_visible_columns():
    topology, stream = payments()
    stream.with_columns(offset=col("_offset")).filter(col("_partition") == 0).to(FakeSink())
    _, sink = find(lowered(topology), physical.PhysicalSink)
    assert sink.schema.names == ("id", "account", "time", "amount", "city", "offset")
    assert len(sink.columns) == 6
    stream.key_by("account").count().to(FakeSink("counts"))
    sink = lowered(topology).stages[0].operators[-1]
    assert (sink.keys, sink.schema.names) == (("account",), ("account", "count"))


def test_aggregates_carry_their_arguments():
    topology, stream = payments()
    keyed = stream.key_by("account")
    longest = Aggregate(str, max, type=str)
    keyed.with_columns(
        n=count().filter(col("amount") > 1).over(rolling("1s", exclude_current=True)),
        total=col("id").sum().over(expanding()),
        mean=col("id").mean().over(expanding()),
        best=col("city").max_by("amount").over(expanding()),
        previous=col("city").lag(2),
        long=longest(col("city")).over(expanding()),
    ).to(FakeSink())
    _, frame = find(lowered(topology), physical.PhysicalFrame)
    n, total, mean, best, previous, long = frame.aggregates
    assert (n.kind, n.input_kind, n.argument, n.output_kind) == ("count", None, -1, "i64")
    assert frame.arguments.instructions[frame.arguments.outputs[n.where]].op == "gt"
    assert n.frame == FrameSpec("rolling", 1_000, True)
    assert (total.input_kind, total.output_kind, mean.input_kind, mean.output_kind) == ("i64", "i64", "i64", "f64")
    assert mean.argument == total.argument
    assert (best.input_kind, best.by_kind, best.output_kind) == ("str", "f64", "str")
    assert (previous.kind, previous.params, previous.frame) == ("lag", (("n", 2),), FrameSpec("expanding"))
    assert previous.argument == best.argument == long.argument
    assert (long.kind, long.custom) == ("custom", longest)
    assert [field.name for field in frame.schema.fields][-6:] == ["n", "total", "mean", "best", "previous", "long"]
    assert frame.tags[0][0] == physical.LATE


def test_windows():
    topology, stream = payments()
    keyed = stream.key_by("account")
    window = hopping("10s", "2s", offset="1s")
    totals = keyed.window(window, grace="3s", emit="update", late="missed").aggregate(total=col("amount").sum())
    totals.output("missed").to(FakeSink("missed"))
    totals.to(FakeSink())
    plan = lowered(topology)
    stage, operator = find(plan, physical.PhysicalWindowAggregate)
    assert operator.window == WindowSpec("hopping", 10_000, 2_000, 1_000, 3_000, "update")
    assert operator.schema.names == ("account", "window_start", "window_end", "total")
    assert operator.key_schema.names == ("account",)
    assert [tag for tag, _ in operator.tags] == [physical.LATE]
    missed = next(one for one in stage.operators if one.name == "missed")
    assert missed.inputs[0].tag == physical.LATE


def test_reduce_in_a_window():
    topology, stream = payments()
    stream.key_by("account").window(tumbling("1s")).reduce(lambda a, b: b).to(FakeSink())
    _, operator = find(lowered(topology), physical.PhysicalReduce)
    assert operator.window == WindowSpec("tumbling", 1_000, 1_000, 0, 0, "close")
    assert operator.schema.names == ("account", "window_start", "window_end", "id", "time", "amount", "city")


@pytest.mark.parametrize("parallelism", [1, 3])
def test_dead_letters_are_edges(parallelism):
    sink = FakeSink("bad")
    topology, stream = payments(errors=dead_letter(sink))
    checked = stream.filter(lambda row: True, errors=dead_letter(sink))
    checked.key_by("account").count().to(FakeSink())
    plan = lowered(topology, parallelism)
    check(plan)
    _, source = find(plan, physical.PhysicalSource)
    _, function = find(plan, physical.PhysicalPython)
    assert source.errors == function.errors == "dead_letter"
    merges = [one for stage in plan.stages for one in stage.operators if isinstance(one, physical.PhysicalMerge)]
    # Those of the sink, which has its source's policy, may come from another task.
    tags = [one.tag for merge in merges for one in merge.inputs] + [edge.tag for stage in plan.stages for edge in stage.edges]
    assert tags.count("dead_letter") == 3


def test_lookups_are_named_by_keys_and_sources():
    topology = Topology("two")
    one, two = (topology.stream(FakeSource(name)) for name in ("one", "two"))
    one.key_by("account").count(name="a").to(FakeSink("a"))
    two.key_by("account").count(name="b").to(FakeSink("b"))
    one.filter(lambda row: True).key_by("account").count(name="c").to(FakeSink("c"))
    one.key_by("account", "city").count(name="d").to(FakeSink("d"))
    plan = lowered(topology)
    check(plan)
    assert [one.name for stage in plan.stages for one in stage.operators if isinstance(one, physical.PhysicalKeyLookup)] == [
        *("keys.account.one.a", "keys.account.one.c", "keys.account+city.one", "keys.account.two"),
    ]


def test_programs_compute_common_parts_once():
    topology, stream = payments()
    far = (col("amount") - 1).abs()
    stream.select(a=far, b=far * 2, c=far).to(FakeSink())
    _, project = find(lowered(topology), physical.PhysicalProject)
    assert [one.op for one in project.program.instructions] == ["column", "literal", "sub", "abs", "literal", "mul"]
    assert project.program.outputs == (3, 5, 3)


def test_constants_of_different_types_stay_apart():
    topology, stream = payments()
    stream.select(a=col("id") * 1, b=col("amount") * 1, c=col("amount") * 0.0, d=col("amount") * -0.0).to(FakeSink())
    _, project = find(lowered(topology), physical.PhysicalProject)
    constants = [(one.kind, repr(one.params[0])) for one in project.program.instructions if one.op == "literal"]
    assert constants == [("i64", "1"), ("f64", "1.0"), ("f64", "0.0"), ("f64", "-0.0")]
