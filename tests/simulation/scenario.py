"""What a seed draws before the first step: topology, rows, splits, cuts; and before each start: everything else that is chance."""

from __future__ import annotations

import errno
import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from streamdsl._native.state.murmur2 import shard_of_key
from streamdsl._native.state.writer import BACKLOG_BYTES
from streamdsl.config import Config
from tests.simulation.disk import CUTS
from tests.simulation.endpoints import Entry, SplitLog
from tests.simulation.families import FAMILIES
from tests.simulation.family import DISORDER_MS, NEVER, SCHEMA, Family, Record, drawn_rows

#: How a start ends before the input does. "call": in the middle of a call of the file system.
ENDS = ("crash", "crash", "crash in a call", "power cut", "power cut in a call", "stop")
#: A checkpoint that takes so long hangs; where less is drawn, one may never get done, and so the start is cut short.
PATIENT_MS = 60_000
PARALLELISM = (1, 1, 1, 1, 2, 2, 2, 3, 4)
MOST_ROWS = (3, 6, 10, 16, 24, 40)
#: Bytes that no journal of a run reaches.
AMPLE = 1 << 20


@dataclass(frozen=True)
class Scenario:
    """The part that is drawn once. `parallelism`: of about half of the starts. `ends`: how each start but the last one ends.

    `partitioned`: the rows are dealt to splits by the hash of their key, and the sources say so.
    """

    kind: int
    variant: int
    family: Family
    inputs: dict[str, list[Record]]
    logs: dict[str, dict[str, SplitLog]]
    bounded: bool
    idles: bool
    shards: int
    parallelism: int
    ends: tuple[str, ...]
    drains: bool
    faulty: bool
    partitioned: bool


def drawn_scenario(draw: random.Random) -> Scenario:
    """Draw a scenario."""
    kind = draw.randrange(len(FAMILIES))
    variant = draw.randrange(len(FAMILIES[kind]))
    family = FAMILIES[kind][variant]
    late_ms = draw.choice((0, 60)) if family.late else 0
    idles = family.idle and draw.random() < 0.4
    waits = draw.random() < 0.3
    most = draw.choice(MOST_ROWS)
    inputs, logs = {}, {}
    partitioned = not family.alone and draw.random() < 0.3
    for i, name in enumerate(family.sources):
        prefix = "k" if family.same_keys else "kl"[i]
        rows = drawn_rows(
            draw, draw.randint(0, most), prefix=prefix, late_ms=late_ms, nulls=draw.random() < 0.6, bad_times=family.bad_times
        )
        # Where rows may be late and results are compared, one split decides which are.
        splits = 1 if family.alone or (late_ms and family.accounts is None) else draw.randint(1, 3)
        inputs[name] = rows
        logs[name] = {
            str(split): _log(draw, rows, at, family.external, idles, waits)
            for split, at in enumerate(_hashed(draw, rows, splits) if partitioned else _dealt(draw, rows, splits, family.together))
        }
    interruptions = draw.choice((0, 0, 0, 1, 1, 2, 3))
    return Scenario(
        kind,
        variant,
        family,
        inputs,
        logs,
        bounded=not idles and draw.random() < 0.5,
        idles=idles,
        shards=draw.choice((4,) * 8 + (12,) * 8 + (128,)),
        parallelism=draw.choice(PARALLELISM),
        ends=tuple(draw.choice(ENDS) for _ in range(interruptions)),
        drains=draw.random() < 0.08,
        faulty=draw.random() < 0.25,
        partitioned=partitioned,
    )


def _hashed(draw: random.Random, rows: Sequence[Record], splits: int) -> list[list[int]]:
    """Return the numbers of each split's rows as a partitioner deals them out; rows without a key go anywhere."""
    dealt: list[list[int]] = [[] for _ in range(splits)]
    for row in rows:
        dealt[draw.randrange(splits) if row.key is None else shard_of_key(row.key.encode(), splits)].append(row.n)
    return dealt


def _dealt(draw: random.Random, rows: Sequence[Record], splits: int, together: Sequence[str]) -> list[list[int]]:
    """Return the numbers of each split's rows, in order; rows of one key go to one split if they must."""
    dealt: list[list[int]] = [[] for _ in range(splits)]
    chosen: dict[str | None, int] = {}
    for row in rows:
        if together and row.key not in chosen:
            chosen[row.key] = draw.randrange(splits)
        dealt[chosen[row.key] if together else draw.randrange(splits)].append(row.n)
    return dealt


def _log(draw: random.Random, rows: Sequence[Record], at: list[int], external: bool, idles: bool, waits: bool) -> SplitLog:
    own = [rows[n] for n in at]
    columns = list(zip(*own, strict=True)) if own else [()] * len(SCHEMA)
    batch = pa.RecordBatch.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
    log = SplitLog(batch, at)
    latest = NEVER
    log.limits.append(NEVER)
    for row in own:
        latest = max(latest, NEVER if row.at is None else row.at)
        log.limits.append(NEVER if latest == NEVER else latest - DISORDER_MS - 1)
    taken = 0
    sizes = draw.choice(((1,), (1, 2, 3), (1, 5, 20), (60,), (4, 8)))
    while taken < len(own):
        if idles and draw.random() < 0.3:
            log.entries.append(Entry(idle=True))
        if (idles or waits) and draw.random() < 0.3:
            log.entries.append(Entry(wait_ms=draw.randint(1, 40)))
        n = min(draw.choice(sizes), len(own) - taken)
        taken += n
        rest = [row.at for row in own[taken:] if row.at is not None] if external else []
        log.entries.append(Entry(rows=n, watermark=min(rest) - 1 if rest else None))
    return log


