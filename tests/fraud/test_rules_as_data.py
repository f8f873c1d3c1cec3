"""Thresholds from a table, live and in the shadow."""

from __future__ import annotations

from collections import Counter

import pytest

from examples.fraud import rules_as_data, thresholds
from examples.fraud.backtest import found
from examples.fraud.records import Transaction
from streamdsl import Config, files, memory
from streamdsl.testing import TopologyTestDriver

LIVE = {"VELOCITY": 3.0, "AMOUNT_ANOMALY": 3.0, "GEO_IMPOSSIBLE": 900.0}


def run(sample, rules, parallelism):
    sinks = {name: memory(name) for name in ("alerts", "differences", "counts")}
    sources = {
        "transactions": files(sample.transactions, schema=Transaction),
        "rules": memory("rules", rules_as_data.Rule, rules),
    }
    rules_as_data.build().run(Config(parallelism=parallelism), bind={**sources, **sinks})
    return {name: sink.rows() for name, sink in sinks.items()}


@pytest.mark.parametrize("parallelism", [1, 3])
def test_live_rules_are_the_oracles_and_the_shadow_is_what_a_backtest_says(small, expected, parallelism):
    rules = [{"rule": rule, "live": live, "shadow": None} for rule, live in LIVE.items()]
    rules[0]["shadow"], rules[1]["shadow"] = 4.0, 2.5
    out = run(small, rules, parallelism)
    live = {(one.transaction_id, one.rule) for one in expected}
    # The oracle compares with >, thresholds with >=: a measure that is equal is one in a million.
    assert {(row["transaction_id"], row["rule"]) for row in out["alerts"]} == live
    tried = found(small.transactions, "declared", thresholds.Thresholds(velocity=4, sigmas=2.5))
    differences = {(row["transaction_id"], row["rule"], row["change"]) for row in out["differences"]}
    assert differences == {(*alert, "gained") for alert in tried - live} | {(*alert, "lost") for alert in live - tried}
    counts = {(row["rule"], row["change"]): row["alerts"] for row in out["counts"]}
    assert counts == Counter((rule, change) for _, rule, change in differences)


def test_a_new_row_takes_effect_while_it_runs():
    driver = TopologyTestDriver(rules_as_data.build(), parallelism=2)

    def burst(at: int) -> int:
        for i in range(3):
            values = dict.fromkeys(("currency", "transaction_type", "city", "country", "channel"), "x")
            number = at + i
            row = {"transaction_id": number, "account_number": "CL1", "event_time": number, "amount": 1.0, "category": None, **values}
            driver.send("transactions", row)
        return len(driver.read("alerts"))

    driver.send("rules", {"rule": "VELOCITY", "live": 3.0, "shadow": None}, timestamp=0)
    assert burst(1_000_000) == 1
    driver.send("rules", {"rule": "VELOCITY", "live": 2.0, "shadow": None}, timestamp=0)
    assert burst(2_000_000) == 2
    driver.checkpoint()
    driver.crash_and_restore(parallelism=3)
    driver.send("rules", {"rule": "VELOCITY", "live": 9.0, "shadow": 3.0}, timestamp=0)
    assert burst(3_000_000) == 0
    assert [row["change"] for row in driver.read("differences")] == ["gained"]
