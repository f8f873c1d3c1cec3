"""The live page in a browser: it shows what `Run.metrics` says, and what is wrong can be found on it."""

from __future__ import annotations

import os
import time

import pytest

from streamdsl import Config, Processor, Topology, col, memory
from tests.tables.jobs import ROWS, SCHEMA, Held, bank

from .browser import PROGRAM, Browser


@pytest.fixture(scope="module")
def chromium():
    if PROGRAM is None:
        if os.environ.get("STREAMDSL_REQUIRE_BROKER") == "1":
            pytest.fail("Chromium is required here, and there is none")
        pytest.skip("there is no Chromium")
    with Browser() as browser:
        yield browser


def number(text):
    return int(text.replace(",", ""))


def test_the_page_shows_what_the_metrics_say(chromium, tmp_path):
    source = Held(ROWS)
    topology = bank(source=source)
    run = topology.start(Config(checkpoint_interval="100ms", parallelism=2))
    try:
        with run.ui() as page:
            chromium.requests.clear()
            chromium.open(page.address)
            wanted = f"document.querySelector('#records-in')?.innerText === '{len(ROWS) + 2}'"
            chromium.until(f"{wanted} && document.querySelectorAll('#history tbody tr').length > 1")
            figures = run.metrics()
            written = sum(figures["sinks"].values())
            chromium.until(f"document.querySelector('#records-out').innerText.replaceAll(',', '') === '{written}'")
            assert chromium.text("#job") == "bank" and chromium.text("#phase") == "running"
            boxes = chromium.value("document.querySelectorAll('#picture rect.box').length")
            assert boxes == len(run.plan.stages)
            table = chromium.text("#figures")
            assert all(name in table for name in figures["operators"])
            assert chromium.value("document.querySelectorAll('#tasks tbody tr').length") == len(figures["tasks"])
            assert chromium.value("document.querySelectorAll('#plans details').length") == 4
            assert "parallelism" in chromium.text("#settings")
            first = chromium.value("Number(document.body.dataset.looks)")
            chromium.until(f"Number(document.body.dataset.looks) > {first}")
            assert chromium.errors == [] and all(address.startswith(page.address) for address in chromium.requests), chromium.requests
    finally:
        source.over.set()
        run.wait()


def test_it_can_be_used_by_keyboard_in_the_dark_and_when_narrow(chromium):
    source = Held(ROWS)
    run = bank(source=source).start(Config(parallelism=2))
    try:
        with run.ui() as page:
            chromium.open(page.address, width=400, dark=True)
            chromium.until("document.body.dataset.looks")
            assert chromium.value("document.documentElement.scrollWidth") <= 400
            assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
            chromium.press("Tab")
            assert chromium.value("document.activeElement.className") == "skip"
            for _ in range(60):
                chromium.press("Tab")
                if chromium.value("document.activeElement.tagName") == "SUMMARY":
                    break
            chromium.press("Enter")
            assert chromium.value("document.querySelectorAll('details[open]').length") == 1
            chromium.open(page.address)
            chromium.until("document.body.dataset.looks")
            assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        source.over.set()
        run.wait()


class Slow(Processor):
    """Holds everything up."""

    output = {"n": int}

    def process(self, row, ctx):
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        yield {"n": row.n}


def test_what_holds_the_others_up_is_named(chromium):
    rows = [{"account": f"a{i % 7}", "n": i, "amount": i, "at": i} for i in range(60_000)]
    topology = Topology("slow")
    topology.stream(memory("moves", SCHEMA, rows), timestamp="at", name="moves").key_by("account").process(Slow, name="slow").to(
        memory("out")
    )
    run = topology.start(Config(batch_rows=50, parallelism=2))
    try:
        with run.ui() as page:
            chromium.open(page.address)
            said = chromium.until("document.querySelector('#tasks td.bad')?.innerText")
            assert "slow" in said and "holds up" in said
            assert chromium.value("document.querySelectorAll('#picture rect.holds').length") >= 1
    finally:
        run.abandon()


def test_rows_late_records_and_failures_of_checkpoints_are_shown(chromium, tmp_path, monkeypatch):
    rows = [{"account": "a", "n": i, "amount": i, "at": at} for i, at in enumerate([0, 100_000, 5, 100_001])]
    source = Held(rows)
    topology = Topology("late")
    moves = topology.stream(source, timestamp="at", disorder="1s", name="moves")
    moves.deduplicate(on="n", within="1s", name="once").select("n", text=col("account") + "<b>").to(memory("out"))
    run = topology.start(Config(checkpoint_interval="150ms", checkpoint_failure_timeout="1h"))
    job = run._job
    monkeypatch.setattr(
        job.coordinator._storage, "publish", lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    try:
        with run.ui() as page:
            chromium.open(page.address)
            chromium.until("document.querySelector('#late')?.innerText === '1'")
            assert "No space left" in chromium.until("document.querySelector('#history td.bad')?.innerText")
            assert "No space left" in chromium.until("document.querySelector('#log tbody')?.innerText")
            assert number(chromium.text("#failed")) >= 1
    finally:
        monkeypatch.undo()
        source.over.set()
        run.wait()


def test_rows_are_shown_where_that_was_asked_for(chromium):
    source = Held(ROWS)
    topology = Topology("rows")
    topology.stream(source, timestamp="at", name="moves").select("n", text=col("account") + "<b>x</b>").to(memory("out"))
    for rows in (True, False):
        source.over.clear()
        run = topology.start(Config())
        try:
            with run.ui(rows=rows) as page:
                run._job.tasks  # noqa: B018 - the page may be opened at any time
                chromium.open(page.address)
                chromium.until("document.body.dataset.looks")
                said = chromium.until("document.querySelector('#samples').innerText")
                if not rows:
                    assert "--ui-rows" in said
        finally:
            source.over.set()
            run.wait()
