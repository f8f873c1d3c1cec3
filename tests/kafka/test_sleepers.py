"""Workers that stand still for longer than the cluster waits for them: nothing is lost or seen twice, and no replacement is disturbed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest

from examples.fraud import data
from streamdsl import Config, ConnectorError, kafka
from streamdsl.connectors.kafka.outbox import Outbox, Record
from streamdsl.connectors.kafka.transaction import KafkaTransaction
from streamdsl.connectors.transaction import Marker
from tests.crash.campaign import FAST, SLOW, Settings, kill
from tests.kafka import crash
from tests.kafka.topics import consume_all, wait_until_settled

#: Longer than a checkpoint takes on a busy machine, and short enough to be slept through.
TIMEOUT_MS = 3_000
#: The broker looks twice a second for transactions whose time is over.
SLEEP_S = TIMEOUT_MS / 1000 + 2.0
REPLACED = "another worker runs this job now, and this one has been fenced off"
LEFT_ALONE = "no other worker has replaced it"


class Sleepers:
    """A job and a copy of it, each with its own state directory, over the same topics."""

    def __init__(self, bootstrap: str, source: str, directory: pathlib.Path) -> None:
        sample = data.generate(directory / "data", 18_000, 1_800, 5)
        crash.fill(bootstrap, sample, source)
        self.first, self.second = (
            crash.KafkaRound(_made(directory / name), random.Random(5), bootstrap, sample, 1_500, source) for name in ("first", "second")
        )
        self.second.sink = self.first.sink
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, run: crash.KafkaRound, interval: str = FAST) -> subprocess.Popen[bytes]:
        self.processes.append(run.start(Settings(interval=interval)))
        return self.processes[-1]

    def close(self) -> None:
        for process in self.processes:
            kill(process)
        self.first.close()
        self.second.close()


@pytest.fixture
def sleepers(broker, topic_name, tmp_path):
    with contextlib.closing(Sleepers(broker.bootstrap, f"{topic_name}-transactions", tmp_path)) as made:
        yield made


@pytest.mark.crash
@pytest.mark.parametrize("transaction", ["open", "over"])
def test_who_was_stopped_and_replaced_leaves_by_itself(sleepers, transaction):
    """It slept while another took over with a copy of its state: it ends, nothing of it is seen, and the other is not disturbed."""
    run, other = sleepers.first, sleepers.second
    if transaction == "over":
        run.more = other.more = {"transaction-timeout-ms": str(TIMEOUT_MS)}
    sleeper = sleepers.start(run)
    _checkpoints(run, sleeper, 5)
    _stop(sleeper)
    if transaction == "over":
        time.sleep(SLEEP_S)
    shutil.copytree(run.state, other.state)
    replacement = sleepers.start(other)
    _checkpoints(other, replacement, 5)
    os.killpg(sleeper.pid, signal.SIGCONT)
    assert sleeper.wait(30) == 1
    assert replacement.poll() is None, "the replacement is to run while the other wakes"
    assert replacement.wait(60) == 0
    said = _said(run)
    assert REPLACED in said.partition("error: ")[2], said
    assert f"by process {replacement.pid} on" in said, said
    # Its records may have timed out before it heard of the other: it may have begun anew, and found it then.
    assert transaction == "over" or "started again" not in said, said
    assert "fenced" not in _said(other)
    assert other.wrong() == ""


@pytest.mark.crash
def test_who_was_stopped_and_not_replaced_goes_on_by_itself(sleepers):
    run = sleepers.first
    run.more = {"transaction-timeout-ms": str(TIMEOUT_MS)}
    sleeper = sleepers.start(run, SLOW)
    _checkpoints(run, sleeper, 2)
    time.sleep(0.5)  # an alert has come since: a transaction in which nothing is written does not time out
    _stop(sleeper)
    time.sleep(SLEEP_S)
    os.killpg(sleeper.pid, signal.SIGCONT)
    assert sleeper.wait(60) == 0, _said(run)
    assert "the run failed and is started again" in _said(run), _said(run)
    assert run.wrong() == ""


class Workers:
    """Transactions of one job, as its workers have them."""

    def __init__(self, bootstrap: str, sink: str) -> None:
        described = kafka(sink, partitions=1, options={"transaction.timeout.ms": TIMEOUT_MS})
        self.sink, self._job = sink, f"job-{sink}"
        self._described = described.configured(Config(broker=bootstrap, checkpoint_interval="1s"), self._job)
        self.made: list[KafkaTransaction] = []

    def transaction(self) -> KafkaTransaction:
        made = self._described.new_transaction(self._job, [self._described])
        assert isinstance(made, KafkaTransaction)
        self.made.append(made)
        return made

    def write(self, transaction: KafkaTransaction, value: bytes) -> None:
        outbox = Outbox()
        outbox.add([Record(self.sink, None, value, 0, None)])
        assert transaction.take(outbox)

    def close(self) -> None:
        for transaction in self.made:
            transaction.close()


@pytest.fixture
def workers(broker, sink):
    with contextlib.closing(Workers(broker.bootstrap, sink)) as made:
        yield made


def test_a_transaction_that_the_cluster_has_ended(broker, workers):
    """The client hears that it was fenced by a newer one. There is none, and so it may begin again."""
    slow = workers.transaction()
    slow.open("slow")
    slow.begin(Marker(0, ""))
    workers.write(slow, b"never seen")
    slow._producer.flush(10)  # in time: what comes too late is the commit
    time.sleep(SLEEP_S)
    with pytest.raises(ConnectorError, match=LEFT_ALONE) as told:
        slow.commit(Marker(1, "one"))
    assert told.value.context["recoverable"] and f"{TIMEOUT_MS} ms" in str(told.value)
    slow.close()
    again = workers.transaction()
    assert again.open("slow", again=True) == Marker(0, "")
    again.begin(Marker(0, ""))
    workers.write(again, b"seen")
    again.commit(Marker(1, "one"))
    again.close()
    wait_until_settled(broker.bootstrap, workers.sink)
    assert [record.value for record in consume_all(broker.bootstrap, workers.sink)] == [b"seen"]


def test_who_begins_again_does_not_take_the_job_from_its_replacement(broker, workers):
    """Whatever it failed of. The other may not have committed a checkpoint yet: that it has begun is enough."""
    first, second = workers.transaction(), workers.transaction()
    first.open("first")
    first.begin(Marker(0, ""))
    first.commit(Marker(1, "one"))
    assert second.open("second") == Marker(1, "one")
    again = workers.transaction()
    with pytest.raises(ConnectorError, match=rf"{REPLACED} \(by process second\)") as told:
        again.open("first", again=True)
    assert told.value.context["replaced"] and not told.value.context.get("recoverable")
    second.begin(Marker(1, "one"))
    workers.write(second, b"seen")
    second.commit(Marker(2, "two"))
    with pytest.raises(ConnectorError, match=REPLACED) as told:
        first.commit(Marker(2, "also two"))
    assert told.value.context["replaced"]
    assert [record.value for record in consume_all(broker.bootstrap, workers.sink)] == [b"seen"]


def test_who_was_replaced_hears_nothing_else_however_often_it_writes(workers):
    """The client also gives up what it had in its queue, which by itself would be a reason to begin again."""
    first, second = workers.transaction(), workers.transaction()
    first.open("first")
    first.begin(Marker(0, ""))
    second.open("second")
    told, until = [], time.monotonic() + 30
    while len(told) < 50:
        assert time.monotonic() < until, f"it has heard of it {len(told)} times"
        try:
            workers.write(first, b"never seen")
        except ConnectorError as error:
            told.append(error)
        time.sleep(0.002)
    assert {(error.context.get("replaced"), error.context.get("recoverable")) for error in told} == {(True, None)}, set(map(str, told))


def _said(run: crash.KafkaRound) -> str:
    return (run.directory / "log.txt").read_text()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop it, and wait until its last thread stands: the signal is sent at once and heard a little later."""
    os.killpg(process.pid, signal.SIGSTOP)
    until = time.monotonic() + 10
    while {_state_of(thread) for thread in pathlib.Path(f"/proc/{process.pid}/task").iterdir()} != {"T"}:
        assert time.monotonic() < until, "it does not stop"
        time.sleep(0.01)


def _state_of(thread: pathlib.Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


def _checkpoints(run: crash.KafkaRound, process: subprocess.Popen[bytes], more: int) -> None:
    """Wait until the process has taken so many."""
    known, until = run.checkpoints()[0], time.monotonic() + 30
    taken: set[str] = set()
    while len(taken) < more:
        assert process.poll() is None and time.monotonic() < until, f"it took the checkpoints {taken} alone"
        time.sleep(0.02)
        taken |= run.checkpoints()[0] - known


def _made(directory: pathlib.Path) -> pathlib.Path:
    directory.mkdir()
    return directory
