"""Rows as requests: retries, idempotency keys, refusals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from streamdsl import Config, ConnectorError, DataError, Topology, TopologyError, dead_letter, http, memory
from tests import silence


def sending(sink, n=20, errors=None):
    topology = Topology("hooks")
    topology.stream(memory("rows", schema={"id": int}, rows=[{"id": i} for i in range(n)])).to(sink, name="out", errors=errors)
    return topology


def test_each_row_is_a_request(receiver):
    sending(http(receiver.url, headers={"Authorization": "Bearer x"})).run()
    assert sorted(body["id"] for body in receiver.bodies()) == list(range(20))
    assert {headers["Authorization"] for _, headers in receiver.requests} == {"Bearer x"}
    assert len({headers["Idempotency-Key"] for _, headers in receiver.requests}) == 20


def test_requests_run_side_by_side_and_no_more_than_allowed(receiver):
    def slow(body, tries):
        time.sleep(0.05)
        return 200, {}

    receiver.answer = slow
    sending(http(receiver.url, concurrency=4)).run()
    assert 1 < receiver.most_at_once <= 4


def test_what_fails_for_a_while_is_tried_again_with_the_same_key(receiver):
    receiver.answer = lambda body, tries: (503 if body["id"] % 3 == 0 and tries < 3 else 200, {})
    sending(http(receiver.url)).run()
    assert sorted(body["id"] for body in receiver.bodies()) == list(range(20))
    assert sorted(receiver.tries.values()) == [1] * 13 + [3] * 7


def test_retry_after_is_kept_to(receiver):
    times: list[float] = []

    def answer(body, tries):
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}) if tries == 1 else (200, {})

    receiver.answer = answer
    sending(http(receiver.url), n=1).run()
    assert times[1] - times[0] >= 1


def test_a_refused_row_follows_the_policy(receiver):
    receiver.answer = lambda body, tries: (422 if body["id"] == 7 else 200, {})
    with pytest.raises(DataError, match="refuses row"):
        sending(http(receiver.url)).run()
    receiver.requests.clear()
    receiver.tries.clear()
    letters = memory("letters")
    sending(http(receiver.url), errors=dead_letter(letters)).run()
    assert sorted(body["id"] for body in receiver.bodies()) == [i for i in range(20) if i != 7]
    assert len(letters.rows()) == 1


def test_a_receiver_that_is_away_for_longer_than_a_row_is_tried(receiver, tmp_path):
    receiver.answer = lambda body, tries: (500, {})
    run = sending(http(receiver.url, retry="100ms")).start(Config(state_dir=tmp_path))
    time.sleep(0.5)
    receiver.answer = lambda body, tries: (200, {})
    run.wait(60)
    assert {body["id"] for body in receiver.bodies()} == set(range(20))


WORKER = """
import sys
from streamdsl import Config, Topology, http, memory

topology = Topology("hooks")
rows = memory("rows", schema={"id": int}, rows=[{"id": i} for i in range(20)])
topology.stream(rows).to(http(sys.argv[1], retry="1h"), name="out")
topology.run(Config(stop_timeout="1s"))
print("stopped", flush=True)
"""


def test_a_process_leaves_whatever_the_receiver_asks_for(receiver):
    """It has asked for an hour of patience; the interpreter does not wait for the threads that have it."""
    receiver.answer = lambda body, tries: (429, {"Retry-After": "1800"})
    process = subprocess.Popen([sys.executable, "-c", WORKER, receiver.url], stdout=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 60
        while not receiver.tries:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        assert "stopped" in out
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_token_ends_the_run_whatever_becomes_of_bad_rows(receiver, status):
    receiver.answer = lambda body, tries: (status, {})
    letters = memory("letters")
    with pytest.raises(ConnectorError, match="look at headers="):
        sending(http(receiver.url), errors=dead_letter(letters)).run()
    assert not letters.rows()


def test_nothing_of_the_url_but_its_place_is_shown(receiver):
    receiver.answer = lambda body, tries: (400, {})
    with pytest.raises(DataError) as caught:
        sending(http(receiver.url, headers={"X-Key": "hunter2secret"}), n=1).run()
    assert "hunter2secret" not in f"{caught.value} {caught.value.__cause__!r} {http(receiver.url)!r}"


@pytest.mark.parametrize("url", ["hooks.example.org", "ftp://x/y", "http://", "http://x:y/"])
def test_urls_that_are_none(url):
    with pytest.raises(TopologyError):
        http(url)


def test_a_stop_does_not_wait_for_a_receiver_that_says_nothing(tmp_path):
    link = silence.Link()
    sink = http(f"http://127.0.0.1:{link.port}", timeout="1m", retry="100ms")
    silence.check_stop(silence.run_of(tmp_path, lambda rows: rows.to(sink, name="out")), link, checkpoints=0)
