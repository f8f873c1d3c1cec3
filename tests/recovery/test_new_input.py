"""A run that has finished is started again: it reads what is new, once, and nothing else."""

from __future__ import annotations

import gzip
import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamdsl import Config, ConnectorError, Topology, count, expanding, files, memory, tumbling


def job(folder, pattern="in/*.csv", *, build=lambda rows: rows, schema=None, **options):
    topology = Topology("daily")
    rows = topology.stream(files(folder / pattern, schema=schema or {"a": str}, **options), name="in")
    build(rows).to(files(folder / "out.jsonl"), name="out")
    return topology


def start(folder, **options):
    """Run the job to its end; return the run and what stands in its output."""
    run = job(folder, **options).run(Config(state_dir=folder / "state"))
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    return run, [line.get("a") for line in lines] if "build" not in options else lines


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.csv").write_text("a\nx\n")
    return tmp_path


def test_a_file_that_came_later_is_read(folder):
    assert start(folder)[1] == ["x"]
    (folder / "in" / "2.csv").write_text("a\ny\n")
    run, found = start(folder)
    assert found == ["x", "y"] and not run.already_finished
    (folder / "in" / "0.csv").write_text("a\nz\n")
    assert start(folder)[1] == ["x", "y", "z"]


def test_lines_that_were_added_are_read(folder):
    start(folder)
    for day in range(3):
        with (folder / "in" / "1.csv").open("a") as file:
            file.write(f"{day}\n")
        assert start(folder)[1] == ["x", *map(str, range(day + 1))]


def test_without_anything_new_it_says_so_and_touches_nothing(folder, caplog):
    (folder / "in" / "empty.csv").write_text("")
    (folder / "in" / "header.csv").write_text("a")
    start(folder)
    before = (folder / "out.jsonl").read_bytes(), sorted(p.name for p in (folder / "state" / "checkpoints").iterdir())
    with caplog.at_level(logging.INFO, "streamdsl"):
        run, _ = start(folder)
    assert run.already_finished and run.finished
    assert "daily had finished, and its sources know of nothing new since" in caplog.text
    assert ((folder / "out.jsonl").read_bytes(), sorted(p.name for p in (folder / "state" / "checkpoints").iterdir())) == before
    with (folder / "in" / "empty.csv").open("a") as file:
        file.write("a\nnow\n")
    assert start(folder)[1] == ["x", "now"]


def test_files_that_were_taken_away_are_no_matter(folder):
    start(folder)
    (folder / "in" / "1.csv").unlink()
    assert start(folder)[0].already_finished
    (folder / "in" / "2.csv").write_text("a\ny\n")
    assert start(folder)[1] == ["x", "y"]


def test_a_last_line_without_its_end_is_not_read_as_two(folder):
    (folder / "in" / "1.csv").write_text("a\nx\n1")
    assert start(folder)[1] == ["x", "1"]
    with (folder / "in" / "1.csv").open("a") as file:
        file.write("\n2")
    assert start(folder)[1] == ["x", "1", "2"]
    with (folder / "in" / "1.csv").open("a") as file:
        file.write("5\n")
    with pytest.raises(ConnectorError, match="record 2 had no line end when it was read, and goes on now"):
        start(folder)


@pytest.mark.parametrize("content", ["a\n", "a\nother\n", "a\ny\nz\n", ""])
def test_a_file_that_shrank_or_was_changed_is_refused(folder, content):
    (folder / "in" / "1.csv").write_text("a\nx\nyy\n")
    start(folder)
    before = (folder / "out.jsonl").read_bytes()
    (folder / "in" / "1.csv").write_text(content)
    (folder / "in" / "2.csv").write_text("a\nnew\n")
    with pytest.raises(ConnectorError, match=r"1\.csv has changed since the checkpoint"):
        start(folder)
    assert (folder / "out.jsonl").read_bytes() == before


def test_members_that_were_added_to_a_compressed_file_are_read(folder):
    (folder / "in" / "1.csv").unlink()
    path = folder / "in" / "1.csv.gz"
    path.write_bytes(gzip.compress(b"a\nx\n"))
    assert start(folder, pattern="in/*.csv.gz")[1] == ["x"]
    assert start(folder, pattern="in/*.csv.gz")[0].already_finished
    with path.open("ab") as file:
        file.write(gzip.compress(b"y\n"))
    assert start(folder, pattern="in/*.csv.gz")[1] == ["x", "y"]


