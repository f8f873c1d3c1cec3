"""Do many open sessions close correctly in little memory, and does a long run need no more than a short one?

    python benchmarks/sessions.py [--sessions N] [--state-memory SIZE] [--rounds N] [--json]

Each key has a session of two records in each round. All sessions of a round are open at once; the next round closes them. Every
row is checked: its bounds, its count, its sum, and that each key comes once a round. One round is run first, then several:
`rows_kept` is what the state holds in the end, and `peak_rss_mb` how much memory the process has had.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fraud import commit, machine
from benchmarks.sinks import Dropped
from benchmarks.state import MIX, resident_mb
from streamdsl import Config, Schema, Topology, col, count, session
from streamdsl.connectors.base import Chunk, End, Json, Source, SplitReader

BATCH = 1 << 16
FIRST_MS = 1_700_000_000_000
GAP_MS = 3_600_000
#: Of the two records of a session; and from one round to the next, by when all its sessions are over.
APART_MS = 1_000
ROUND_MS = 10 * GAP_MS
#: A key is its number times MIX: so the number is the key times this, in 64 bits.
UNMIX = (pow(MIX, -1, 2**64) ^ 2**63) - 2**63
SCHEMA = {"key": str, "at": int, "x": float}


class Rounds(Source):
    """Rounds of sessions: every key twice, a second apart. The second time comes when all sessions are open."""

    bounded = True

    def __init__(self, sessions: int, rounds: int) -> None:
        self.name = "rounds"
        self.schema = Schema.of(SCHEMA)
        self.sessions, self.rounds = sessions, rounds
        self.batches = -(-sessions // BATCH)

    def splits(self) -> Sequence[str]:
        return ["rounds-0"]

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        return _RoundsReader(self, columns, 0 if position is None else int(position["batch"]))

    def batch(self, number: int) -> pa.RecordBatch:
        """Return a batch: records that open sessions, or such that go on with them in another order."""
        round_, part = divmod(number, 2 * self.batches)
        second = part >= self.batches
        part = 2 * self.batches - 1 - part if second else part
        numbers = pa.array(range(part * BATCH, min(self.sessions, (part + 1) * BATCH)), pa.int64())
        start = FIRST_MS + round_ * ROUND_MS + second * APART_MS
        at = pa.array([start] * len(numbers), pa.int64())
        key = pc.cast(pc.multiply(numbers, MIX), pa.string())
        return pa.RecordBatch.from_pydict({"key": key, "at": at, "x": pc.cast(pc.bit_wise_and(numbers, 1023), pa.float64())})


class _RoundsReader(SplitReader):
    def __init__(self, source: Rounds, columns: Sequence[str], batch: int) -> None:
        self.source, self.columns, self.batch = source, list(columns), batch

    def read(self, max_rows: int) -> Chunk | End | None:
        if self.batch == 2 * self.source.batches * self.source.rounds:
            return End()
        rows = self.source.batch(self.batch).select(self.columns)
        self.batch += 1
        return Chunk(rows, {"batch": self.batch})


class Checked(Dropped):
    """Checks each row and forgets it: a session's bounds and values, and that no key of the round has come before."""

    def __init__(self, sessions: int) -> None:
        super().__init__("checked")
        self.wrong = self.twice = 0
        self.seen = np.zeros(sessions, np.int64)  # rounds that each key has come in

    def look(self, rows: pa.RecordBatch) -> None:
        start, end = (rows.column(name).cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy() for name in ("window_start", "window_end"))
        numbers = rows.column("key").cast(pa.int64()).to_numpy() * np.int64(UNMIX)
        rounds = (start - FIRST_MS) // ROUND_MS
        right = (rows.column("n").to_numpy() == 2) & (end - start == GAP_MS + APART_MS)
        right &= rows.column("total").to_numpy() == 2.0 * (numbers & 1023)
        self.wrong += int((~right).sum())
        for round_ in np.unique(rounds):  # of one key, rows of several rounds may come together
            keys = numbers[rounds == round_]
            self.twice += int((self.seen[keys] != round_).sum())
            self.seen[keys] = round_ + 1


def measure(sessions: int, rounds: int, state_memory: str) -> dict[str, Any]:
    """Run so many rounds to their end and return the figures."""
    sink = Checked(sessions)
    topology = Topology("sessions")
    keyed = topology.stream(Rounds(sessions, rounds), timestamp="at", name="rounds").key_by("key")
    keyed.window(session(GAP_MS)).aggregate(n=count(), total=col("x").sum(), name="sessions").to(sink, name="checked")
    with tempfile.TemporaryDirectory() as state_dir:
        began, began_cpu = time.monotonic(), time.process_time()
        run = topology.start(Config(state_dir=state_dir, state_memory=state_memory, checkpoint_interval="10s"))
        run.wait()
        state = run.metrics()["state"]
        return {
            "rounds": rounds,
            "rows": sink.rows,
            "wrong": sink.wrong,
            "twice_or_missing": sink.twice + sessions * rounds - int(sink.seen.sum()),
            "seconds": round(time.monotonic() - began, 1),
            "cpu_seconds": round(time.process_time() - began_cpu, 1),
            "evicted": state["evicted"],
            "rows_kept": state["keys"] + state["cold_keys"],
            "state_mb": round(state["bytes"] / 2**20, 1),
            "peak_rss_mb": resident_mb(),
        }


def main() -> None:
    """Run one round, then several, and print the figures of both; a row that is wrong, twice or missing ends it with 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--state-memory", default="64MiB")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = [measure(asked.sessions, rounds, asked.state_memory) for rounds in (1, asked.rounds)]
    figures = {"sessions": asked.sessions, "state_memory": asked.state_memory, "runs": found, "machine": machine(), "commit": commit()}
    if asked.json:
        print(json.dumps(figures))
    else:
        for one in found:
            print("  ".join(f"{name} {value}" for name, value in one.items()), flush=True)
    sys.exit(any(one["wrong"] or one["twice_or_missing"] for one in found))


if __name__ == "__main__":
    main()
