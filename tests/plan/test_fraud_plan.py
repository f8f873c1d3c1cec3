"""The main job as text: what it means, and how it runs."""

import pytest

from streamdsl import TopologyError, col, count, expanding, format, lit, operator, rolling, when
from streamdsl.compiler import compile, explain
from streamdsl.physical import node as physical
from tests.dsl.fakes import FakeSink, payments


@operator
def velocity(rows, *, limit=3):
    """Too many payments in the frame."""
    recent = rows.with_columns(recent=count()).filter(col("recent") >= limit)
    return recent.select("id", "account", rule=lit("VELOCITY"), detail=format("{} payments", col("recent")), offset=col("_offset"))


@operator
def anomaly(rows, *, sigmas=3.0):
    """An amount far from the mean so far."""
    before = expanding(exclude_current=True)
    far = (col("amount") - col("mean")).abs()
    framed = rows.with_columns(mean=col("amount").mean().over(before), s=col("amount").std(ddof=0).over(before))
    odd = framed.filter((col("s") > 0) & (far > sigmas * col("s")))
    severity = when(far > 4 * col("s")).then("critical").otherwise("high")
    return odd.select("id", "account", rule=lit("ANOMALY"), detail=severity, offset=col("_offset"))


def job():
    topology, stream = payments(disorder="5s")
    accounts = stream.key_by("account")
    fast = accounts.window(rolling("60s")).process(velocity(limit=3))
    fast.merge(accounts.process(anomaly())).to(FakeSink("alerts"))
    return topology


LOGICAL = """\
%0 = source payments (id, account, time, amount, city)  time=time disorder=5s
%1 = key_by %0: account
%2 = frame %1: recent = count() over rolling("1m")  [state frame.account.recent.rolling_1m]
%3 = filter %2: recent >= 3
%4 = project %3: id, account; rule = 'VELOCITY'; detail = format(recent, ('', ' payments'), ('',)); offset = _offset
%5 = frame %1: mean = mean(amount) over expanding(exclude_current=True); s = std(amount, ddof=0) over \
expanding(exclude_current=True)  [state frame.account.mean+s.expanding_before]
%6 = filter %5: (s > 0.0) & (abs(amount - mean) > (3.0 * s))
%7 = project %6: id, account; rule = 'ANOMALY'; detail = when(abs(amount - mean) > (4.0 * s), 'critical', 'high'); offset = _offset
%8 = merge %4, %7
%9 = sink %8: alerts (id, account, rule, detail, offset)"""

ALONE = """\
test: 1 stage, parallelism 1, 128 shards
stage 0 × 1
  0 Source [payments] reads id, account, time, amount, _offset; time time
  1 KeyEncode [key_encode.1] <- 0 account
  2 KeyLookup [keys.account.payments] <- 1
  3 Frame [frame.account.recent.rolling_1m] <- 2 lookup 2:  | recent: count() i64 over rolling 60000 ms
  4 Filter [filter.3] <- 3 %0 = #5; %1 = literal.i64(3); %2 = ge.bool(%0, %1) -> %2
  5 Project [project.4] <- 4 id = #0, account = #1, rule = %0, detail = %2, offset = #4 | \
%0 = literal.str('VELOCITY'); %1 = #5; %2 = format.str(%1, ('', ' payments'), ('',)) -> %0, %2
  6 Frame [frame.account.mean+s.expanding_before] <- 2 lookup 2: %0 = #3 -> %0 | \
mean: mean(output 0) f64 over expanding before; s: std(output 0, ddof=0) f64 over expanding before
  7 Filter [filter.6] <- 6 %0 = #6; %1 = literal.f64(0.0); %2 = gt.bool(%0, %1); %3 = #3; %4 = #5; %5 = sub.f64(%3, %4); \
%6 = abs.f64(%5); %7 = literal.f64(3.0); %8 = mul.f64(%7, %0); %9 = gt.bool(%6, %8); %10 = and.bool(%2, %9) -> %10
  8 Project [project.7] <- 7 id = #0, account = #1, rule = %0, detail = %11, offset = #4 | %0 = literal.str('ANOMALY'); \
%1 = #3; %2 = #5; %3 = sub.f64(%1, %2); %4 = abs.f64(%3); %5 = literal.f64(4.0); %6 = #6; %7 = mul.f64(%5, %6); \
%8 = gt.bool(%4, %7); %9 = literal.str('critical'); %10 = literal.str('high'); %11 = when.str(%8, %9, %10) -> %0, %11
  9 Merge [merge.8] <- 5, 8
  10 Sink [alerts] <- 9 writes id, account, rule, detail, offset"""


def test_logical():
    assert str(compile(job()).logical) == LOGICAL


def test_alone_everything_is_one_chain():
    assert explain(compile(job())).split("== physical ==\n")[1] == ALONE


def test_in_parallel_rows_change_tasks_once_for_the_key_and_once_for_the_sink():
    plan = compile(job(), parallelism=4).physical
    assert [(stage.parallelism, [edge.partition for edge in stage.edges]) for stage in plan.stages] == [
        (4, []),
        (4, ["hash"]),
        (1, ["gather"]),
    ]
    assert [type(one).__name__.removeprefix("Physical") for one in plan.stages[1].operators] == [
        *("KeyLookup", "Frame", "Filter", "Project", "Frame", "Filter", "Project", "Merge"),
    ]
    assert plan.state_names == ("frame.account.recent.rolling_1m", "frame.account.mean+s.expanding_before")


def test_all_four_forms_are_explained():
    text = job().explain(parallelism=2)
    for heading in ("== as typed ==", "== logical ==", "== optimised ==", "== physical =="):
        assert heading in text
    assert "s2 = s1.key_by('account')" in text
    assert "topology.stream(payments, timestamp='time', disorder='5s')" in text
    assert "parallelism 2" in text


@pytest.mark.parametrize("parallelism", [0, 129])
def test_parallelism_out_of_range(parallelism):
    with pytest.raises(TopologyError, match="from 1 to 128"):
        compile(job(), parallelism=parallelism)


def test_plans_are_the_same_every_time():
    assert str(compile(job()).physical.stages[0].operators[3:9]) == str(compile(job()).physical.stages[0].operators[3:9])
    assert isinstance(compile(job()).physical, physical.PhysicalPlan)
