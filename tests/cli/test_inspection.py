"""What looks at a topology or at its state without running it."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

import streamdsl.cli
from streamdsl import Config, Topology, col, count, dead_letter, files, rolling
from streamdsl.cli.app import app
from streamdsl.cli.graph import dot, mermaid
from streamdsl.cli.options import default_state_dir

from .jobs import environment, write_job


@pytest.fixture
def finished(tmp_path, here):
    """A state directory with checkpoints of the job `counting`."""
    write_job(tmp_path, rows=2_000, rate=10_000)
    code, _, err = here("-A", "counting", "worker", "--checkpoint-interval", "20ms")
    assert code == 0, err
    return tmp_path / "state-home" / "streamdsl" / "counting"


def test_checkpoints_are_listed_shown_and_verified(finished, here):
    code, out, _ = here("checkpoints", "list", "--state-dir", finished)
    ids = re.findall(r"^ +(\d+)  \d{4}-", out, re.M)
    assert code == 0 and len(ids) == 2 and out.startswith("counting: 2 checkpoints in ") and "input finished" in out
    code, out, _ = here("checkpoints", "show", "--state-dir", finished)
    assert code == 0 and f"checkpoint {ids[-1]} of counting, input finished" in out
    assert "source in" in out and "operator out" in out and "keys.k.in" in out and "bytes" in out
    assert here("checkpoints", "show", "--state-dir", finished, ids[0])[1].startswith(f"checkpoint {ids[0]} of counting")
    code, out, _ = here("checkpoints", "verify", "--state-dir", finished)
    assert code == 0 and out.count("whole:") == 2


def test_controls_in_what_is_shown_do_not_reach_the_terminal(tmp_path, here):
    """Names and positions come from outside: a split is called as its file is."""
    hostile = "\x1b[2J\x9b31m\u202e\r.csv"
    (tmp_path / hostile).write_text("k\na\n")
    job = tmp_path / "hostile.py"
    job.write_text(
        "from streamdsl import Topology, files, memory\n"
        f"topology = Topology('hostile')\n"
        f"topology.stream(files({str(tmp_path / hostile)!r}, schema={{'k': str}}), name='in').to(memory('out'), name='out')\n"
    )
    assert here("-A", "hostile", "worker")[0] == 0
    for words in (["show"], ["list"], ["verify"]):
        code, out, err = here("-A", "hostile", "checkpoints", *words)
        assert code == 0 and not set("\x1b\x9b\u202e\r") & set(out + err)
    assert "\\x9b31m" in here("-A", "hostile", "checkpoints", "show")[1].replace("\\u009b", "\\x9b")


def test_every_command_prints_by_the_one_door():
    here_ = pathlib.Path(streamdsl.cli.__file__).parent
    assert [path.name for path in sorted(here_.glob("*.py")) if "click.echo(" in path.read_text()] == ["printing.py"]


def test_the_topology_names_the_state_directory(finished, here):
    code, out, _ = here("-A", "counting", "checkpoints", "list")
    assert code == 0 and f"in {finished}" in out


def test_damage_is_found_and_named(finished, here):
    newest = max((finished / "checkpoints").iterdir(), key=lambda place: int(place.name))
    files_ = [path for path in newest.rglob("*") if path.is_file() and path.name != "manifest.json" and path.stat().st_size]
    data = bytearray(files_[0].read_bytes())
    data[len(data) // 2] ^= 1
    files_[0].chmod(0o600)
    files_[0].unlink()
    files_[0].write_bytes(data)
    code, out, _ = here("checkpoints", "verify", "--state-dir", finished)
    assert code == 1 and files_[0].name in out and "damaged" in out
    (newest / "manifest.json").write_text("{}")
    code, out, _ = here("checkpoints", "list", "--state-dir", finished)
    assert code == 1 and f"{newest.name}  damaged: " in out


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["list"], 2, "which state directory?"),
        (["list", "--state-dir", "none"], 1, "none is not a state directory"),
        (["show", "--state-dir", "{state}", "9999"], 1, "holds no checkpoint 9999"),
        (["verify", "--state-dir", "{state}", "9999"], 1, "checkpoint 9999 does not exist"),
    ],
)
def test_what_is_not_there_is_said(arguments, code, expected, finished, here):
    found, out, err = here("checkpoints", *[text.format(state=finished) for text in arguments])
    assert found == code and expected in out + err


def hostile() -> Topology:
    """A topology whose texts would break out of a label."""
    topology = Topology('a "quoted" name')
    read = files("in.csv", schema={"k": str, "v": int}, errors=dead_letter(files("dead.jsonl")))
    keyed = topology.stream(read, name='in"]; n9 --> n1').key_by("k")
    kept = keyed.with_columns(n=count().over(rolling("1s"))).filter((col("k") != '"]<b>\\#`') & (col("v") > 3))
    kept.to(files("out.jsonl"), name="out\n")
    return topology


def test_mermaid_is_well_formed_whatever_the_names():
    lines = mermaid(hostile().plan()).splitlines()
    assert lines[0] == "flowchart TD"
    boxes = [line for line in lines[1:] if "-->" not in line.split('"')[0] and '"' in line]
    assert len(boxes) + sum(" --> " in line and '"' not in line for line in lines) == len(lines) - 1
    for line in boxes:
        assert re.fullmatch(r'    n\d+(\(\[|\[\[|\[\(|\[)"[^"\\`]*"(\]\)|\]\]|\)\]|\])', line), line
        assert "<b>" not in line
    assert any("n0 --> " in line for line in lines)


def test_dot_is_well_formed_whatever_the_names():
    text = dot(hostile().plan())
    assert text.startswith('digraph "a \\"quoted\\" name" {') and text.endswith("}")
    for line in text.splitlines()[2:-1]:
        assert re.fullmatch(r'    n\d+( -> n\d+| \[shape=\w+, label="(?:[^"\\]|\\.)*"\]);', line), line


@pytest.mark.parametrize("format_", ["mermaid", "dot"])
def test_a_graph_has_the_nodes_and_edges_of_the_plan(format_, tmp_path, here):
    write_job(tmp_path, rows=1)
    code, out, _ = here("-A", "counting", "graph", "--format", format_)
    assert code == 0
    # source, key_by, window aggregate, sink
    assert len(re.findall(r"n\d+ --?> n\d+", out)) == 3
    assert all(verb in out for verb in ("source", "key_by", "tumbling", "sink"))


def test_explain_prints_the_four_forms(tmp_path, here):
    write_job(tmp_path, rows=1)
    code, out, _ = here("-A", "counting", "explain", "-c", 2)
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("==")] == [
        "== as typed ==", "== logical ==", "== optimised ==", "== physical ==",
    ]  # fmt: skip
    assert "parallelism 2" in out


def test_every_command_has_its_help():
    for name in app.list_commands(None):  # type: ignore[arg-type]
        if name == "demo":  # its help is the example's
            continue
        found = CliRunner().invoke(app, [name, "--help"])
        assert found.exit_code == 0 and "Usage:" in found.output, name


def test_who_stops_reading_gets_no_complaint(tmp_path):
    write_job(tmp_path, rows=1)
    line = f"{sys.executable} -m streamdsl -A counting explain | head -c 1"
    ran = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert ran.stdout == "=" and ran.stderr == ""


def test_the_default_state_directory_is_private_and_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state_dir("fraud-detection") == tmp_path / "streamdsl" / "fraud-detection"
    assert default_state_dir("../../etc").parent == tmp_path / "streamdsl"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_state_dir("a") == tmp_path / "home" / ".local" / "state" / "streamdsl" / "a"


def test_looking_does_not_change_the_state(finished, here, tmp_path):
    before = sorted((path.relative_to(finished), path.stat().st_mtime_ns) for path in finished.rglob("*"))
    for arguments in (["list"], ["show"], ["verify"]):
        assert here("checkpoints", *arguments, "--state-dir", finished)[0] == 0
    here("doctor", "--state-dir", finished)
    assert sorted((path.relative_to(finished), path.stat().st_mtime_ns) for path in finished.rglob("*")) == before
    # And a run goes on from there all the same.
    again = Config(state_dir=finished)
    topology = Topology("counting")
    topology.stream(files(tmp_path / "in.csv", schema={"k": str, "v": int, "at": int}), timestamp="at", name="in").to(
        files(tmp_path / "out.jsonl"), name="out"
    )
    assert topology.run(again).already_finished
