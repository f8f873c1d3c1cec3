"""Verbs that keep state by key: frames, running aggregates, windows."""

import pytest

from streamdsl import Aggregate, col, count, expanding, hopping, rolling, tumbling
from streamdsl.compiler import compile
from tests.dsl.fakes import FakeSink, FakeSource, payments, refused
from tests.dsl.test_stream import logical


def accounts():
    topology, stream = payments()
    return topology, stream.key_by("account")


def test_frames_of_one_call_are_one_operator():
    topology, keyed = accounts()
    framed = keyed.with_columns(
        n=count().over(rolling("60s")),
        mean=col("amount").mean().over(expanding(exclude_current=True)),
        before=col("city").lag(),
    )
    framed.select("id", "n", "mean", "before").to(FakeSink())
    assert logical(topology)[1:3] == [
        "%1 = key_by %0: account",
        '%2 = frame %1: n = count() over rolling("1m"); mean = mean(amount) over expanding(exclude_current=True); '
        "before = lag(city, n=1)  [state frame.account.n+mean+before.rolling_1m+expanding_before+lag]",
    ]


def test_a_window_sets_the_frame_for_what_follows():
    topology, keyed = accounts()
    recent = keyed.window(rolling("60s")).filter(col("amount") > 1).with_columns(n=count(), all=count().over(expanding()))
    recent.filter(col("n") > 2).to(FakeSink())
    assert '%3 = frame %2: n = count() over rolling("1m"); all = count() over expanding()' in "\n".join(logical(topology))


def test_calculations_with_aggregates():
    topology, keyed = accounts()
    share = col("amount") / col("amount").sum().over(rolling("1h"))
    keyed.with_columns(share=share, n=count().over(rolling("1h"))).select("id", "share", "n").to(FakeSink())
    assert logical(topology)[2:4] == [
        '%2 = frame %1: n = count() over rolling("1h"); _sum_amount_rolling_1h = sum(amount) over rolling("1h")  '
        "[state frame.account.share+n.rolling_1h]",
        "%3 = project %2: id, account, time, amount, city, n; share = amount / _sum_amount_rolling_1h",
    ]


def test_aggregates_in_a_filter_leave_no_column_behind():
    topology, keyed = accounts()
    kept = keyed.filter(col("amount") > col("amount").mean().over(expanding()))
    assert kept.schema == keyed.schema
    kept.to(FakeSink())
    assert logical(topology)[3] == "%3 = filter %2: amount > _mean_amount_expanding"


def test_filtered_and_own_aggregates():
    topology, keyed = accounts()
    longest = Aggregate(str, max, type=str)
    keyed.aggregate(
        large=count().filter(col("amount") > 100),
        cities=col("city").count(),
        top=col("id").top_k(3, by="amount"),
        best=col("id").max_by("amount"),
        longest=longest(col("city")),
        mean=col("amount").sum() / count(),
    ).to(FakeSink())
    assert logical(topology)[2:] == [
        "%2 = aggregate %1: large = count() filter amount > 100.0; cities = count() filter is_not_null(city); "
        "top = top_k(id, by=amount, n=3); best = max_by(id, by=amount); longest = custom(city); "
        "_sum_amount = sum(amount); _count = count()  [state aggregate.account.large_count_amount+"
        "cities_count_city+top_top_k_id_amount_3+best_max_by_id_amount+longest_custom_city+mean]",
        "%3 = project %2: account, large, cities, top, best, longest; mean = _sum_amount / cast_f64(_count)",
        "%4 = sink %3: out (account, large, cities, top, best, longest, mean)  upsert by account",
    ]


def test_tables():
    topology, keyed = accounts()
    table = keyed.count()
    assert table.schema.names == ("account", "count")
    changes = table.to_stream()
    assert changes.schema.names == ("account", "count", "op")
    changes.to(FakeSink())
    reduced = keyed.reduce(lambda a, b: b, name="latest")
    assert reduced.schema.names == ("account", "id", "time", "amount", "city")
    reduced.to(FakeSink("rows"))
    names = compile(topology).logical.state_names
    assert names == ("aggregate.account.count", "latest")


def test_a_table_of_a_source():
    topology, _ = payments()
    table = topology.table(FakeSource("customers"), key="id")
    table.to(FakeSink())
    rest = ("account", "time", "amount", "city")
    assert logical(topology) == [
        "%0 = source customers (id, account, time, amount, city)",
        "%1 = key_by %0: id",
        "%2 = table %1  [state table.customers]",
        "%3 = project %2: id; " + "; ".join(f"{column} = when(op == 'withdraw', None, {column})" for column in rest),
        "%4 = sink %3: out (id, account, time, amount, city)  upsert by id",
    ]


