"""Whether a run that has failed is started again, and when."""

from __future__ import annotations

import time

from streamdsl.errors import StateError, StreamError

#: Back-off between restarts.
FIRST_RESTART_S, MOST_RESTART_S = 0.5, 30.0


class Restarts:
    """The restarts of one run.

    Parameters
    ----------
    left : int
        How often a failure of the job itself may be followed by another start.
    failure_timeout_s : float
        How long a database that cannot write is opened anew without a checkpoint between.
    """

    def __init__(self, left: int, failure_timeout_s: float) -> None:
        self._left = left
        self._failure_timeout_s = failure_timeout_s
        self._failing_since: float | None = None
        self._pause_s = FIRST_RESTART_S

    def allows(self, error: BaseException, *, completed: bool) -> bool:
        """Whether another start may follow `error`; `completed` says that the start before it has completed a checkpoint."""
        if _replaced(error):
            return False
        if not _passes(error) and not self._mends(error, completed):
            if self._left <= 0:
                return False
            self._left -= 1
        if completed:
            self._pause_s = FIRST_RESTART_S
        return True

    def pause_s(self) -> float:
        """Return how long to wait before the next start: twice as long each time."""
        pause = self._pause_s
        self._pause_s = min(2 * pause, MOST_RESTART_S)
        return pause

    def _mends(self, error: BaseException, completed: bool) -> bool:
        """Whether a database, or an output, that could not write is to be opened anew, as long as failed checkpoints are tolerated."""
        now = time.monotonic()
        if completed:
            self._failing_since = None
        reopen = isinstance(error, StreamError) and bool(error.context.get("reopen"))
        # What a start raises meanwhile is of the same disk.
        if not reopen and (self._failing_since is None or not isinstance(error, StateError | OSError)):
            return False
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since < self._failure_timeout_s


def _passes(error: BaseException) -> bool:
    """Whether it is the outside world's, and passes: a broker that is away, a commit whose outcome the next start finds out."""
    return isinstance(error, StreamError) and bool(error.context.get("recoverable"))


def _replaced(error: BaseException) -> bool:
    """Whether another worker runs the job now: starting again would take it back."""
    return isinstance(error, StreamError) and bool(error.context.get("replaced"))
