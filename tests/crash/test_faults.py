"""A few deaths at fault points, in the checked build; `make faults` does them all. What judges them is tested in every build."""

from __future__ import annotations

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import faults

from streamdsl._native.includes.faults import CHECKED


@pytest.mark.skipif(not CHECKED, reason="a release build has no fault points; `make checked` and `make faults` run this")
@pytest.mark.parametrize("name", ["FP02", "FP12", "FP27", "FP32", "FP36"])
def test_deaths_at_a_fault_point_lose_and_repeat_nothing(tmp_path, name):
    report = faults.hunt([name], 2, 1, tmp_path)
    assert report.hits[name] == 2
    assert not report.violations, str(report)


def test_a_point_that_is_not_hit_fails_the_campaign(tmp_path, monkeypatch):
    monkeypatch.setattr(faults.Hunter, "_round", lambda *_: "")
    report = faults.hunt(["FP01"], 1, 1, tmp_path)
    assert len(report.violations) == 1 and "hit 0 times instead of 1" in report.violations[0]
