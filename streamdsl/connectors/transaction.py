"""The contract of a commit point: where the results of a job become visible, for all sinks that share it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

__all__ = ["Marker", "Transaction"]


@dataclass(frozen=True, slots=True)
class Marker:
    """What a transaction says has been committed last: a checkpoint and the digest of its manifest. Checkpoint 0 is none yet.

    `elsewhere`: it was committed to other places than the job writes to now. It is what a job goes on from that has got
    another sink; a job that begins anew in other places does not have to mind it.
    `accepted`: the checkpoint that `Config.accept_duplicates_from` named when it counted last.
    """

    checkpoint_id: int
    digest: str
    elsewhere: bool = field(default=False, compare=False)
    accepted: int | None = field(default=None, compare=False)


class Transaction(ABC):
    """Where the results of a job become visible, and so its commit point: one for all sinks that share it.

    Writers put into it what they are given between two barriers, and hold back what comes behind a barrier until its checkpoint
    has been settled. The job calls `look`, opens all that it reads, then `open` and `begin`. For each checkpoint that is
    published it calls `commit`, for each that failed `release`. Where the outcome of a commit is not known, `commit` raises;
    only the marker tells then, and the job starts again from what it says (an error with ``context["recoverable"]``).
    """

    @abstractmethod
    def look(self, worker: str, *, again: bool = False, settled: bool = False) -> Marker | None:
        """Return what was committed last, and disturb nobody who runs the job. Arguments as of `open`.

        A commit that was said to be done may not be seen yet, unless it is to be `settled`: then it is waited for, for a while.

        Raises
        ------
        ConnectorError
            It is to be settled, and is not.
        """

    @abstractmethod
    def open(self, worker: str, *, again: bool = False) -> Marker | None:
        """Fence whoever ran the job before, undo what it left open, and return what it committed last.

        `worker` says who does it. `again`: it has run the job before, and does not take it from another one that has taken over since.
        """

    @abstractmethod
    def begin(self, marker: Marker) -> None:
        """Begin the first transaction; the restored state is that of `marker`, which is committed by itself if it is not the last."""

    @abstractmethod
    def commit(self, marker: Marker) -> None:
        """Commit what was written in front of the checkpoint's barrier, with the marker, and begin the next. May wait for long."""

    @abstractmethod
    def release(self, checkpoint_id: int) -> None:
        """The checkpoint has failed: what stood in front of its barrier goes with the next. Called from any thread."""

    @abstractmethod
    def close(self) -> None:
        """Let go; what is not committed never becomes visible."""
