"""The alerts of two sets of thresholds over one history."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from examples.fraud import backtest, chart
from examples.fraud.records import Planted
from examples.fraud.thresholds import Thresholds
from streamdsl import ConfigError


def test_the_usual_thresholds_give_the_oracles_alerts_and_stricter_ones_fewer(small, expected):
    usual = backtest.found(small.transactions, "declared", Thresholds())
    strict = backtest.found(small.transactions, "declared", Thresholds(velocity=4, sigmas=4.0), parallelism=2)
    assert usual == {(one.transaction_id, one.rule) for one in expected}
    assert strict < usual
    critical = {(one.transaction_id, one.rule) for one in expected if one.severity == "critical"}
    assert critical <= strict | {alert for alert in usual if alert[1] == "VELOCITY"}


def test_the_table_says_what_is_gained_and_lost():
    truth = {1: Planted(0, "VELOCITY")}
    before, after = {(1, "VELOCITY"), (2, "VELOCITY")}, {(1, "VELOCITY"), (3, "VELOCITY")}
    head, line = backtest.compared(before, after, truth)
    assert head.split() == ["rule", "before", "fraud", "after", "fraud", "gained", "fraud", "lost", "fraud"]
    assert line.split() == ["VELOCITY", "2", "50%", "2", "50%", "1", "0%", "1", "0%"]
    assert backtest.compared(before, after, None)[1].split() == ["VELOCITY", "2", "2", "1", "1"]
    assert backtest.plot(before, set())[0].split() == ["VELOCITY", "█" * 40, "2"]


def test_the_picture_has_bars_as_long_as_the_alerts_are_many():
    before = {(i, "VELOCITY") for i in range(8)} | {(1, "A<B")}
    after = {(i, "VELOCITY") for i in range(4, 10)}
    root = ElementTree.fromstring(chart.svg(before, after))
    bars = {}
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        bars.setdefault(bar.get("class"), []).append(float(bar.get("width")))
    one = bars["VELOCITY before"][0] / 4
    assert bars["VELOCITY before"] == pytest.approx([4 * one, 4 * one])
    assert bars["VELOCITY after"] == pytest.approx([4 * one, 2 * one])
    assert bars["A<B before"] == pytest.approx([one]) and "A<B after" not in bars
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"VELOCITY", "A<B", "8", "6", "1", "0"} <= set(texts)
    assert ElementTree.fromstring(chart.svg(set(), set())) is not None


def test_the_command(tmp_path, capsys, small):
    (tmp_path / "after.json").write_text(json.dumps({"kmh": 2_000}))
    asked = ["--input", *map(str, small.transactions), "--against", str(tmp_path / "after.json")]
    assert backtest.main(asked) == 0
    shown = capsys.readouterr().out
    assert "GEO_IMPOSSIBLE" in shown and "fraud" not in shown
    assert backtest.main([*asked, "--plot", str(tmp_path / "alerts.svg")]) == 0
    assert "GEO_IMPOSSIBLE" in (tmp_path / "alerts.svg").read_text() and "alerts.svg" in capsys.readouterr().out
    assert backtest.main([*asked[:-1], "{bad"]) == 1
    assert "error" in capsys.readouterr().err
    for wrong in ("alerts.png", "absent/alerts.svg"):
        with pytest.raises(SystemExit):
            backtest.main([*asked, "--plot", str(tmp_path / wrong)])
        assert "ends in .svg" in capsys.readouterr().err


@pytest.mark.parametrize("values", [{"sigma": 3}, {"sigmas": "3"}, {"velocity": 2.5}, {"velocity": True}, {"kmh": 0}])
def test_thresholds_that_do_not_fit_are_refused(values):
    with pytest.raises(ConfigError) as refused:
        Thresholds.of(values)
    assert next(iter(values)) in str(refused.value)
