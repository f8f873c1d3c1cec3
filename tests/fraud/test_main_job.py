"""The fraud example against the oracle: the same alerts, each once."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import oracle
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from examples.fraud import data, topology
from examples.fraud.records import Alert, Transaction
from streamdsl import Config
from streamdsl.connectors.files import files
from streamdsl.connectors.memory import memory

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(tmp_path, inputs, *options):
    output = tmp_path / "alerts.jsonl"
    arguments = ["--quiet", "--output", str(output), "--input", *map(str, inputs), *options]
    assert topology.main(arguments) == 0
    return oracle.found(output)


@pytest.mark.parametrize("parallelism", [1, 2, 3])
@pytest.mark.parametrize("rules", ["declared", "processors"])
def test_alerts_are_the_oracles(tmp_path, small, expected, parallelism, rules):
    found = run(tmp_path, small.transactions, "--parallelism", str(parallelism), "--rules", rules)
    assert oracle.difference(expected, found) == ""


# The state of the small sample takes some 300 kB (declared) and 500 kB (processors): about 1, 25 and 100 % of it.
@pytest.mark.parametrize("memory", ["4096", "100000", "500000"])
@pytest.mark.parametrize("rules", ["declared", "processors"])
def test_the_memory_for_state_does_not_matter(tmp_path, small, expected, memory, rules):
    options = ["--state-memory", memory, "--rules", rules, "--state-dir", str(tmp_path / "state"), "--checkpoint-interval", "100ms"]
    assert oracle.difference(expected, run(tmp_path, small.transactions, *options)) == ""


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_the_hash_seed_does_not_matter(tmp_path, small, expected, seed):
    output = tmp_path / "alerts.jsonl"
    arguments = ["--quiet", "--parallelism", "2", "--output", str(output), "--input", *map(str, small.transactions)]
    subprocess.run(
        [sys.executable, str(ROOT / "examples" / "fraud" / "topology.py"), *arguments],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert oracle.difference(expected, oracle.found(output)) == ""


def converted(directory, path, format):
    """Return a CSV file in another format."""
    types = {"category": pa.string()}
    rows = pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True))
    target = directory / f"{path.stem}.{format}"
    if format == "jsonl":
        target.write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()))
    elif format == "parquet":
        pq.write_table(rows, target, row_group_size=1000)
    elif format == "arrow":
        with pa.ipc.new_file(str(target), rows.schema) as writer:
            writer.write_table(rows, max_chunksize=700)
    else:
        pa.csv.write_csv(rows.drop_columns(["category"]), target)
    return target


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "arrow"])
def test_every_format_gives_the_same(tmp_path, small, expected, format):
    inputs = [converted(tmp_path, path, format) for path in small.transactions]
    assert oracle.difference(expected, run(tmp_path, inputs)) == ""


def test_rules_declared_and_in_python_explain_the_same(tmp_path, small):
    rows = []
    for rules in ("declared", "processors"):
        sink = memory("alerts", Alert)
        topology.build(rules).run(Config(), bind={"transactions": files(small.transactions, Transaction), "alerts": sink})
        rows.append(sorted(sink.rows(), key=lambda row: (row["transaction_id"], row["rule"])))
    declared, processors = rows
    assert len(declared) == len(processors)
    for a, b in zip(declared, processors, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == (pytest.approx(b[name], rel=1e-9) if isinstance(a[name], float) else b[name]), name


def test_alerts_say_where_the_transaction_stood(tmp_path, small):
    run(tmp_path, small.transactions)
    lines = {str(path): path.read_text().splitlines() for path in small.transactions}
    for line in (tmp_path / "alerts.jsonl").read_text().splitlines():
        alert = json.loads(line)
        assert list(alert) == list(Alert.__dataclass_fields__)
        transaction = lines[alert["topic"]][1 + alert["offset"]].split(",")
        assert transaction[:2] == [str(alert["transaction_id"]), alert["account_number"]]
        assert alert["partition"] == [str(path) for path in small.transactions].index(alert["topic"])


def rows_of(*changes):
    base = {"account_number": "CL00000001", "amount": 10.0, "currency": "CLP", "transaction_type": "payment"}
    base |= {"city": "Santiago", "country": "CL", "channel": "web", "category": None}
    return [{**base, "transaction_id": i, "event_time": 1_000_000 * i, **change} for i, change in enumerate(changes)]


def alerts(rules, rows):
    sink = memory("alerts", Alert)
    source = memory("transactions", Transaction, rows)
    done = topology.build(rules).start(Config(state_backend="memory"), bind={"transactions": source, "alerts": sink})
    assert done.wait(60)
    return sink.rows(), done.metrics()


@pytest.mark.parametrize("rules", ["declared", "processors"])
class TestRules:
    def details(self, rules, rows):
        return [(row["transaction_id"], row["rule"], row["severity"], row["detail"]) for row in alerts(rules, rows)[0]]

    def test_velocity(self, rules):
        times = [0, 59_999, 60_000, 119_998, 200_000]
        assert self.details(rules, rows_of(*({"event_time": t} for t in times))) == [(3, "VELOCITY", "high", "3 transactions in 60s")]

    def test_amount(self, rules):
        amounts = [800.0, 900.0, 850.0, 840.0, 860.0, 15_000.0]
        (found,) = self.details(rules, rows_of(*({"amount": amount} for amount in amounts)))
        assert found == (5, "AMOUNT_ANOMALY", "critical", "Amount 15000.00 CLP is 438.8σ from mean 850.00")

    def test_amount_needs_five_earlier_ones_that_differ(self, rules):
        assert self.details(rules, rows_of(*({"amount": a} for a in [1.0, 2.0, 1.0, 2.0, 99.0]))) == []
        assert self.details(rules, rows_of(*({"amount": a} for a in [1.0] * 6 + [99.0]))) == []

    def test_travel(self, rules):
        rows = rows_of({"event_time": 0}, {"event_time": 150_000, "city": "Punta Arenas"})
        assert self.details(rules, rows) == [(1, "GEO_IMPOSSIBLE", "critical", "Santiago → Punta Arenas in 2.5min (2192km)")]

    def test_a_city_that_is_not_known(self, rules):
        rows = rows_of({"event_time": 0}, {"event_time": 1000, "city": "Atlantis"}, {"event_time": 2000, "city": "Lima"})
        found, metrics = alerts(rules, rows)
        assert [row["rule"] for row in found] == ["VELOCITY"]
        assert metrics["operators"]
        assert sum(figures.get("unknown_city", 0) for figures in metrics["operators"].values()) == 1


def test_a_run_that_had_finished_says_so(tmp_path, small, expected, capsys):
    state = str(tmp_path / "state")
    assert oracle.difference(expected, run(tmp_path, small.transactions, "--state-dir", state)) == ""
    before = (tmp_path / "alerts.jsonl").read_bytes()
    run(tmp_path, small.transactions, "--state-dir", state)
    assert "had finished" in capsys.readouterr().out
    assert (tmp_path / "alerts.jsonl").read_bytes() == before


def test_the_whole_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "default_directory", lambda: tmp_path / "data")
    output = tmp_path / "alerts.jsonl"
    assert topology.main(["--output", str(output), "--parallelism", "2"]) == 0
    assert oracle.difference(oracle.expected(data.sample().transactions), oracle.found(output)) == ""
    shown = capsys.readouterr().out
    assert "200,001 transactions in" in shown
    assert "precision" in shown and "recall" in shown


def test_a_wrong_input_is_one_line(tmp_path, capsys):
    assert topology.main(["--input", str(tmp_path / "none.csv")]) == 1
    assert "no file matches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["a.csv"], "files to read stand behind --input"),
        (["--rate", "nan"], "a rate is a number above 0, or max"),
        (["--ui", "99999"], "not in the range"),
        (["--parallelism", "0"], "not in the range"),
        (["--inptu", "a.csv"], "'--input'"),
    ],
)
def test_a_wrong_option_is_told(options, said, capsys):
    with pytest.raises(SystemExit) as left:
        topology.main(options)
    assert left.value.code == 2 and said in capsys.readouterr().err


def test_an_input_takes_several_files():
    asked = topology.arguments(["--input", "a.csv", "b.csv", "--rate", "max", "--input", "c.csv", "--ui"])
    assert (sorted(asked.input), asked.rate, asked.ui) == (["a.csv", "b.csv", "c.csv"], None, 8081)


def test_the_module_is_importable_by_path_and_by_name():
    code = "import runpy; print(runpy.run_path('examples/fraud/topology.py', run_name='worker')['topology'])"
    for text in (code, "from examples.fraud.topology import topology; print(topology)"):
        done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, check=True, capture_output=True, text=True)
        assert done.stdout == "Topology('fraud-detection')\n"
