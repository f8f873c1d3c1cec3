"""The documentation's site builds: every link leads somewhere, and no page asks another host for anything."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_site_builds():
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "site.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = Path(done.stdout.split()[-1]).parent
    topology = (site / "reference" / "topology.html").read_text()
    assert 'id="Topology-stream"' in topology
    assert 'href="../reference/names.html"' in (site / "guide" / "index.html").read_text()
    assert 'href="#Topology-run"' in topology  # the table of contents
    assert 'href="../reference/testing.html#TopologyTestDriver"' in (site / "guide" / "testing.html").read_text()
    assert {"index.html", "guide", "reference"} <= {path.name for path in site.iterdir()}
