"""A simulation that is not only crashed: stopped, drained, over channels of one batch, with storage that fails, with idle splits."""

from __future__ import annotations

import random
from typing import Any

from streamdsl import Config, StateError
from streamdsl.checkpoint.storage import MemoryStorage
from streamdsl.compiler import compile
from streamdsl.runtime import deploy
from streamdsl.runtime.job import Job
from streamdsl.testing import Simulation
from streamdsl.testing.endpoints import Entry

#: A stop that takes more steps hangs.
MOST_STEPS = 200_000


class Interrupted(Simulation):
    """`stops`: half of the interruptions are stops; `drain`: the last one is a drain; `failing`: share of storage calls that fail."""

    def __init__(
        self,
        topology: Any,
        data: Any,
        seed: int,
        *,
        crashes: int = 3,
        stops: bool = True,
        drain: bool = False,
        failing: float = 0.0,
        idle: bool = False,
    ) -> None:
        super().__init__(topology, data, seed, crashes=crashes)
        self.stops, self.drain = stops, drain
        self.failures = FailingStorage(random.Random(seed + 1), failing)
        self._environment.storage = self.failures
        for source in self._sources.values() if idle else ():
            for log in source.logs.values():
                for at in range(len(log.entries) - 1, -1, -1):
                    if self._random.random() < 0.3:
                        log.entries.insert(at, Entry(idle=True))

    def _incarnation(self, *, crash: bool) -> bool:
        job = self._started()
        how = self._random.choice(["crash", "stop"]) if self.stops else "crash"
        if self.drain and self.restores + 1 == self.crashes:
            how = "drain"
        awaited = self._latest(job) + self._random.choice([0, 1, 1, 2])
        for _ in range(self._random.randint(1, 1_000) if crash else MOST_STEPS):
            if job.ended or (crash and self._latest(job) > awaited):
                break
            self._step(job)
        if not job.ended:
            assert crash, f"{self!r}: the job does not end"
            self.story.append(how)
            if how == "crash":
                job.abandon()
                return False
            job.request_stop(drain=how == "drain")
            self._wait_for_the_end(job, how)
        job.close()
        if job.error is not None:
            raise job.error
        return job.finished

    def _wait_for_the_end(self, job: Job, how: str) -> None:
        for _ in range(MOST_STEPS):
            if job.ended:
                return
            self._step(job)
        raise AssertionError(f"{self!r}: the {how} does not end")

    def _started(self) -> Job:
        parallelism = self._random.randint(1, 4)
        config = Config(
            parallelism=parallelism,
            state_backend="memory",
            checkpoint_interval=self._random.choice([1, 5, 20]),
            batch_rows=self._random.choice([1, 2, 5, 40]),
            tolerated_checkpoint_failures=10**6,
        )
        plans = compile(self.topology, parallelism=parallelism, bind={**self._sources, **self._sinks})
        job = Job(plans.physical, config, self._environment, clock=self._clock, seed=self._random.getrandbits(30))
        before = deploy.CHANNEL_BATCHES
        deploy.CHANNEL_BATCHES = self._random.choice([1, 1, 2, 8])
        try:
            job.open()
        finally:
            deploy.CHANNEL_BATCHES = before
        self.resumed += list(self._environment.completed)[-1:]
        self._trace.begin(f"parallelism {parallelism}", self._sinks)
        return job


class FailingStorage(MemoryStorage):
    """Fails now and then: when a checkpoint begins, when a store's part is sealed, before and after it is published."""

    def __init__(self, chance: random.Random, share: float) -> None:
        super().__init__()
        self.chance, self.share, self.count = chance, share, 0

    def fail(self) -> None:
        if self.chance.random() < self.share:
            self.count += 1
            raise StateError("the disk is full")

    def begin(self, checkpoint_id: int) -> None:
        self.fail()
        super().begin(checkpoint_id)

    def target(self, checkpoint_id: int, store: str) -> Any:
        target = super().target(checkpoint_id, store)
        if target is not None:
            seal = target.seal

            def failing() -> Any:
                self.fail()
                return seal()

            target.seal = failing  # type: ignore[method-assign]
        return target

    def publish(self, checkpoint_id: int, manifest: bytes) -> None:
        self.fail()
        super().publish(checkpoint_id, manifest)
        self.fail()
