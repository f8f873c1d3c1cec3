"""The sample data."""

from __future__ import annotations

import collections

import oracle
import pytest

from examples.fraud import data
from examples.fraud.cities import CITIES


def test_the_seed_alone_decides(tmp_path, small):
    again = data.generate(tmp_path, 8_000, 800, 7)
    other = data.generate(tmp_path / "other", 8_000, 800, 8)
    assert [p.read_bytes() for p in again.transactions] == [p.read_bytes() for p in small.transactions]
    assert again.truth.read_bytes() == small.truth.read_bytes()
    assert other.truth.read_bytes() != small.truth.read_bytes()


def test_what_is_promised_holds(small):
    rows = [row for path in small.transactions for row in oracle.rows_of(path)]
    assert sorted(int(row["transaction_id"]) for row in rows) == list(range(8_000))
    assert {row["country"] for row in oracle.rows_of(small.transactions[0])} == {"CL"}
    assert {row["city"] for row in rows} <= set(CITIES)
    assert any(not row["category"] for row in rows)
    last = collections.defaultdict(int)
    for path in small.transactions:
        newest = 0
        for row in oracle.rows_of(path):
            time = int(row["event_time"])
            assert row["account_number"][:2] == row["country"] and len(row["account_number"]) == 10
            assert time >= last[row["account_number"]]
            assert time > newest - 2_000
            last[row["account_number"]], newest = time, max(newest, time)


def test_the_rules_find_much_of_the_fraud_but_not_all(small, expected):
    truth = data.read_truth(small.truth)
    alerted = {alert.transaction_id for alert in expected}
    incidents = {planted.incident for planted in truth.values()}
    found = {truth[number].incident for number in alerted if number in truth}
    assert 0.5 < len(found) / len(incidents) < 0.95
    assert 0.5 < sum(number in truth for number in alerted) / len(alerted) < 0.95
    assert {alert.rule for alert in expected} == {"VELOCITY", "AMOUNT_ANOMALY", "GEO_IMPOSSIBLE"}


def test_the_sample_is_made_once(tmp_path, monkeypatch):
    calls = []
    make = data.generate

    def generate(directory, kind):
        calls.append(directory)
        return make(directory, 500, 50)

    monkeypatch.setattr(data, "generate", generate)
    assert data.sample(tmp_path) == data.sample(tmp_path)
    assert calls == [tmp_path]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--transactions", "5"], "at least 100 transactions"),
        (["--accounts", "0"], "of 10 accounts"),
        (["--kind", "habits", "--transactions", "300", "--accounts", "10", "--seed", "3"], "take more of either"),
    ],
)
def test_a_sample_that_is_too_small_is_refused(options, said, tmp_path, capsys):
    with pytest.raises(SystemExit):
        data.main([str(tmp_path), *options])
    assert said in capsys.readouterr().err
