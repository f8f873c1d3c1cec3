"""The bank and the code agree; in the checked build a few planted bugs are looked for, and none where none is planted."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from streamdsl._native.includes import faults
from tests.power.bank import BANK
from tests.power.campaign import search
from tests.power.simulated import planted
from tests.power.tree import copy, files
from tests.simulation.campaign import run_seeds

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for path in sorted((ROOT / "streamdsl").rglob("*")) if path.suffix in (".py", ".pyx", ".pxd") and path.stem != "checked"]
FINDERS = {"simulator", "power cut", "kills"}
#: Found by the first few seeds.
SOON = ("dirty-mark-missed", "mark-before-rows", "no-alignment", "offset-ahead", "manifest-before-files", "late-test-after-batch")


def named(pattern: str) -> set[str]:
    return {name for path in SOURCES if path.name != "faults.py" for name in re.findall(pattern, path.read_text())}


def test_every_planted_bug_is_in_the_bank_once_and_every_one_of_the_bank_is_planted():
    assert {name: n for name, n in Counter(bug.name for bug in BANK).items() if n > 1} == {}
    assert named(r'(?:PLANTED|planted)\("([a-z0-9-]+)"\)') == {bug.name for bug in BANK}
    assert len(BANK) >= 20


def test_every_finder_exists():
    for bug in BANK:
        path, _, test = bug.finder.partition("::")
        assert bug.finder in FINDERS or f"def {test}(" in (ROOT / path).read_text(), bug.name


def test_every_fault_point_is_hunted():
    sys.path.insert(0, str(ROOT / "tests" / "crash"))
    import faults as campaign

    # The steps of a transaction need a broker: `tests/kafka/crash.py` dies there.
    text = (ROOT / "tests" / "kafka" / "crash.py").read_text()
    steps = set(re.findall(r'"(FP\d\d):', text))
    assert named(r'(?:FAULT|fault)\("(FP\d\d)"\)') == set(campaign.POINTS) | steps


def test_a_build_without_checks_has_none_of_them():
    with planted("dirty-mark-missed"):
        assert faults.planted("dirty-mark-missed") is faults.CHECKED
    faults.arm("FP01:raise:1")
    try:
        if faults.CHECKED:
            with pytest.raises(RuntimeError, match="FP01"):
                faults.fault("FP01")
        else:
            faults.fault("FP01")
            assert not faults.hits
    finally:
        faults.arm(None)


@pytest.mark.skipif(not faults.CHECKED, reason="a release build has no planted bugs; `make checked` runs this")
@pytest.mark.parametrize("name", SOON)
def test_planted_bugs_are_found(name):
    # In a process of its own: a check that fails ends it.
    assert search(next(bug for bug in BANK if bug.name == name)) == ""


@pytest.mark.skipif(not faults.CHECKED, reason="tests/simulation holds the release build to it")
def test_nothing_is_found_where_nothing_is_planted():
    report = run_seeds(range(300))
    assert not report.violations, "\n".join(report.violations)


@pytest.mark.skipif(not faults.CHECKED, reason="a release build has no checks; `make checked` runs this")
def test_a_check_that_fails_ends_the_process_and_says_where():
    """A row that is removed twice: its second removal touches a slot that is not live."""
    program = (
        "from streamdsl._native.state.store import StateStore\n"
        "from streamdsl._native.state.testing import TableView\n"
        "table = TableView(StateStore('s', 8).add_table('rows', 'r'))\n"
        "slot = table.slot(b'k')\n"
        "table.remove(slot)\n"
        "table.remove(slot)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode < 0 and "check failed: a row that is removed is live" in done.stderr


def test_the_copy_of_the_project_is_the_project(tmp_path):
    assert copy(tmp_path) > 100
    assert copy(tmp_path) == 0, "what is the same is not copied again"
    (tmp_path / "streamdsl" / "gone.pyx").write_text("")
    (tmp_path / "streamdsl" / "gone.cpython.so").write_text("")
    (tmp_path / "setup.py").write_text("")
    assert copy(tmp_path) == 2
    assert not list(tmp_path.glob("streamdsl/gone*"))
    assert set(files(tmp_path)) == set(files(ROOT))
