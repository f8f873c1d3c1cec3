"""The passes change the plan and never the rows: the real tasks run the same input with and without each of them."""

import functools
import random

import pytest

from streamdsl import Topology, col, count, expanding, format, memory, rolling, tumbling, when
from streamdsl.compiler import compile
from streamdsl.optimizer import PASSES
from streamdsl.testing import TopologyTestDriver, driver
from tests.dsl.fakes import Payment


def rich():
    """A topology with something for every pass."""
    topology = Topology("rich")
    stream = topology.stream(memory("payments", schema=Payment), timestamp="time", disorder="2s")
    large = stream.with_columns(half=col("amount") / 2).filter(col("half") > 10).filter(col("city") != "Lima")
    accounts = large.key_by("account")
    fast = accounts.window(rolling("5s")).with_columns(n=count()).filter(col("n") > 1)
    far = stream.key_by("account").with_columns(mean=col("amount").mean().over(expanding())).filter(col("amount") > col("mean"))
    why = when(col("amount") > 60).then("much").otherwise(None)
    texts = far.select("id", text=format("{:.1f} {}", col("mean"), col("city")), why=why)
    texts.merge(fast.select("id", text=col("city"), why=col("account"))).filter(col("id") % 3 != 0).to(memory("found"))
    windows = stream.select("account", "amount", "city").filter(col("amount") > 5).key_by("account").window(tumbling("10s"))
    windows.aggregate(total=col("amount").sum(), cities=col("city").n_unique()).filter(col("total") > 50).to(memory("totals"))
    return topology


def payments():
    """Rows with null cities and times a little out of order."""
    choose = random.Random(7)
    cities = ["Santiago", "Lima", "Arica", None]
    made = []
    for i in range(400):
        time, amount = 250 * i - choose.randrange(1_500), choose.randrange(1, 900) / 10
        made.append(Payment(i, f"a{choose.randrange(6)}", time, amount, choose.choice(cities)))
    return made


def rows(monkeypatch, passes, parallelism):
    monkeypatch.setattr(driver, "compile", functools.partial(compile, passes=passes))
    run = TopologyTestDriver(rich(), parallelism=parallelism)
    run.send_batch("payments", payments())
    run.end()
    return {sink: sorted(map(repr, run.read(sink))) for sink in ("found", "totals")}


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("passes", [PASSES, *((one,) for one in PASSES)], ids=lambda passes: "+".join(one.__name__ for one in passes))
def test_same_rows(monkeypatch, passes, parallelism):
    expected = rows(monkeypatch, (), 1)
    assert len(expected["found"]) > 20
    assert len(expected["totals"]) > 5
    assert rows(monkeypatch, passes, parallelism) == expected
