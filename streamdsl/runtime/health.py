"""Whether a run is well: judged from its figures, looked at again and again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["STALLED_AFTER_S", "Health", "Watched"]

_log = logging.getLogger("streamdsl")

#: So long may a partition that has records waiting make no progress.
STALLED_AFTER_S: Final = 60.0
#: So many intervals may pass without a checkpoint, and one more may take its time-out.
_INTERVALS: Final = 3


class Watched(Protocol):
    """What of a `Run` is looked at."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether it has ended; raise what it failed of."""

    def metrics(self) -> dict[str, Any]:
        """Return its figures."""

    @property
    def finished(self) -> bool:
        """Whether all input has ended."""


@dataclass(slots=True)
class _Split:
    taken: int
    since: float


class Health:
    """Looks at a run's figures and says what is wrong.

    Parameters
    ----------
    run : Run
    stalled_after_s : float
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, run: Watched, *, stalled_after_s: float = STALLED_AFTER_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._stalled_after_s = stalled_after_s
        self._splits: dict[tuple[str, str], _Split] = {}
        self._last_id: int | None = None
        self._checkpoint_at = clock()
        self.metrics: Mapping[str, Any] = {}
        self.problems: tuple[str, ...] = ()
        self.status = "starting"

    @property
    def checkpoint_age_s(self) -> float:
        """Time since the last checkpoint, or since the start."""
        return self._clock() - self._checkpoint_at

    def look(self) -> None:
        """Take the figures as they are now and judge them."""
        # Read first: what ends meanwhile is then seen as ended, with the figures from before.
        self.metrics = self._run.metrics()
        ended, failed = self._end()
        now = self._clock()
        last_id = self.metrics["checkpoints"]["last_id"]
        # Compared, not counted: a run that was started again counts anew.
        if last_id is not None and last_id != self._last_id:
            self._last_id, self._checkpoint_at = last_id, now
        if failed is not None:
            self.problems, self.status = (failed,), "failed"
        elif ended:
            self.problems, self.status = (), "finished" if self._run.finished else "stopped"
        else:
            self.problems = (*self._late_checkpoint(now), *self._stalled(now))
            self.status = "unhealthy" if self.problems else "running"

    def cannot_look(self, error: Exception) -> None:
        """Note that the figures could not be had: what was seen before says nothing of now."""
        _log.warning("the figures of the run cannot be read: %s", error)
        _log.debug("where it came from", exc_info=error)
        self.problems, self.status = (f"the figures cannot be read: {type(error).__name__}, see the log",), "unhealthy"

    def _end(self) -> tuple[bool, str | None]:
        try:
            return self._run.wait(0), None
        except Exception as error:  # noqa: BLE001 - whatever it failed of
            # Its kind alone: the text of an error may hold a record.
            return True, f"the run has failed with {type(error).__name__}: see its log"

    def _late_checkpoint(self, now: float) -> tuple[str, ...]:
        checkpoints = self.metrics["checkpoints"]
        allowed_s = (_INTERVALS * checkpoints["interval_ms"] + checkpoints["timeout_ms"]) / 1000
        age_s = now - self._checkpoint_at
        return (f"no checkpoint has completed for {age_s:.0f} s, {allowed_s:g} s are allowed",) if age_s > allowed_s else ()

    def _stalled(self, now: float) -> tuple[str, ...]:
        """Return which partitions hold records and have not moved, and whether it is we or the transaction of a writer."""
        stalled = []
        seen = {}
        for task in self.metrics["tasks"]:
            for split, taken in task.get("splits", {}).items():
                lag, open_ = task.get("lag", {}).get(split), task.get("uncommitted", {}).get(split)
                if not lag and not open_:
                    continue  # nothing waits there, or nobody knows
                key = (str(task["id"]), str(split))
                known = self._splits.get(key)
                seen[key] = known if known is not None and known.taken == taken else _Split(taken, now)
                waited_s = now - seen[key].since
                if waited_s < self._stalled_after_s:
                    continue
                if lag:
                    stalled.append(f"partition {split} has {lag} records waiting and has made no progress for {waited_s:.0f} s")
                else:
                    stalled.append(
                        f"partition {split} has {open_} records behind a transaction of its writer that has been open for {waited_s:.0f} s"
                    )
        self._splits = seen
        return tuple(stalled)

    def report(self) -> dict[str, Any]:
        """Return what was found, for people and programs."""
        return {
            "healthy": not self.problems,
            "status": self.status,
            "problems": list(self.problems),
            "job": self.metrics.get("job"),
            "checkpoint": {"last_id": self._last_id, "age_s": round(self.checkpoint_age_s, 3)},
        }
