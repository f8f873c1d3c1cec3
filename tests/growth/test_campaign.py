"""A small part of ``make crash-all``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.growth.campaign import Campaign
from tests.kafka.broker import NoKafka
from tests.postgres.server import NoServer as NoPostgres
from tests.redis.server import NoServer as NoRedis


@pytest.mark.crash
def test_alerts_are_in_each_place_once_whatever_dies():
    # Not in pytest's own folder, which only its user may enter: PostgreSQL runs as another one.
    with tempfile.TemporaryDirectory(prefix="streamdsl-growth-") as place:
        try:
            campaign = Campaign(Path(place), 4_000, 3, 400)
        except (NoKafka, NoPostgres, NoRedis) as missing:
            if os.environ.get("CI", "") not in ("", "0", "false"):
                pytest.fail(f"required here: {missing}")
            pytest.skip(str(missing))
        problems = campaign.run(2, 1)
    assert not problems, "\n".join(problems)
    assert campaign.killed == {"worker": 2, "broker": 1, "postgres": 1, "redis": 1}
