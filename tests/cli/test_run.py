"""What is the same however it is typed; `run` for input that ends; what a worker logs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from streamdsl.cli.log import JsonLines
from tests.cli.jobs import environment, write_job


@pytest.mark.parametrize(
    "arguments",
    [
        ("-A", "counting", "explain"),
        ("explain", "-A", "counting"),
        ("-A", "counting.topology", "explain"),
        ("explain", "-A", "counting.other"),
        ("-A", "counting.py", "explain"),
        ("-A", "folder.inside.topology", "explain"),
    ],
    ids=" ".join,
)
def test_a_topology_is_named_in_front_of_the_command_or_behind_it(arguments, tmp_path, here):
    write_job(tmp_path, rows=10)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "inside.py").write_text("from counting import topology\n")
    code, out, err = here(*arguments)
    assert code == 0 and "key_by" in out, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-A", "counting", "explain", "-A", "counting:other"], "-A was given twice"),
        (["-A", "counting.number", "explain"], "is not a Topology, it is of type int"),
        (["-A", "counting.none", "explain"], "counting has no attribute 'none'"),
        (["-A", "missing.topology", "explain"], "there is no module 'missing'"),
        (["wroker"], "Did you mean 'worker'?"),
        (["checkpoints", "lst"], "Did you mean 'list'?"),
        (["-A", "counting", "worker", "--log-format", "xml"], "use one of text, json"),
    ],
)
def test_what_was_meant_is_said(arguments, said, tmp_path, here):
    write_job(tmp_path, rows=10)
    code, _, err = here(*arguments)
    assert code == 2 and said in err and "Traceback" not in err


def test_a_file_in_the_environment_gives_way_to_what_is_typed(tmp_path, here, monkeypatch):
    write_job(tmp_path, rows=10)
    monkeypatch.setenv("STREAMDSL_APP", "missing")
    assert here("explain", "-A", "counting")[0] == 0


def test_run_reads_to_the_end_and_keeps_no_state(tmp_path):
    write_job(tmp_path, rows=50, rate=100_000)
    line = [sys.executable, "-m", "streamdsl", "run", "-A", "counting", "--log-format", "json"]
    for _ in range(2):
        done = subprocess.run(line, check=False, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "finished" in done.stderr and "state in" not in done.stderr
        said = [json.loads(text) for text in done.stderr.splitlines() if text.startswith("{")]
        assert "counting: 50 records in, 15 out" in [each["message"] for each in said]
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 15


def test_run_refuses_input_without_an_end(tmp_path, here):
    (tmp_path / "endless.py").write_text(
        "from streamdsl import Topology, kafka, memory\n"
        "topology = Topology('endless')\n"
        "topology.stream(kafka('t', {'a': int}), name='in').to(memory('out'))\n"
    )
    code, _, err = here("-A", "endless", "run")
    assert code == 2 and "the input of 'in' has no end" in err and "`worker`" in err


def test_a_line_of_json_has_what_was_logged_and_its_error():
    try:
        raise ValueError("line\nbreak")
    except ValueError:
        record = logging.LogRecord("streamdsl", logging.WARNING, "", 0, "it %s", ("failed\n",), sys.exc_info())
    line = JsonLines().format(record)
    told = json.loads(line)
    assert "\n" not in line and told["level"] == "WARNING" and told["message"] == "it failed\n" and "ValueError" in told["error"]
    assert told["time"].endswith("Z")