def test_windows():
    topology, keyed = accounts()
    totals = keyed.window(tumbling("10s"), grace="2s").aggregate(total=col("amount").sum())
    assert totals.schema.names == ("account", "window_start", "window_end", "total")
    totals.to(FakeSink())
    totals.output("late").to(FakeSink("too_late"))
    keyed.window(hopping("10s", "2s"), emit="update", late="missed").count().output("missed").to(FakeSink("missed"))
    assert logical(topology)[2:] == [
        '%2 = window_aggregate %1: tumbling("10s"): total = sum(amount)  grace=2s [state window.account.total_sum_amount.tumbling_10s]',
        "%3 = sink %2: out (account, window_start, window_end, total)",
        "%4 = output %2: late",
        "%5 = sink %4: too_late (id, account, time, amount, city)",
        '%6 = window_aggregate %1: hopping("10s", "2s"): count = count()  emit=update [state window.account.count.hopping_10s_2s]',
        "%7 = output %6: missed",
        "%8 = sink %7: missed (id, account, time, amount, city)",
    ]


def test_late_rows_of_a_frame_are_found_through_later_verbs():
    _, keyed = accounts()
    late = keyed.window(rolling("1m")).with_columns(n=count()).filter(col("n") > 2).select("id").output("late")
    assert late.schema.names == ("id", "account", "time", "amount", "city")


def test_keys():
    topology, stream = payments()
    keyed = stream.key_by("account", day=col("time").dt.truncate("1d"))
    assert keyed.keys == ("account", "day")
    assert keyed.schema.names == ("id", "account", "time", "amount", "city", "day")
    everything = stream.key_by()
    assert everything.keys == ()
    everything.count().to(FakeSink())
    assert compile(topology).logical.state_names == ("aggregate.all.count",)


def test_names_are_identities():
    topology, keyed = accounts()
    keyed.window(rolling("1m")).with_columns(n=count()).to(FakeSink("a"))
    keyed.window(rolling("1m")).with_columns(n=count()).select("id", "n").to(FakeSink("b"))
    assert compile(topology).logical.state_names == ("frame.account.n.rolling_1m",)
    keyed.filter(col("amount") > 1).window(rolling("1m")).with_columns(n=count()).to(FakeSink("c"))
    with refused("under the name 'frame.account.n.rolling_1m'", "test_keyed.py:", "name="):
        compile(topology)


def test_strict_names():
    topology, keyed = accounts()
    keyed.count().to(FakeSink())
    with refused("automatic name 'aggregate.account.count'", "strict_names"):
        compile(topology, strict_names=True)
    topology, keyed = accounts()
    keyed.count(name="payments").to(FakeSink())
    assert compile(topology, strict_names=True).logical.state_names == ("payments",)


def test_a_column_may_be_called_name():
    topology, keyed = accounts()
    keyed.select("id", name=col("city")).to(FakeSink())
    assert logical(topology)[2] == "%2 = project %1: id; name = city"


@pytest.mark.parametrize(
    ("use", "parts"),
    [
        (lambda k: k.with_columns(n=count()), ["does not say which records it sees", '.over(rolling("60s"))']),
        (lambda k: k.with_columns(n=col("city").sum().over(expanding())), ["sum needs numbers, not city (string)"]),
        (lambda k: k.with_columns(n=count().lag()), ["aggregate of an aggregate"]),
        (lambda k: k.with_columns(n=count().over(rolling("1m")), m=col("n")), ["unknown column 'n'"]),
        (lambda k: k.with_columns(n=count().over(rolling("1m")), name=""), ["no name for state"]),
        (lambda k: k.aggregate(), ["at least one aggregate"]),
        (lambda k: k.aggregate(n=col("amount")), ["is not an aggregate"]),
        (lambda k: k.aggregate(account=count()), ["'account' is there already"]),
        (lambda k: k.aggregate(op=count()), ["'op' is there already"]),
        (lambda k: k.aggregate(n=count().over(expanding())), ["has a frame of its own"]),
        (lambda k: k.aggregate(n=col("amount").lag()), ["lag() belongs to with_columns"]),
        (lambda k: k.aggregate(n=col("amont").sum()), ["aggregate: unknown column 'amont'", "did you mean 'amount'"]),
        (lambda k: k.window("60s"), ["is not a window", "tumbling"]),
        (lambda k: k.window(rolling("1m"), grace="1s"), ["belong to windows"]),
        (lambda k: k.window(rolling("1m")).count(), ["gives every row its aggregates", "with_columns(n=count())"]),
        (lambda k: k.window(tumbling("1m"), emit="often"), ["emit='often' is unknown"]),
        (lambda k: k.window(tumbling("1m")).aggregate(window_start=count()), ["'window_start' is there already"]),
        (lambda k: k.window(tumbling("1m")).count().output("missed"), ["nothing before has", "known: late"]),
        (lambda k: k.drop("account").reduce(max), ["the key column 'account' is gone"]),
    ],
)
def test_refused_at_the_line_that_wrote_it(use, parts):
    _, keyed = accounts()
    with refused(*parts):
        use(keyed)
