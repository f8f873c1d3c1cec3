"""Every field of a Config is checked, and the error names it."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

import pytest

from streamdsl import Config, ConfigError, Topology, dead_letter, memory

WRONG = {
    "parallelism": [0, 129, 1.0, "2", True, None],
    "checkpoint_interval": [0, -1, "5", "", "soon", True, None, 1.5, b"5s"],
    "checkpoint_timeout": [0, -1, "5", "", "soon", True, None, 1.5, b"5s"],
    "checkpoint_failure_timeout": [-1, "5", "", "soon", True, None, 1.5, b"5s"],
    "stop_timeout": [0, 99, -1, "5", "", "soon", True, None, 1.5, b"5s"],
    "retained_checkpoints": [0, 1.0, "3", True, None],
    "state_dir": ["", " ", 5, b"x", "a\0b", True, [], Path],
    "checkpoint_store": ["", " ", 5, b"s3://bucket", "bucket", True, [], Path],
    "restore_from": ["", " ", 5, b"x", "a\0b", True, [], Path],
    "state_backend": ["", "sqlite", None, 5],
    "state_memory": [1.5, True, None, "", "much", -1, "1.5XB", b"1GiB", float("inf")],
    "restarts": [-1, 1.0, "3", True, None],
    "strict_names": [1, "yes", None, 0],
    "keep_state": ["name", 5, [5], [""], None, [b"x"]],
    "drop_state": ["name", 5, [5], [""], None, [b"x"]],
    "batch_rows": [0, 4096.0, "4096", True, None],
    "broker": ["", "a b", 5, b"localhost:9092", True],
    "kafka": [5, "linger.ms=5", {5: 5}, {"": 1}, None, []],
    "accept_duplicates_from": [-1, 1.0, "3", True],
    "errors": ["", "ignore", None, 5, True, memory("bad")],
}


def test_every_field_is_here():
    assert set(WRONG) == set(Config.__dataclass_fields__)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_value_that_no_run_can_use_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name) as caught:
        Config(**{name: value})
    assert caught.value.remedy


@pytest.mark.parametrize(
    "values",
    [
        {"state_dir": "here", "restore_from": Path("there")},
        {"checkpoint_interval": 100, "checkpoint_timeout": datetime.timedelta(seconds=5)},
        {"state_memory": "1.5GiB"},
        {"drop_state": {"a", "b"}},
        {"drop_state": ("a",)},
        {"errors": dead_letter(memory("bad"))},
        {"errors": "skip"},
    ],
)
def test_what_a_run_can_use_is_taken(values):
    config = Config(**values)
    for name, value in values.items():
        assert getattr(config, name) == value


def test_an_empty_state_directory_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.chmod(tmp_path, 0o755)
    topology = Topology("t")
    topology.stream(memory("m", schema={"a": int}, rows=[{"a": 1}])).to(memory("o"))
    with pytest.raises(ConfigError):
        topology.run(Config(state_dir=os.environ.get("NOT_SET_ANYWHERE", "")))
    assert os.listdir(tmp_path) == []
    assert stat.S_IMODE(os.stat(tmp_path).st_mode) == 0o755
