"""Verbs that need no key: what they mean, and what they refuse."""

import pytest

from streamdsl import Topology, col, count, dead_letter, lit, rolling
from streamdsl.compiler import compile
from tests.dsl.fakes import FakeSink, FakeSource, Payment, SchemalessSource, payments, refused


def logical(topology, **options):
    """Return the lines of the logical plan."""
    return str(compile(topology, **options).logical).splitlines()


def test_columns():
    topology, stream = payments()
    result = (
        stream.filter(col("amount") > 10)
        .with_columns(double=col("amount") * 2, city=col("city").fill_null("?"))
        .drop("time")
        .rename(id="number")
        .select("number", "double", shout=col("city").str.to_uppercase())
    )
    result.to(FakeSink())
    assert result.schema.names == ("number", "double", "shout")
    assert logical(topology) == [
        "%0 = source payments (id, account, time, amount, city)  time=time",
        "%1 = filter %0: amount > 10.0",
        "%2 = project %1: id, account, time, amount; city = coalesce(city, '?'); double = amount * 2.0",
        "%3 = project %2: id, account, amount, city, double",
        "%4 = project %3: account, amount, city, double; number = id",
        "%5 = project %4: number, double; shout = str_to_uppercase(city)",
        "%6 = sink %5: out (number, double, shout)",
    ]


def test_columns_of_one_call_do_not_see_one_another():
    _, stream = payments()
    with refused("with_columns: unknown column 'b'"):
        stream.with_columns(b=col("amount"), c=col("b"))


def test_metadata_columns_are_found_but_not_listed():
    _, stream = payments()
    assert "_offset" not in stream.schema.names
    assert stream.select("id").select("id", offset=col("_offset")).schema.names == ("id", "offset")
    assert stream.select("id", "_topic").schema.names == ("id", "_topic")


def test_python_functions():
    topology, stream = payments()

    def shorten(row):
        return {"id": row.id}

    bad = dead_letter(FakeSink("bad"))
    mapped = stream.filter(lambda row: row.amount > 1, errors="skip").peek(print).map(shorten, schema={"id": int}, errors=bad)
    mapped.to(FakeSink())
    assert logical(topology)[1:] == [
        "%1 = python %0: filter.<lambda>  errors=skip",
        "%2 = python %1: peek.print",
        "%3 = python %2: map.shorten -> (id)  errors=dead_letter(bad)",
        "%4 = sink %3: out (id)",
        "%5 = output %3: dead_letter",
        "%6 = sink %5: bad (value, error, operator, topic, partition, offset, timestamp)",
    ]


def test_dead_letters_of_several_operators_share_their_sink():
    sink = FakeSink("bad")
    topology, stream = payments(errors=dead_letter(sink))
    stream.filter(lambda row: True, errors=dead_letter(sink)).to(FakeSink())
    assert logical(topology)[3:] == [
        "%3 = output %0: dead_letter",
        "%4 = output %1: dead_letter",
        "%5 = output %2: dead_letter",
        "%6 = merge %3, %4, %5",
        "%7 = sink %6: bad (value, error, operator, topic, partition, offset, timestamp)",
    ]


def test_different_dead_letter_sinks_have_different_names():
    topology, stream = payments(errors=dead_letter(FakeSink("bad")))
    stream.filter(lambda row: True, errors=dead_letter(FakeSink("bad"))).to(FakeSink())
    with refused("two different dead letter sinks are called 'bad'", "name="):
        compile(topology)


def test_branches_are_disjoint_and_null_is_no_match():
    topology, stream = payments()
    parts = stream.branch(large=col("amount") > 100, chile=col("city") == "Santiago", default="rest")
    assert list(parts) == ["large", "chile", "rest"]
    for name, part in parts.items():
        part.to(FakeSink(name))
    assert logical(topology)[1::2] == [
        "%1 = filter %0: amount > 100.0",
        "%3 = filter %0: ~coalesce(amount > 100.0, False) & coalesce(city == 'Santiago', False)",
        "%5 = filter %0: ~(coalesce(amount > 100.0, False) | coalesce(city == 'Santiago', False))",
    ]


