"""Statistics of accounts and cities against plain Python."""

from __future__ import annotations

import csv
import datetime
import json
import math
from collections import defaultdict

import psycopg
import pytest

from examples.fraud import activity, data, topology
from streamdsl import Config, files, memory

HOUR_MS, GAP_MS = 3_600_000, 1_800_000


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return data.generate(tmp_path_factory.mktemp("activity"), 250, 25, 11)


def expected(paths):
    """Return {(subject, name, period, start): (end, transactions, total, mean, largest)}."""
    windows, moves = defaultdict(list), defaultdict(list)
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                at, amount = int(row["event_time"]), float(row["amount"])
                for who in (("account", row["account_number"]), ("city", row["city"])):
                    hour = at // HOUR_MS * HOUR_MS
                    windows[*who, "hour", hour, hour + HOUR_MS].append(amount)
                    for start in range(hour - 23 * HOUR_MS, hour + 1, HOUR_MS):
                        windows[*who, "day", start, start + 24 * HOUR_MS].append(amount)
                    moves[who].append((at, amount))
    for who, all_ in moves.items():
        sessions = []
        for at, amount in sorted(all_):
            if not sessions or at - sessions[-1][-1][0] > GAP_MS:
                sessions.append([])
            sessions[-1].append((at, amount))
        for session in sessions:
            windows[*who, "session", session[0][0], session[-1][0] + GAP_MS] = [amount for _, amount in session]
    return {
        (*key, start): (end, len(values), math.fsum(values), math.fsum(values) / len(values), max(values))
        for (*key, start, end), values in windows.items()
    }


def ms(time):
    time = datetime.datetime.fromisoformat(time) if isinstance(time, str) else time
    return round(time.replace(tzinfo=time.tzinfo or datetime.UTC).timestamp() * 1000)


def found_in(rows):
    found = {}
    for row in rows:
        key = row["subject"], row["name"], row["period"], ms(row["window_start"])
        assert key not in found
        found[key] = (ms(row["window_end"]), *(row[name] for name in ("transactions", "total", "mean", "largest")))
    return found


def check(found, wanted):
    assert found.keys() == wanted.keys()
    for key, figures in wanted.items():
        assert found[key] == pytest.approx(figures), key


def test_statistics_are_the_oracles(sample):
    out, source = memory("statistics"), files(sample.transactions, schema=topology.Transaction)
    job = topology.build(parts=["statistics"])
    bind = {"transactions": source, "alerts": memory("alerts"), "statistics": out}
    job.run(Config(parallelism=3), bind=bind)
    wanted = expected(sample.transactions)
    assert {(subject, period) for subject, _, period, _ in wanted} == {(s, p) for s in activity.SUBJECTS for p in activity.WINDOWS}
    check(found_in(out.rows()), wanted)


def test_the_command_writes_them_to_a_file_and_to_postgresql(sample, tmp_path, database, monkeypatch):
    monkeypatch.setenv("FRAUD_POSTGRES", database.dsn)
    with psycopg.connect(database.dsn) as connection:
        connection.execute("drop table if exists fraud_statistics, fraud_alerts")
    output = tmp_path / "statistics.jsonl"
    asked = ["--with", "statistics,postgres", "--statistics", str(output), "--quiet", "--input", *map(str, sample.transactions)]
    assert topology.main(asked) == 0
    wanted = expected(sample.transactions)
    check(found_in(map(json.loads, output.read_text().splitlines())), wanted)
    with psycopg.connect(database.dsn) as connection:
        columns = "subject, name, period, window_start, window_end, transactions, total, mean, largest"
        rows = connection.execute(f"select {columns} from fraud_statistics").fetchall()
    check(found_in(dict(zip(columns.split(", "), row, strict=True)) for row in rows), wanted)


@pytest.mark.parametrize("asked", [["--with", "statistics"], ["--statistics", "f"], ["--broker", "b:1", "--statistics", "f"]])
def test_where_statistics_go_is_asked_for(asked, capsys):
    with pytest.raises(SystemExit):
        topology.arguments(asked)
    assert "--statistics" in capsys.readouterr().err
