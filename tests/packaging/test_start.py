"""What an interpreter finds and imports: the version, and nothing that a job does not use."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import streamdsl

_ROOT = Path(streamdsl.__file__).parent.parent

_JOB = """
import sys
from streamdsl import Topology, memory
Topology("t").stream(memory("in", schema={"n": int}, rows=[{"n": 1}])).filter(lambda row: True).collect()
print(*sorted(sys.modules))
"""


def test_the_version_is_said_in_one_place():
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "streamdsl.version.__version__"}
    said = subprocess.run([sys.executable, "-m", "streamdsl", "--version"], capture_output=True, text=True, check=True, cwd=_ROOT)
    assert said.stdout == f"streamdsl {streamdsl.__version__}\n"


def test_a_job_that_serves_nothing_imports_no_server():
    found = subprocess.run([sys.executable, "-c", _JOB], capture_output=True, text=True, check=True, cwd=_ROOT).stdout.split()
    assert "streamdsl.runtime.run" in found
    assert not {"http.server", "streamdsl.runtime.serving", "prometheus_client", "confluent_kafka", "psycopg"} & set(found)