def test_merge_brings_columns_into_order():
    topology, stream = payments()
    one, two = stream.select("id", "city"), stream.select("city", "id")
    one.merge(two).to(FakeSink())
    assert logical(topology)[3:] == [
        "%3 = project %2: id, city",
        "%4 = merge %1, %3",
        "%5 = sink %4: out (id, city)",
    ]


def test_equal_steps_are_one_step():
    topology, stream = payments()
    stream.filter(col("amount") > 1).to(FakeSink("a"))
    stream.filter(col("amount") > 1).to(FakeSink("b"))
    stream.filter(col("amount") > 2).to(FakeSink("c"))
    assert sum("= filter" in line for line in logical(topology)) == 2


@pytest.mark.parametrize(
    ("use", "parts"),
    [
        (lambda s: s.filter(col("amuont") > 1), ["filter: unknown column 'amuont'", "did you mean 'amount'", "known: id"]),
        (lambda s: s.filter(col("amount")), ["filter: a condition must be true or false"]),
        (lambda s: s.filter(col("id") > 1, errors="skp"), ["filter: errors='skp' is unknown", "dead_letter(sink)"]),
        (lambda s: s.filter(col("id") > 1, errors=FakeSink()), ["filter: errors=", "is a sink", "dead_letter(sink)"]),
        (lambda s: s.with_columns(errors=3), ["with_columns: errors=3 is unknown", "lit(3).alias('errors')".replace("'", '"')]),
        (lambda s: s.select("id", errors="id"), ["select: errors='id' is unknown"]),
        (lambda s: s.key_by("id", errors=True), ["key_by: errors=True is unknown"]),
        (lambda s: s.to(FakeSink(), errors="dead"), ["to: errors='dead' is unknown"]),
        (lambda s: s.filter(lambda row: True, errors="ignore"), ["errors='ignore' is unknown", "dead_letter(sink)"]),
        (lambda s: s.select(), ["at least one column"]),
        (lambda s: s.select("id", "idd"), ["select: unknown column 'idd'", "did you mean 'id'"]),
        (lambda s: s.select(col("id") + 1), ["needs a name", ".alias(name)"]),
        (lambda s: s.select("id", id=col("id")), ["'id' is made twice"]),
        (lambda s: s.with_columns(n=None), ["has no type", "cast(type)"]),
        (lambda s: s.with_columns(n=count()), ["is an aggregate and needs a key", ".key_by(...)"]),
        (lambda s: s.drop("x"), ["drop: unknown column 'x'"]),
        (lambda s: s.rename(x="y"), ["rename: unknown column 'x'"]),
        (lambda s: s.rename(id="city"), ["'city' exists twice"]),
        (lambda s: s.map(print, schema=None), ["map needs schema="]),
        (lambda s: s.key_by("acount"), ["key_by: unknown column 'acount'", "did you mean 'account'"]),
        (lambda s: s.branch(), ["at least one condition"]),
        (lambda s: s.branch(other=col("id") > 1), ["'other' is a condition and the default"]),
        (lambda s: s.window(rolling("1m")), ["window() works on the records of a key", ".key_by(...)"]),
        (lambda s: s.count(), ["count() works on the records of a key"]),
        (lambda s: s.output("late"), ["nothing before has the output 'late'"]),
        (lambda s: s.to(print), ["is not a sink"]),
        (lambda s: s.process(print), ["is not an operator", "@operator"]),
        (lambda s: s.merge(s.select("id")), ["merge: stream 2 lacks 'account'"]),
        (lambda s: s.merge(s.with_columns(x=lit(1))), ["merge: stream 2 has 'x' besides"]),
        (
            lambda s: s.merge(s.with_columns(id=col("id").cast(str))),
            ["merge: column 'id' is int64 in stream 1 and string in stream 2", ".cast(...)"],
        ),
        (lambda s: s.merge(payments()[1]), ["belong to different topologies"]),
        (lambda s: s.merge(s.key_by("account").count()), ["is not a stream", ".to_stream()"]),
    ],
)
def test_refused_at_the_line_that_wrote_it(use, parts):
    _, stream = payments()
    with refused(*parts):
        use(stream)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"timestamp": "tme"}, ["stream: timestamp='tme': unknown column 'tme'", "did you mean 'time'"]),
        ({"disorder": "5 sec"}, ["disorder '5 sec' is not a duration"]),
        ({"watermarks": "none"}, ["watermarks='none' is unknown"]),
        ({"errors": "ignore"}, ["errors='ignore' is unknown"]),
    ],
)
def test_sources_refused(options, parts):
    with refused(*parts):
        payments(**options)


