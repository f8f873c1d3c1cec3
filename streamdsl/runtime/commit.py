"""The commit point of a job whose results become visible by a transaction (see `connectors.base.Transaction`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.recovery import Checkpoint
from streamdsl.config import Config
from streamdsl.connectors.base import Sink
from streamdsl.connectors.transaction import Marker, Transaction
from streamdsl.errors import ConnectorError, StateError
from streamdsl.physical.node import PhysicalPlan, PhysicalSink

__all__ = ["CommitPoint", "transactional_sinks"]

log = logging.getLogger("streamdsl")


def transactional_sinks(plan: PhysicalPlan) -> list[Sink]:
    """Return the sinks of a plan whose rows a transaction makes visible, each once."""
    found: list[Sink] = []
    for stage in plan.stages:
        for operator in stage.operators:
            if isinstance(operator, PhysicalSink) and operator.sink.transactional and operator.sink not in found:
                found.append(operator.sink)
    return found


class CommitPoint:
    """One transaction and what the job knows of it.

    The checkpoint that the marker names is the only one that fits what has become visible: an older one would write rows again,
    a newer one would leave rows out.

    Parameters
    ----------
    plan : PhysicalPlan
        With at least one transactional sink.
    config : Config
    worker : str
        Who runs the job: unlike any other that has run it or will.
    again : bool
        Whether the job is started again within its process: what was asked for its first start has been done then.

    Attributes
    ----------
    pending : int | None
        The checkpoint that is being committed.
    """

    def __init__(self, plan: PhysicalPlan, config: Config, worker: str, *, again: bool = False) -> None:
        sinks = transactional_sinks(plan)
        self.fresh = config.state_dir is None and not again
        self.accepted = None if again else config.accept_duplicates_from
        self.transaction: Transaction = sinks[0].new_transaction(plan.name, sinks)
        self.pending: int | None = None
        self._job, self._worker, self._again = plan.name, worker, again
        self._marker: Marker | None = None
        self._remembered: int | None = None  # the checkpoint from which duplicates were accepted last

    def look(self) -> None:
        """Read what was committed last. Whoever runs the job goes on: this start may yet be refused."""
        self._marker = self.transaction.look(self._worker, again=self._again)

    def take_over(self) -> None:
        """Fence whoever ran the job before; all that could refuse this start has been looked at.

        Raises
        ------
        StateError
            Another checkpoint has been committed since `look`; ``context["moved"]``: it is to be begun with that one.
        """
        found = self.transaction.open(self._worker, again=self._again)
        if found != self._marker or (found is not None and self._marker is not None and found.elsewhere != self._marker.elsewhere):
            raise self._moved()
        self._marker = found

    def _moved(self) -> StateError:
        return StateError(
            f"the worker that ran {self._job!r} committed another checkpoint while this one started",
            remedy="start again",
            moved=True,
            recoverable=True,
        )

    def choose(self, published: Sequence[int]) -> int:
        """Return the checkpoint to restore, 0 for none.

        Raises
        ------
        StateError
            The marker and the state directory do not fit each other.
        """
        marker = self._marker
        if self.fresh:
            return 0  # without a state directory: whatever an earlier run has written stays, and is written again
        if self.accepted is not None:
            if marker is None or marker.accepted != self.accepted:
                return self._accepted(self.accepted)
            # It stands in a unit file, say. It counts again only where the job could not go on without it.
            if marker.checkpoint_id in (0, *published):
                log.warning("accept_duplicates_from=%d has counted at an earlier start and is ignored: take it out", self.accepted)
                self.accepted = None
            else:
                return self._accepted(self.accepted)
        wrong = self._misfit(published)
        if wrong is not None:
            self._look_again(wrong)
            wrong = self._misfit(published)
        if wrong is not None:
            raise wrong
        marker = self._marker
        return 0 if marker is None or (marker.elsewhere and not published) else marker.checkpoint_id

    def _misfit(self, published: Sequence[int]) -> StateError | None:
        """Return why the job cannot go on from what was committed last."""
        marker = self._marker
        if marker is not None and marker.elsewhere and not published:
            return None
        if marker is None and published:
            return StateError(
                f"the state directory has checkpoints of {self._job!r}, but the cluster knows no commit of it: the topic of its "
                "commits was deleted, or it is another cluster",
                remedy=_way_out(f"{published[-1]} goes on from the last checkpoint"),
            )
        wanted = 0 if marker is None else marker.checkpoint_id
        if wanted and wanted not in published:
            return StateError(
                f"{self._job!r} has committed checkpoint {wanted} to the cluster, and the state directory does not have it "
                f"(it has: {', '.join(map(str, published)) or 'none'})",
                remedy="name the state directory that the job had, or " + _way_out("0 begins anew, and writes everything again"),
            )
        return None

    def _look_again(self, wrong: StateError) -> None:
        """Read the marker once more, when no commit is under way: one that was said to be done may not have been seen."""
        try:
            self._marker = self.transaction.look(self._worker, again=self._again, settled=True)
        except ConnectorError as error:
            raise StateError(
                f"{wrong.message}; but a commit is under way that may be a later one: {error.message}",
                remedy="start again in a while",
                recoverable=True,
            ) from error

    def _accepted(self, checkpoint_id: int) -> int:
        log.warning("accept_duplicates_from=%d: what has been written behind this checkpoint is written again", checkpoint_id)
        return checkpoint_id

    def check(self, restored: Checkpoint | None) -> None:
        """Refuse a checkpoint that has the number of the committed one, and is another."""
        if restored is None or self._marker is None or self.accepted is not None:
            return
        if self._marker.checkpoint_id == restored.id and self._marker.digest != restored.digest:
            wrong = StateError(
                f"checkpoint {restored.id} of the state directory is not the one that {self._job!r} has committed to the cluster",
                remedy="name the state directory that the job had, or " + _way_out(f"{restored.id} goes on from this one"),
            )
            seen = self._marker
            self._look_again(wrong)
            raise wrong if self._marker == seen else self._moved()

    def begin(self, restored: Checkpoint | None) -> None:
        """Begin the first transaction."""
        if self.accepted is not None:
            self._remembered = self.accepted
        elif self._marker is not None:
            self._remembered = self._marker.accepted
        self.transaction.begin(self._marker_of(0, "") if restored is None else self._marker_of(restored.id, restored.digest))

    def _marker_of(self, checkpoint_id: int, digest: str) -> Marker:
        return Marker(checkpoint_id, digest, accepted=self._remembered)

    def start(
        self, manifest: Manifest, defer: Callable[[Callable[[], None]], None], done: Callable[[int, BaseException | None], None]
    ) -> None:
        """Commit a published checkpoint, in whatever thread `defer` chooses; `done` is told from there."""
        self.pending = manifest.checkpoint_id
        marker = self._marker_of(manifest.checkpoint_id, manifest.digest)

        def work() -> None:
            try:
                self.transaction.commit(marker)
            except Exception as error:  # noqa: BLE001 - the edge of the thread: the job ends with it
                done(marker.checkpoint_id, error)
            else:
                done(marker.checkpoint_id, None)

        defer(work)


def _way_out(what: str) -> str:
    return f"accept that rows are written twice: Config(accept_duplicates_from=...), where {what}"
