"""A few kills of the fraud example; `campaign.py` does as many as there is time for."""

from __future__ import annotations

import pathlib
import sys
from collections import Counter

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import campaign
import keyed
import oracle


def test_twenty_kills_lose_and_repeat_nothing(tmp_path):
    report = campaign.campaign(kills=20, seed=1, directory=tmp_path, transactions=12_000, rate=2_500)
    assert report.kills == 20
    assert not report.violations, str(report)
    assert set(report.starts) == {
        *(f"parallelism {n}" for n in (1, 2, 3)),
        *(f"interval {interval}" for interval in (campaign.FAST, campaign.SLOW)),
        *(f"memory {memory}" for memory in (campaign.TINY, campaign.AMPLE)),
        *(f"journal {length}" for length in (campaign.SHORT, campaign.LONG)),
    }


def test_kills_over_windows_and_timers_lose_and_repeat_nothing(tmp_path):
    report = keyed.kill_often(kills=8, seed=2, directory=tmp_path, records=8_000, rate=2_000)
    assert report.kills == 8
    assert not report.violations, str(report)


def test_the_checker_of_windows_and_timers_sees_a_lost_and_a_repeated_row(tmp_path):
    keyed.write_records(tmp_path / "records.csv", 500, 20, seed=1)
    wanted = keyed.expected(tmp_path / "records.csv")
    for name in keyed.OUTPUTS:
        row = next(iter(wanted[name]))
        assert keyed.difference(wanted, {**wanted, name: wanted[name] - Counter([row])}).startswith(f"{name}: 1 lost, 0 too much")
        assert keyed.difference(wanted, {**wanted, name: wanted[name] + Counter([row])}).startswith(f"{name}: 0 lost, 1 too much")
    assert keyed.difference(wanted, wanted) == ""


def test_the_checker_sees_a_lost_and_a_repeated_alert():
    alert = oracle.Alert(1, "CL00000001", "VELOCITY", 5, "high")
    other = oracle.Alert(2, "CL00000001", "VELOCITY", 6, "high")
    assert oracle.difference(Counter([alert, other]), Counter([other, alert])) == ""
    assert "1 lost, 0 too much" in oracle.difference(Counter([alert, other]), Counter([other]))
    assert "0 lost, 1 too much" in oracle.difference(Counter([alert]), Counter([alert, alert]))
