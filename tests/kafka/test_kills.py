"""Processes that die: each alert is seen once (many kills: ``make crash-kafka``)."""

from __future__ import annotations

import pytest

from tests.kafka import crash

pytestmark = pytest.mark.crash


def test_alerts_are_seen_once_whoever_is_killed(mortal_broker, topic_name, tmp_path):
    report, broker_kills = crash.campaign(
        3, 1, 11, tmp_path, mortal_broker, 8_000, 1_000, source=f"{topic_name}-transactions", broker_life_s=(3.0, 5.0)
    )
    assert not report.violations, str(report)
    assert (report.kills, broker_kills) == (3, 1)
