"""What hostile records do to a job: nothing (the whole of it: ``make hostile-kafka``)."""

from __future__ import annotations

import json

import pytest

from tests.kafka import hostile


def test_good_rows_and_bad_records_are_told_apart(broker, topic_name, tmp_path):
    report = hostile.campaign(broker.bootstrap, topic_name, tmp_path / "state", 3000, seed=21)
    assert report.good + report.dead == 3000
    assert report.dead > 1000
    assert not report.problems, str(report)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (b'{"id": 1}', True),
        (b'\r\n{"id":\n1}\n', True),
        (b'{"id": 1, "x": 1, "x": 2}', True),
        (b'{"amount": -NaN}', True),
        (b'{"name": "Inf \\" -NaN"}', True),
        (b"[" * 100, False),
        (b'{"id": 1, "id": 1}', False),
        (b'{"id": 1.0}', False),
        (b'{"ok": 1}', False),
        (b'{"name": "\\ud800"}', False),
        (b'{"amount": 1e999}', False),
        (b'{"name": "a\nb"}', False),
        (b'{"name": "\xff"}', False),
        (None, False),
        (b"", False),
    ],
)
def test_the_oracle_knows_good_from_bad(value, good):
    assert (hostile.row_of(value) is not None) is good


def test_a_row_of_the_oracle_is_what_was_meant():
    row = {"id": -(2**63), "at": 5, "name": "Inf -NaN", "amount": 0.1, "ok": False}
    assert hostile.row_of(json.dumps(row).encode()) == row