@dataclass(frozen=True)
class Start:
    """What is drawn for one start of the job.

    `weights`: how often each kind of actor is stepped. `after`: (completed checkpoints, steps) from which on the start ends.
    `crash_call`: how many calls of the file system from there the process dies.
    `faults`: calls from the beginning that fail; `bad_reads`: reads; `bad_appends`: appends to journals and their syncs; `full`: calls
    between which the disk is full; `write_fails`: share of the writes of databases.
    `drain_rows`, `chunk_rows`: how much of the state is written in one step; the former also how many windows close.
    `journal_bytes`, `backlog_bytes`: when a store gets a new base, and how far its database may be behind its journal (`AMPLE` and
    more: no run comes so far). `small_bytes`: up to which size state is read into memory by a start; else its keys come as they are
    asked for.
    """

    config: Config
    channel_batches: int
    seed: int
    task_weights: tuple[int, ...]
    writer_weight: int
    control_weight: int
    end: str
    after: tuple[int, int]
    crash_call: int
    cut: str
    faults: dict[int, int]
    bad_reads: frozenset[int]
    bad_appends: frozenset[int]
    full: tuple[int, int]
    write_fails: float
    tick_ms: int
    drain_rows: int
    chunk_rows: int
    journal_bytes: int
    backlog_bytes: int
    small_bytes: int


@functools.cache
def _config(**chosen: Any) -> Config:
    # Checked once: a config is a value, and campaigns draw the same ones again and again.
    return Config(**chosen)


def drawn_start(draw: random.Random, scenario: Scenario, number: int) -> Start:
    """Draw what start `number` (from 0) does and how it ends."""
    choice, last = draw.choice, number >= len(scenario.ends)
    faulty = scenario.faulty and not (last and draw.random() < 0.5)
    fatal = faulty and draw.random() < 0.2
    config = _config(
        parallelism=choice((scenario.parallelism, choice(PARALLELISM))),
        state_backend="memory",
        state_memory=choice(("4KiB", "12KiB", "256MiB", "256MiB")),
        checkpoint_interval=choice((2, 5, 15, 40)),
        checkpoint_timeout=PATIENT_MS if last else choice((PATIENT_MS,) * 8 + (10, 40)),
        checkpoint_failure_timeout=choice((0, 1)) if fatal else "7d",
        retained_checkpoints=choice((1, 2, 2, 2, 3)),
        batch_rows=choice((1, 2, 5, 40, 4096)),
    )
    end = "" if last else scenario.ends[number]
    if last and scenario.drains:
        end = "drain"
    after = (choice((0, 1, 1, 1, 2, 3)), choice((1, 5, 20, 60)))
    bad_reads: frozenset[int] = frozenset()
    if end == "drain":
        after = (0, draw.randint(1, 200))
    elif number and draw.random() < 0.25:
        # What was passed over must not come back: an end before anything newer than it is complete would show it.
        bad_reads = frozenset([choice((2, 2, 3, 5))])
        if draw.random() < 0.6:
            end, after = choice(("crash", "power cut")), (0, choice((1, 5, 20)))
    return Start(
        config=config,
        channel_batches=choice((1, 1, 2, 8)),
        seed=draw.getrandbits(30),
        task_weights=choice(((1,), (1,), (1, 6), (1, 1, 8), (5, 1, 1, 2))),
        writer_weight=choice((1, 1, 4)),
        control_weight=choice((1, 1, 3)),
        end=end,
        after=after,
        crash_call=draw.randint(1, 30),
        cut=choice(CUTS),
        faults=_faults(draw) if faulty else {},
        bad_reads=bad_reads,
        bad_appends=frozenset(draw.sample(range(1, 25), 2)) if draw.random() < (0.05 if last else 0.3) else frozenset(),
        full=_full(draw) if faulty and draw.random() < 0.3 else (0, 0),
        write_fails=choice((0.2, 0.5)) if draw.random() < (0.05 if last else 0.25) else 0.0,
        tick_ms=choice((1, 1, 2, 5)),
        drain_rows=choice((1, 1, 2, 512)),
        chunk_rows=choice((1, 3, 1000)),
        journal_bytes=choice((0, 200, 500, 1_000, BACKLOG_BYTES, BACKLOG_BYTES)),
        backlog_bytes=choice((0, 200, BACKLOG_BYTES)),
        small_bytes=choice((0, AMPLE)),
    )


def _faults(draw: random.Random) -> dict[int, int]:
    return {draw.randint(1, 200): draw.choice((errno.EIO, errno.EIO, errno.ENOSPC)) for _ in range(draw.randint(0, 4))}


def _full(draw: random.Random) -> tuple[int, int]:
    begin = draw.randint(1, 100)
    return begin, begin + draw.randint(1, 25)


def describe(start: Start) -> str:
    """Return a start in one line."""
    config: Any = start.config
    return (
        f"parallelism {config.parallelism}, interval {config.checkpoint_interval}, timeout {config.checkpoint_timeout}, "
        f"batches of {config.batch_rows}, channels of {start.channel_batches}, journals of {start.journal_bytes}, "
        f"backlogs of {start.backlog_bytes}, memory {config.state_memory}, end {start.end or 'of input'} after {start.after}"
    )
