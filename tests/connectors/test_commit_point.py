"""What a job goes on from: the commit that was made last, though it may not be seen yet when the job starts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from streamdsl import Config, StateError
from streamdsl.connectors.transaction import Marker
from streamdsl.errors import ConnectorError
from streamdsl.runtime import commit


class Cluster:
    """Shows `seen`; and `settled`, where it is to be: a marker, None, or an error."""

    def __init__(self, seen, settled):
        self.seen, self.settled = seen, settled

    def look(self, worker, *, again=False, settled=False):
        if settled and isinstance(self.settled, Exception):
            raise self.settled
        return self.settled if settled else self.seen


@pytest.fixture
def point(monkeypatch, tmp_path):
    def made(seen, settled):
        sink = SimpleNamespace(new_transaction=lambda job, sinks: Cluster(seen, settled))
        monkeypatch.setattr(commit, "transactional_sinks", lambda plan: [sink])
        found = commit.CommitPoint(SimpleNamespace(name="job"), Config(state_dir=tmp_path), "me")
        found.look()
        return found

    return made


FOUR, FIVE = Marker(4, "four"), Marker(5, "five")
OPEN = ConnectorError("a transaction has not ended within 15 s", remedy="start again", recoverable=True)


@pytest.mark.parametrize("seen", [FOUR, None], ids=["older", "none"])
def test_a_commit_that_is_not_seen_yet_is_waited_for(point, seen):
    assert point(seen, FIVE).choose([5, 6]) == 5
    with pytest.raises(StateError, match="but a commit is under way that may be a later one: a transaction has not ended") as refused:
        point(seen, OPEN).choose([5, 6])
    assert refused.value.context["recoverable"]
    with pytest.raises(StateError) as refused:
        point(seen, seen).choose([5, 6])
    assert not refused.value.context.get("recoverable")
    assert "accept_duplicates_from" in str(refused.value)


def test_what_fits_is_not_waited_for(point):
    assert point(FIVE, OPEN).choose([5, 6]) == 5
    assert point(None, OPEN).choose([]) == 0
    assert point(Marker(4, "four", elsewhere=True), OPEN).choose([]) == 0


def test_a_checkpoint_that_is_not_the_one_that_is_seen(point):
    restored = SimpleNamespace(id=4, digest="another")
    for settled, moved in ((FIVE, True), (Marker(4, "another"), True), (FOUR, None)):
        with pytest.raises(StateError) as refused:
            point(FOUR, settled).check(restored)
        assert refused.value.context.get("moved") is moved
    point(Marker(4, "another"), OPEN).check(restored)