def test_new_parquet_files_are_read_and_changed_ones_refused(folder):
    pq.write_table(pa.table({"a": ["x"]}), folder / "in" / "1.parquet")
    assert start(folder, pattern="in/*.parquet")[1] == ["x"]
    pq.write_table(pa.table({"a": ["y"]}), folder / "in" / "2.parquet")
    assert start(folder, pattern="in/*.parquet")[1] == ["x", "y"]
    pq.write_table(pa.table({"a": ["x", "longer than before"]}), folder / "in" / "1.parquet")
    with pytest.raises(ConnectorError, match="has changed since the checkpoint"):
        start(folder, pattern="in/*.parquet")


def test_running_state_goes_on(folder):
    def counted(rows):
        return rows.key_by("a").with_columns(n=count().over(expanding())).select("a", "n")

    assert start(folder, build=counted)[1] == [{"a": "x", "n": 1}]
    (folder / "in" / "2.csv").write_text("a\nx\ny\n")
    assert start(folder, build=counted)[1] == [{"a": "x", "n": 1}, {"a": "x", "n": 2}, {"a": "y", "n": 1}]


def test_windows_were_closed_at_the_end_and_what_comes_now_is_late(folder, caplog):
    def windowed(folder, rows):
        topology = Topology("daily")
        late = memory("late")
        stream = topology.stream(files(folder / "in" / "*.jsonl", schema={"a": str, "t": int}), timestamp="t", name="in")
        windows = stream.key_by("a").window(tumbling("10ms")).aggregate(n=count())
        windows.to(files(folder / "out.jsonl"), name="out")
        windows.late.to(late, name="late") if hasattr(windows, "late") else windows.output("late").to(late, name="late")
        return topology.run(Config(state_dir=folder / "state")), late

    (folder / "in" / "1.jsonl").write_text('{"a":"x","t":1}\n')
    windowed(folder, 1)
    before = (folder / "out.jsonl").read_bytes()
    (folder / "in" / "2.jsonl").write_text('{"a":"x","t":5}\n{"a":"x","t":95}\n')
    run, _ = windowed(folder, 2)
    assert not run.already_finished
    assert (folder / "out.jsonl").read_bytes() == before
    assert "its windows were closed then: what comes now is late" in caplog.text


def test_a_stopped_run_reads_on_in_files_it_had_ended(folder):
    topology = job(folder, rate=None)
    del topology
    (folder / "in" / "9.csv").write_text("a\n" + "".join(f"{i}\n" for i in range(4000)))
    run = job(folder, rate=2000).start(Config(state_dir=folder / "state", checkpoint_interval="50ms"))
    while not run.metrics()["checkpoints"]["completed"]:
        run.wait(0.02)
    run.stop()
    run.wait()
    assert not run.finished
    with (folder / "in" / "1.csv").open("a") as file:
        file.write("added\n")
    found = start(folder)[1]
    assert sorted(found) == sorted(["x", "added", *map(str, range(4000))])


def test_rows_that_were_added_in_memory_are_read(tmp_path, caplog):
    out = memory("out")

    def run(rows, splits=1):
        topology = Topology("t")
        topology.stream(memory("m", schema={"a": int}, rows=[{"a": i} for i in rows], splits=splits), name="in").to(out, name="out")
        return topology.run(Config(state_dir=tmp_path / f"state{splits}"))

    run(range(3))
    assert run(range(3)).already_finished
    assert not run(range(5)).already_finished
    assert [row["a"] for row in out.rows()] == [0, 1, 2, 3, 4]


def test_a_drained_run_reads_the_rest_when_it_is_started_again(folder):
    (folder / "in" / "1.csv").write_text("a\n" + "".join(f"{i}\n" for i in range(5000)))
    run = job(folder, rate=2000).start(Config(state_dir=folder / "state"))
    run.wait(0.5)
    run.drain()
    run.wait()
    assert run.finished
    assert start(folder)[1] == [str(i) for i in range(5000)]
