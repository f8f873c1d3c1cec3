"""The rules on habits against their oracle, and against what is planted."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import oracle
import oracle_habits
import pytest

from examples.fraud import data, topology


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return data.generate(tmp_path_factory.mktemp("habits"), 12_000, 250, 5, kind="habits")


def alerts(sample, tmp_path, *options):
    output = tmp_path / "alerts.jsonl"
    asked = ["--rules", "all", "--quiet", "--output", str(output), "--input", *map(str, sample.transactions), *options]
    assert topology.main(asked) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.mark.parametrize("options", [(), ("--parallelism", "3", "--state-memory", "65536")], ids=["alone", "three tasks, little memory"])
def test_alerts_are_the_oracles(sample, tmp_path, options):
    found = Counter((row["transaction_id"], row["rule"]) for row in alerts(sample, tmp_path, *options))
    three = ((one.transaction_id, one.rule) for one in oracle.expected(sample.transactions))
    expected = Counter([*three, *oracle_habits.expected(sample.transactions)])
    assert found == expected
    assert {rule for _, rule in found} >= set(oracle_habits.RULES)


def test_each_kind_is_found_by_its_rule_and_hardly_anything_else(sample, tmp_path):
    truth = data.read_truth(sample.truth)
    incidents, found = defaultdict(set), defaultdict(set)
    for planted in truth.values():
        incidents[planted.kind].add(planted.incident)
    right, wrong = Counter(), Counter()
    for row in alerts(sample, tmp_path):
        planted = truth.get(row["transaction_id"])
        (right if planted else wrong)[row["rule"]] += 1
        if planted and planted.kind == row["rule"]:
            found[planted.kind].add(planted.incident)
    for kind in oracle_habits.RULES:
        assert len(found[kind]) >= 0.6 * len(incidents[kind]), kind
        assert wrong[kind] <= 0.2 * right[kind], kind


def test_the_seed_alone_decides(tmp_path, sample):
    again = data.generate(tmp_path / "again", 12_000, 250, 5, kind="habits")
    assert [p.read_bytes() for p in again.transactions] == [p.read_bytes() for p in sample.transactions]
    assert again.truth.read_bytes() == sample.truth.read_bytes()
    assert data.main(["--kind", "habits", "--seed", "6", "--transactions", "2000", "--accounts", "60", str(tmp_path / "other")]) == 0
    assert sum(1 for path in (tmp_path / "other").glob("transactions-*") for _ in path.open()) == 2_000 + 2
    with pytest.raises(SystemExit):
        data.main(["--seed", "6"])
