"""One join driven through the public driver, step by step, and what the model says of the same steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from streamdsl import Topology, memory
from streamdsl.testing import TopologyTestDriver
from tests.joins.model import HIGH, Interval, IntervalModel, Joined, Record

LEFT = {"k": str | None, "lt": int, "n": int}
RIGHT = {"k": str | None, "rt": int, "m": int}

#: Examples of each property: few in `make test`, many by `make property`.
EXAMPLES = int(os.environ.get("STREAMDSL_EXAMPLES", "300"))
examples = settings(max_examples=EXAMPLES, deadline=None)


@dataclass(frozen=True)
class Step:
    """Something that happens: "rows" of a side, its "watermark", a "checkpoint" or a "crash"."""

    what: str
    side: str = "left"
    records: tuple[Record, ...] = ()
    watermark: int = 0
    parallelism: int = 1


@dataclass(frozen=True)
class Job:
    """What is run."""

    join: Interval
    parallelism: int = 1
    cold: bool = False
    seed: int | None = None

    def topology(self) -> Topology:
        """Return: left ⋈ right → "out"."""
        topology = Topology("job")
        left = topology.stream(memory("left", schema=LEFT), timestamp="lt", watermarks="external")
        right = topology.stream(memory("right", schema=RIGHT), timestamp="rt", watermarks="external")
        joined(left, right, self.join).to(memory("out"))
        return topology

    def driver(self) -> TopologyTestDriver:
        """Return a driver of it."""
        memory_ = {"state_memory": 4_096} if self.cold else {}
        return TopologyTestDriver(self.topology(), parallelism=self.parallelism, seed=self.seed, **memory_)


def joined(left: Any, right: Any, join: Interval) -> Any:
    """Write a join of the model as a user does."""
    if join.before is None:
        return left.join(right, on="k", how=join.how, within=None)
    if join.before == join.after and join.before >= 0:
        return left.join(right, on="k", how=join.how, within=join.before, grace=join.grace)
    return left.join(right, on="k", how=join.how, before=join.before, after=join.after, grace=join.grace)


def happen(driver: TopologyTestDriver, step: Step | None) -> None:
    """Do a step; None is the end."""
    if step is None:
        driver.end()
    elif step.what == "rows" and step.side == "left":
        driver.send_batch("left", [{"k": one.key, "lt": one.time, "n": one.number} for one in step.records])
    elif step.what == "rows":
        driver.send_batch("right", [{"k": one.key, "rt": one.time, "m": one.number} for one in step.records])
    elif step.what == "watermark":
        driver.advance_watermark(step.side, step.watermark)
    elif step.what == "checkpoint":
        driver.checkpoint()
    else:
        driver.crash_and_restore(parallelism=step.parallelism)


def found(job: Job, steps: Sequence[Step]) -> list[list[Joined]]:
    """Run the steps, then the end; return the rows after each."""
    driver, rows = job.driver(), []
    for step in [*steps, None]:
        happen(driver, step)
        new = driver.read("out", timestamps=True)
        rows.append([Joined(time, out["k"], out["n"], out["m"]) for time, out in new])
    return rows


def expected(job: Job, steps: Sequence[Step]) -> list[list[Joined]]:
    """Let the model go through the same steps."""
    model, at, rows = IntervalModel(job.join), {"left": -(2**63), "right": -(2**63)}, []
    for step in [*steps, None]:
        before = len(model.rows)
        if step is None:
            model.on_end()
        elif step.what == "rows":
            for one in step.records:
                model.on_record(step.side, one)
        elif step.what == "watermark":
            at[step.side] = max(at[step.side], step.watermark)
            model.on_watermark(min(at.values()))
        rows.append(model.rows[before:])
    return rows


def check(job: Job, steps: Sequence[Step]) -> None:
    """Compare the two step by step; the order within a step is not told."""
    got, wanted = found(job, steps), expected(job, steps)
    if job.join.before is not None and job.join.after is not None and min(job.join.before, job.join.after) >= 0:
        for number, (a, b) in enumerate(zip(got, wanted, strict=True)):
            where = f"after step {number} of {len(steps)}"
            assert (sorted(a, key=repr), where) == (sorted(b, key=repr), where)
    # Where a row cannot match any more when it comes, it leaves then, or with the next watermark.
    everything = [sorted((row for rows in some for row in rows), key=repr) for some in (got, wanted)]
    assert everything[0] == everything[1]


KEYS = ["a", "a", "a", "b", "", "ñandú"]


@st.composite
def steps_of(draw: st.DrawFn, *, around: int = 0, spread: int = 60) -> list[Step]:
    """Draw records of both sides in batches, with watermarks, a checkpoint and a crash between them."""

    def moment() -> int:
        return min(HIGH, around + draw(st.integers(-spread // 2, spread)))

    made: list[Step] = []
    number = 0
    for _ in range(draw(st.integers(1, 14))):
        what = draw(st.sampled_from(["rows", "rows", "watermark"]))
        side = draw(st.sampled_from(["left", "right"]))
        if what == "rows":
            size = draw(st.sampled_from([1, 1, 2, 4]))
            keys = [None, *KEYS] if draw(st.integers(0, 4)) == 0 else KEYS
            made.append(Step(what, side, tuple(Record(number + i, draw(st.sampled_from(keys)), moment()) for i in range(size))))
            number += size
        else:
            made.append(Step(what, side, watermark=moment()))
    if draw(st.booleans()):
        # What is read again comes in another order than before: the two sides are two inputs.
        at = draw(st.integers(0, len(made)))
        made[at:at] = [Step("checkpoint"), Step("crash", parallelism=draw(st.integers(1, 4)))]
    return made


@st.composite
def cases(draw: st.DrawFn, joins: st.SearchStrategy[Interval]) -> tuple[Job, list[Step]]:
    """Draw a job and its steps."""
    job = Job(draw(joins), draw(st.sampled_from([1, 1, 2, 3, 4])), draw(st.booleans()), draw(st.none() | st.integers(0, 99)))
    around = draw(st.sampled_from([0, 0, -1_000, 2**62, -(2**62)]))
    return job, draw(steps_of(around=around, spread=draw(st.sampled_from([6, 40]))))
