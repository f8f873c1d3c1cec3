"""The live page in a browser: it shows what `Run.metrics` says, and what is wrong can be found on it."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from streamdsl import Config, Processor, Topology, col, files, memory, tumbling
from streamdsl.connectors.base import Source
from tests.held import HeldReader
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


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Partitions(Source):
    """Two live partitions, each a file. Of the second one `waiting` records are known to wait; it begins when the test says so."""

    bounded = False
    name = "moves"
    rows = None
    locates_rows = True

    def __init__(self, directory, rows, waiting=0):
        self.halves = {f"moves-{part}": files(written(directory / f"{part}.jsonl", some), SCHEMA) for part, some in enumerate(rows)}
        self.schema, self.waiting = self.halves["moves-0"].schema, waiting
        self.begun, self.over = threading.Event(), threading.Event()

    def splits(self):
        return list(self.halves)

    def open_split(self, split, position, columns):
        inner = self.halves[split].open_split(self.halves[split].splits()[0], position, columns)
        return Second(inner, self) if split == "moves-1" else HeldReader(inner, self)


class Second(HeldReader):
    def read(self, max_rows):
        return super().read(max_rows) if self.source.begun.is_set() else None

    def lag(self):
        return self.source.waiting

    def caught_up(self):
        return not self.source.waiting


def test_which_partition_stands_still_is_named(chromium, tmp_path):
    source = Partitions(tmp_path, [ROWS[:10]] * 2, waiting=7)
    topology = Topology("standing")
    topology.stream(source, timestamp="at", name="moves").select("n").to(memory("out"))
    run = topology.start(Config())
    try:
        with run.ui() as page:
            chromium.open(page.address)
            said = chromium.until("document.querySelector('#splits td.bad')?.parentElement.innerText")
            assert said.startswith("moves-1") and "stands still for" in said and "\t7\t" in said
            assert chromium.value("document.querySelectorAll('#splits td.bad').length") == 1
    finally:
        source.begun.set()
        source.over.set()
        run.wait()


def test_where_late_rows_come_from_is_told(chromium, tmp_path):
    late = [{"account": "b", "n": 9, "amount": 1, "at": at} for at in (2_000_000, 5)]
    source = Partitions(tmp_path, [ROWS, late])
    topology = Topology("late")
    moves = topology.stream(source, timestamp="at", name="moves")
    moves.key_by("account").window(tumbling("1s")).count(name="seconds").to(memory("out"))
    run = topology.start(Config())
    try:
        with run.ui() as page:
            chromium.open(page.address)
            chromium.until("document.body.dataset.looks")
            source.begun.set()
            told = chromium.until("document.querySelector('#log tbody')?.innerText")
            assert "seconds: records that come too late" in told and f"topic {tmp_path / '1.jsonl'}, partition 0, offset 1" in told
            assert "seconds" in chromium.until("document.querySelector('#figures td.warn')?.parentElement.innerText")
    finally:
        source.begun.set()
        source.over.set()
        run.wait()
