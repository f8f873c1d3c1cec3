"""The model that ships: what it finds, what it refuses, and what is said without its parts."""

from __future__ import annotations

import json
import sys

import oracle
import oracle_habits
import pytest

from examples.fraud import data, topology
from examples.fraud.model import features, scorer
from streamdsl import ConfigError, files, memory


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return data.generate(tmp_path_factory.mktemp("habits"), 12_000, 300, 9, kind="habits")


def alerts(sample, **options):
    out = memory("alerts")
    source = files(sample.transactions, schema=topology.Transaction)
    topology.build("all", **options).run(bind={"transactions": source, "alerts": out})
    return out.rows()


def test_rules_and_model_find_nine_of_ten_and_are_hardly_ever_wrong(sample):
    truth = data.read_truth(sample.truth)
    alerted = {row["transaction_id"] for row in alerts(sample, scorer=scorer.Scorer())}
    incidents = {planted.incident for planted in truth.values()}
    assert sum(number in truth for number in alerted) / len(alerted) >= 0.95
    assert len({truth[number].incident for number in alerted & set(truth)}) / len(incidents) >= 0.9


def test_the_model_takes_back_what_it_doubts_and_adds_what_it_is_sure_of(sample):
    rules = {(row["transaction_id"], row["rule"]) for row in alerts(sample)}
    both = alerts(sample, scorer=scorer.Scorer())
    for row in both:
        least = topology.SURE if row["rule"] == "MODEL" else topology.DOUBT
        assert row["score"] >= least
        assert row["rule"] == "MODEL" or (row["transaction_id"], row["rule"]) in rules
    assert len(both) < len(rules) + sum(row["rule"] == "MODEL" for row in both)
    oracles = {(one.transaction_id, one.rule) for one in oracle.expected(sample.transactions)}
    assert rules == oracles | set(oracle_habits.expected(sample.transactions))


def test_batches_and_parallelism_do_not_change_a_score(sample, tmp_path):
    found = []
    for parallelism in ("1", "3"):
        output = tmp_path / f"{parallelism}.jsonl"
        asked = ["--rules", "all", "--with", "model", "--quiet", "--output", str(output), "--parallelism", parallelism]
        assert topology.main([*asked, "--input", *map(str, sample.transactions)]) == 0
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        found.append(sorted((row["transaction_id"], row["rule"], row["score"]) for row in rows))
    assert found[0] == found[1] and found[0]


def test_a_model_of_other_columns_is_refused(monkeypatch):
    monkeypatch.setattr(scorer, "FEATURES", features.FEATURES[:-1])
    with pytest.raises(ConfigError, match="was trained on the columns") as refused:
        scorer.Scorer()
    assert "make train" in str(refused.value)


def test_what_is_missing_is_named(monkeypatch, tmp_path, capsys):
    with pytest.raises(ConfigError, match="no model at"):
        scorer.Scorer(tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert topology.main(["--with", "model", "--rules", "all"]) == 1
    assert "pip install 'streamdsl[ml]'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        topology.main(["--with", "oracle"])
    assert "there are model" in capsys.readouterr().err
