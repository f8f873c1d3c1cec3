"""One job in one thread, a step at a time, under a clock that the test moves."""

from __future__ import annotations

from streamdsl import Config, Topology
from streamdsl._native.event_time.clock import ManualClock
from streamdsl.compiler import compile
from streamdsl.runtime.environment import JobEnvironment
from streamdsl.runtime.job import Job

#: A piece as a release build takes it.
PIECE = 4096


class Stepped:
    """`most` is what a store has had in memory at most, `coldest` the most timers that a table had in the database alone.

    `piece`: windows that close, or timers that fire, in a step. By the few of the checked build, tens of thousands take minutes.
    """

    def __init__(self, topology: Topology, environment: JobEnvironment, config: Config, clock: ManualClock, piece: int = 0) -> None:
        plans = compile(topology, parallelism=config.parallelism)
        self.job = Job(plans.physical, config, environment, clock=clock)
        self.job.open()
        for task in self.job.tasks if piece else ():
            task.closing_rows = piece
        self.stores = [task.store for task in self.job.tasks if task.store is not None]
        self.timers = [table for store in self.stores for table in store.tables if table.kind == "timers"]
        self.most = self.coldest = 0

    @property
    def closing(self) -> bool:
        return any(task.closing for task in self.job.tasks)

    def step(self) -> bool:
        progress = self.job.step_tasks()
        self.most = max([self.most, *[store.memory_bytes() for store in self.stores]])
        self.coldest = max([self.coldest, *[table.cold for table in self.timers]])
        progress |= self.job.write_step()
        progress |= self.job.control_step()
        return progress and not self.job.ended