def test_names_of_sources_and_sinks_are_unique():
    topology, stream = payments()
    with refused("two sources are called 'payments'", "test_stream.py:", "name="):
        topology.stream(FakeSource())
    stream.to(FakeSink())
    with refused("two sinks are called 'out'", "test_stream.py:", "name="):
        stream.to(FakeSink())
    stream.to(FakeSink(), name="again")


def test_a_topology_writes_something():
    topology, _ = payments()
    with refused("writes nothing", ".to(sink)"):
        compile(topology)


def test_the_event_time_is_the_name_of_a_column():
    for given in (col("time"), 3, ["time"]):
        with refused("timestamp=", "is not the name of a column"):
            Topology("t").stream(FakeSource("p", {"time": int}), timestamp=given)


@pytest.mark.parametrize("n", [-1, 1.5, True, None, "3"])
def test_head_takes_a_number_of_rows(n):
    with refused("head: n=", "0 or more"):
        payments()[1].head(n)


def test_a_source_needs_a_schema():
    with refused("does not say which columns"):
        Topology("t").stream(SchemalessSource())


def test_bind_replaces_by_name():
    topology, stream = payments()
    stream.select("id").to(FakeSink())
    other, sink = FakeSource("other", {"id": "int64", "time": "int64", "more": "string"}), FakeSink("file")
    plan = compile(topology, bind={"payments": other, "out": sink}).optimised
    assert plan.sources[0].source is other
    assert plan.sources[0].name == "payments"
    assert plan.sinks[0].sink is sink
    assert plan.sinks[0].name == "out"
    told = compile(topology, bind={"payments": SchemalessSource()}).optimised.sources[0].source
    assert told.schema.names == ("id", "account", "time", "amount", "city")


@pytest.mark.parametrize(
    ("bind", "parts"),
    [
        ({"paymens": FakeSource()}, ["there is no source or sink 'paymens'", "did you mean 'payments'"]),
        ({"payments": FakeSink()}, ["'payments' is a source"]),
        ({"out": FakeSource()}, ["'out' is a sink"]),
        ({"payments": FakeSource("p", {"id": int})}, ["has no column 'time', which the topology reads"]),
        ({"payments": FakeSource("p", {"id": str, "time": int})}, ["column 'id'", "is string, declared is int64"]),
    ],
)
def test_bind_refused(bind, parts):
    topology, stream = payments()
    stream.select("id").to(FakeSink())
    with refused(*parts):
        compile(topology, bind=bind)


def test_collecting_leaves_everything_else_out():
    topology, stream = payments()
    stream.to(FakeSink())
    stream.key_by("account").count().to(FakeSink("counts"))
    alone = topology.collecting(stream.select("id"), FakeSink("memory"))
    plans = compile(alone, bind={"counts": FakeSink()})
    assert [sink.name for sink in plans.optimised.sinks] == ["_collect"]
    assert len(topology.plan().sinks) == 2


def test_streams_are_values():
    _, stream = payments()
    keyed = stream.key_by("account")
    keyed.window(rolling("1m"))
    assert type(keyed.filter(col("id") > 1)) is type(keyed)
    assert type(keyed.map(lambda row: row, schema=Payment)) is type(stream)
