"""Keyed state against a dict: any order of changes, barriers, draining, writing, crashes and changed parallelism.

What a restored job holds is exactly what the model held when the barrier of the newest complete checkpoint passed.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamdsl._native.state.murmur2 import shard_of_key
from streamdsl.checkpoint.storage import DirectoryStorage
from tests.state.state_job import SHARDS, StateJob

KEYS = st.sampled_from([b"", b"a", b"b", b"cc", b"ddd", b"account-000001", b"account-000002", b"a key that is longer than most"])
#: When the database follows and when a base is due: at every MARK, now and then, never.
LIMITS = st.sampled_from([{}, {"journal_bytes": 0}, {"journal_bytes": 300}, {"journal_bytes": 600, "backlog_bytes": 200}])


class StateMachine(RuleBasedStateMachine):
    backend = "memory"

    def __init__(self):
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        (self.path / "checkpoints").mkdir()
        self.lives = 0
        self.model = {}  # (table, key) -> fields
        self.at_barrier = {}  # checkpoint id -> model then
        self.start(1, {})

    def start(self, tasks, limits):
        self.lives += 1
        live = self.path / f"live{self.lives}"
        live.mkdir()
        self.job = StateJob(DirectoryStorage(self.path / "checkpoints"), self.backend, live, tasks=tasks, **limits)

    def teardown(self):
        self.job.close()
        shutil.rmtree(self.path)

    def place(self, key, window):
        """The view, the table's key and the shard of a row."""
        shard = shard_of_key(key, SHARDS)
        task = self.job.task_of(shard)
        return (task.windows, (window << 63 - 1).to_bytes(8, "big") + key, shard) if window else (task.rows, key, -1)

    @rule(key=KEYS, window=st.sampled_from([0, 0, 1]), value=st.integers(-(2**63), 2**63 - 1), text=st.binary(max_size=50))
    def put(self, key, window, value, text):
        table, key, shard = self.place(key, window)
        slot = table.slot(key, shard)
        table.set_int(slot, 0, value)
        if not window:
            table.set_bytes(slot, 1, text)
        self.model[table.table.id, key] = (value,) if window else (value, text)

    @rule(key=KEYS, window=st.sampled_from([0, 0, 1]))
    def insert_only(self, key, window):
        table, key, shard = self.place(key, window)
        table.slot(key, shard)
        self.model.setdefault((table.table.id, key), (0,) if window else (0, b""))

    @rule(key=KEYS)
    def set_timer(self, key):
        shard = shard_of_key(key, SHARDS)
        view = type(self.job.tasks[0].rows)(self.job.task_of(shard).store.tables[2])
        view.slot(b"time" + key, shard)
        self.model[2, b"time" + key] = ()

    @rule(key=KEYS, window=st.sampled_from([0, 0, 1]))
    def remove(self, key, window):
        table, key, _ = self.place(key, window)
        slot = table.find(key)
        assert (slot is not None) == ((table.table.id, key) in self.model)
        if slot is not None:
            table.remove(slot)
            del self.model[table.table.id, key]

    @rule()
    def barrier(self):
        then = dict(self.model)
        checkpoint_id = self.job.begin()
        if checkpoint_id is not None:
            assert checkpoint_id not in self.at_barrier, "an id was used twice"
            self.at_barrier[checkpoint_id] = then

    @rule(rows=st.integers(1, 6), task=st.integers(0, 2))
    def drain(self, rows, task):
        self.job.tasks[task % len(self.job.tasks)].store.drain_some(rows)

    @rule(steps=st.integers(1, 6), task=st.integers(0, 2))
    def write(self, steps, task):
        for _ in range(steps):
            self.job.tasks[task % len(self.job.tasks)].writer.step()

    @rule()
    def finish(self):
        self.job.finish()

    @rule()
    def checkpoint(self):
        self.finish()
        self.barrier()
        self.finish()

    @rule()
    def time_out(self):
        self.job.now += 2000
        self.job.coordinator.check_timeout(self.job.now)

    @precondition(lambda self: self.lives < 6)
    @rule(tasks=st.sampled_from([1, 1, 2, 3]), limits=LIMITS)
    def crash(self, tasks, limits):
        complete = self.job.coordinator.completed
        self.job.close()
        self.start(tasks, limits)
        self.model = dict(self.at_barrier[complete[-1]]) if complete else {}
        assert self.job.contents() == self.model

    @invariant()
    def the_tables_are_the_model(self):
        assert self.job.contents() == self.model


class RocksDBStateMachine(StateMachine):
    backend = "rocksdb"


TestMemory = StateMachine.TestCase
TestMemory.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestRocksDB = RocksDBStateMachine.TestCase
TestRocksDB.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
