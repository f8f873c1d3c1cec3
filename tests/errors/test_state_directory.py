"""State directories that are misused, moved, damaged or of another shape, through the public API."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamdsl import Config, ConnectorError, Processor, StateError, Topology, col, files
from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.manifest import FORMAT

from .jobs import ROWS, SCHEMA, Gate, GatedSink, GatedSource, Numbering, check_numbered, read_jsonl, streamdsl_threads, write_csv

HALF = 20


class Numbered(Numbering):
    """As `Numbering`, under a name of its own."""


def build(
    place: Path,
    gate: Gate | None = None,
    *,
    job: str = "job",
    source: str = "in",
    sink: str = "out",
    numbers: str = "number",
    total: str = "sum",
    key: str = "k",
) -> Topology:
    """Numbered records into out.jsonl, and running totals into total.jsonl."""
    gate = gate or Gate(0)
    topology = Topology(job)
    stream = topology.stream(GatedSource(files(place / "in.csv", schema=SCHEMA), gate), timestamp="at", name=source)
    keyed = stream.key_by(key)
    keyed.process(Numbered(), name=numbers).to(GatedSink(files(place / "out.jsonl"), gate), name=sink)
    keyed.aggregate(x=getattr(col("v"), total)(), name="total").to_stream().to(files(place / "total.jsonl"), name="totals")
    return topology


def config(place: Path, **options: Any) -> Config:
    return Config(state_dir=place / "state", checkpoint_interval="5ms", **options)


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A run that was stopped at HALF of its rows, with at least two checkpoints."""
    write_csv(tmp_path / "in.csv")
    for rows in (HALF // 2, HALF // 2):
        gate = Gate(rows, hold=True)
        run = build(tmp_path, gate).start(config(tmp_path))
        assert gate.covered.wait(60)
        run.stop()
        run.wait()
        assert not run.finished
    assert len(list((tmp_path / "state" / "checkpoints").iterdir())) == 2
    return tmp_path


def checkpoints(place: Path) -> list[Path]:
    """Return the checkpoints, oldest first."""
    return sorted((place / "state" / "checkpoints").iterdir(), key=lambda path: int(path.name))


def content(place: Path) -> dict[str, bytes]:
    """Return every output, and every file of every checkpoint."""
    paths = [place / "out.jsonl", place / "total.jsonl", *(place / "state" / "checkpoints").rglob("*")]
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def refused(place: Path, run: Callable[[], Any], *parts: str, kind: type[Exception] = StateError) -> None:
    """The run is refused, says all of `parts`, and leaves outputs and checkpoints as they were; the right one goes on."""
    before = content(place)
    with pytest.raises(kind) as caught:
        run()
    text = str(caught.value)
    for part in parts:
        assert part in text, text
    assert "\n  " in text, "it says what to do"
    assert content(place) == before
    assert not streamdsl_threads()


def goes_on(place: Path, **options: Any) -> None:
    run = build(place).run(config(place, **options))
    assert run.finished and not run.already_finished
    check_numbered(read_jsonl(place / "out.jsonl"))


def test_a_stopped_run_goes_on(half: Path) -> None:
    goes_on(half, parallelism=2)
    assert build(half).run(config(half)).already_finished
    assert build(half).run(config(half, parallelism=3)).already_finished
    check_numbered(read_jsonl(half / "out.jsonl"))


def test_another_topology(half: Path) -> None:
    refused(half, lambda: build(half, job="other").run(config(half)), "'job'", "'other'", str(half / "state"))
    goes_on(half)


def test_a_renamed_operator_and_the_way_out(half: Path) -> None:
    refused(half, lambda: build(half, numbers="count").run(config(half)), "'number'", "drop_state=['number']")
    # What is not named stays: the totals go on, the numbers begin anew.
    build(half, numbers="count").run(config(half, drop_state=["number"]))
    last = {row["k"]: row["x"] for row in read_jsonl(half / "total.jsonl")}
    assert last == {f"k{key}": sum(range(key, ROWS, 3)) for key in range(3)}
    rows = read_jsonl(half / "out.jsonl")
    assert sorted(row["v"] for row in rows) == list(range(ROWS))
    assert max(row["n"] for row in rows) < ROWS // 3


def test_a_renamed_source(half: Path) -> None:
    refused(half, lambda: build(half, source="input").run(config(half)), "'in'", "drop_state=['in']")
    goes_on(half)


def test_a_renamed_sink(half: Path) -> None:
    refused(half, lambda: build(half, sink="output").run(config(half)), "'out'", "drop_state=['out']")
    goes_on(half)


def test_a_changed_aggregate(half: Path) -> None:
    refused(half, lambda: build(half, total="max").run(config(half)), "total", "drop_state=['total']")
    build(half, total="max").run(config(half, drop_state=["total"]))
    check_numbered(read_jsonl(half / "out.jsonl"))


def test_another_key(half: Path) -> None:
    refused(half, lambda: build(half, key="v").run(config(half)), "number", "total", "drop_state=")
    goes_on(half)


@pytest.mark.parametrize("what", ["sst", "missing", "manifest", "cut manifest"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(what: str, half: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(checkpoints(half)[-1], what)
    newest = checkpoints(half)[-1].name
    goes_on(half)
    assert any(f"checkpoint {newest} is passed over" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("what", ["sst", "missing", "manifest", "cut manifest"])
def test_damaged_checkpoints_are_refused_by_name(what: str, half: Path) -> None:
    for checkpoint in checkpoints(half):
        damage(checkpoint, what)
    name = "manifest.json" if "manifest" in what else ".sst"
    refused(half, lambda: build(half).run(config(half)), str(checkpoints(half)[-1]), name, "no older checkpoint is whole")


def damage(checkpoint: Path, what: str) -> None:
    """Change one byte, cut, or remove; a file is replaced first, because checkpoints share them by hard links."""
    path = checkpoint / "manifest.json" if "manifest" in what else next(checkpoint.rglob("*.sst"))
    data = bytearray(path.read_bytes())
    path.unlink()
    if what != "missing":
        data[len(data) // 2] ^= 1
        path.write_bytes(data[: len(data) // 2] if what.startswith("cut") else data)


def test_a_newer_format(half: Path) -> None:
    for checkpoint in checkpoints(half):
        path = checkpoint / "manifest.json"
        path.write_bytes(path.read_bytes().replace(b'"format":%d' % FORMAT, b'"format":%d' % (FORMAT + 1)))
    refused(half, lambda: build(half).run(config(half)), f"format {FORMAT + 1}", "manifest.json", "version of streamdsl")


def test_a_newer_format_of_the_directory(half: Path) -> None:
    job = half / "state" / "job.json"
    body = json.loads(job.read_text())
    job.write_text(json.dumps({**body, "format": 99}))
    refused(half, lambda: build(half).run(config(half)), "format 99", str(job))
    job.write_text(json.dumps(body))
    goes_on(half)


def test_an_output_that_is_shorter_than_what_was_committed(half: Path) -> None:
    whole = (half / "out.jsonl").read_bytes()
    (half / "out.jsonl").write_bytes(whole[:-10])
    refused(half, lambda: build(half).run(config(half)), "out.jsonl", f"{len(whole)}", kind=ConnectorError)
    (half / "out.jsonl").unlink()
    refused(half, lambda: build(half).run(config(half)), "out.jsonl", kind=ConnectorError)
    assert not (half / "out.jsonl").exists()
    (half / "out.jsonl").write_bytes(whole)
    goes_on(half)


def test_an_input_that_is_gone(half: Path) -> None:
    (half / "in.csv").rename(half / "away.csv")
    refused(half, lambda: build(half).run(config(half)), "in.csv", kind=ConnectorError)
    (half / "away.csv").rename(half / "in.csv")
    goes_on(half)


def test_a_missing_input_costs_no_output(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("of an earlier run\n")
    (tmp_path / "total.jsonl").write_text("of an earlier run\n")
    with pytest.raises(ConnectorError, match=r"in\.csv"):
        build(tmp_path).run(config(tmp_path))
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "total.jsonl").read_text() == "of an earlier run\n"


def test_an_output_that_cannot_be_written(half: Path) -> None:
    shutil.move(half / "total.jsonl", half / "kept")
    (half / "total.jsonl").mkdir()
    with pytest.raises(ConnectorError) as caught:
        build(half).run(config(half))
    assert "total.jsonl" in str(caught.value) and caught.value.remedy
    (half / "total.jsonl").rmdir()
    shutil.move(half / "kept", half / "total.jsonl")
    goes_on(half)


@pytest.mark.parametrize("state", ["file", "file/below", "full", "/proc/streamdsl/state"])
def test_a_directory_that_cannot_be_one(state: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv")
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(StateError) as caught:
        build(tmp_path).run(Config(state_dir=tmp_path / state))
    assert str(tmp_path / state) in str(caught.value) and "Config(state_dir=" in str(caught.value)
    assert os.listdir(tmp_path / "full") == ["letter.txt"]
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StateError, match="locked"):
        build(tmp_path).run(Config(state_dir=tmp_path / "locked" / "state"))


def test_a_directory_that_another_process_uses(half: Path) -> None:
    """The other process is a real one; killed, it lets go."""
    holder = """
        import sys
        sys.path[:0] = sys.argv[2:]
        from pathlib import Path
        from tests.errors.jobs import Gate
        from tests.errors.test_state_directory import build, config
        place = Path(sys.argv[1])
        run = build(place, Gate(3, hold=True)).start(config(place))
        print("running", flush=True)
        sys.stdin.read()
    """
    root = str(Path(__file__).resolve().parents[2])
    arguments = [sys.executable, "-c", textwrap.dedent(holder), str(half), root]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "running\n"
            with pytest.raises(StateError) as caught:
                build(half).run(config(half))
            assert f"in use by process {process.pid}" in str(caught.value)
            assert str(half / "state") in str(caught.value) and caught.value.remedy
        finally:
            process.kill()
    goes_on(half)


def test_a_refused_start_lets_go(half: Path) -> None:
    """The same process can try again at once: nothing of a failed start holds the lock or a file."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        for bad in ({"numbers": "count"}, {"source": "input"}, {"job": "other"}):
            with pytest.raises(StateError):
                build(half, **bad).run(config(half))
    assert len(os.listdir("/proc/self/fd")) <= before
    goes_on(half)


class Careless(Processor):
    """Fails in `open`, when everything before it is open."""

    output = {"k": str}

    def open(self, ctx: Any) -> None:
        raise ValueError("no")


def test_a_start_that_fails_in_user_code_lets_go(half: Path) -> None:
    topology = build(half)
    broken = Topology("job")
    stream = broken.stream(files(half / "in.csv", schema=SCHEMA), timestamp="at", name="in")
    stream.key_by("k").process(Careless(), name="careless").to(files(half / "careless.jsonl"), name="careless")
    with pytest.raises(Exception, match=r"Careless\.open"):
        broken.run(config(half, drop_state=["number", "total", "out", "totals"]))
    topology.run(config(half))
    check_numbered(read_jsonl(half / "out.jsonl"))


def test_everything_is_closed_to_others(tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv")
    before = os.umask(0)
    try:
        gate = Gate(HALF, hold=True)
        run = build(tmp_path, gate).start(Config(state_dir=tmp_path / "a" / "b" / "state", checkpoint_interval="5ms", parallelism=2))
        try:
            assert gate.covered.wait(60)
        finally:
            run.stop()
            run.wait()
    finally:
        os.umask(before)
    for path in [tmp_path / "a", *(tmp_path / "a").rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"


def test_the_names_of_the_directories_above_are_durable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync = FileSystem.sync_directory

    def noted(filesystem: FileSystem, path: Path) -> None:
        synced.append(path)
        sync(filesystem, path)

    monkeypatch.setattr(FileSystem, "sync_directory", noted)
    write_csv(tmp_path / "in.csv")
    build(tmp_path).run(Config(state_dir=tmp_path / "a" / "b" / "state"))
    assert synced[:3] == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
