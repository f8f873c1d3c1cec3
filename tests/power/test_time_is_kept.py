"""What a checkpoint keeps of time: two places that stand in for each other in most runs, each needed by itself in some.

A split's watermark is kept, and the watermark that each shard had reached. The simulator's runs end, so that every window closes at
last; what is asked here is what happens before the end.
"""

from __future__ import annotations

import pytest

from streamdsl import tumbling
from tests.semantics.jobs import crash, driver, ms, row


def windowed(parallelism):
    return driver(
        lambda rows: rows.key_by("k").window(tumbling("1s")).count(),
        tags=["late"],
        partitions=2,
        watermarks="external",
        parallelism=parallelism,
    )


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_partition_that_says_nothing_more_does_not_hold_back_what_it_let_pass_before_the_crash(parallelism):
    job = windowed(parallelism)
    job.advance_watermark("in", 1_000, partition=0)
    job.advance_watermark("in", 5_000, partition=1)
    job.send("in", row("a", 1_500), partition=0)
    crash(job, 4 - parallelism)
    job.advance_watermark("in", 4_000, partition=0)
    assert [(out["k"], ms(out["window_start"])) for out in job.read("out")] == [("a", 1_000)]


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_window_that_closed_while_a_partition_was_idle_stays_closed(parallelism):
    """Three places say so after a restore, any of which is enough: the split's idleness, the shards and the task's inputs."""
    job = windowed(parallelism)
    job.send("in", row("a", 0), partition=0)
    job.idle("in", partition=1)
    job.advance_watermark("in", 2_000, partition=0)
    assert [out["k"] for out in job.read("out")] == ["a"]
    crash(job, 4 - parallelism)
    job.active("in", partition=1)
    job.send("in", row("a", 500), partition=0)
    job.end()
    assert ([out["t"] for out in job.read("late")], job.read("out")) == ([500], [])
