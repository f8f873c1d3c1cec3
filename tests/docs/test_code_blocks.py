"""The Python of the documents runs, block after block, in a directory with a little data."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "docs/guide/topologies.md",
    "docs/guide/time.md",
    "docs/guide/windows.md",
    "docs/guide/timers.md",
    "docs/reference/types.md",
    "docs/guide/lookups.md",
    "docs/guide/joins.md",
    "docs/guide/tables.md",
    "docs/guide/frames.md",
    "docs/guide/from-kafka-streams.md",
    "docs/guide/from-flink.md",
    "docs/guide/from-quix.md",
    "docs/guide/from-faust.md",
    "docs/guide/from-bytewax.md",
]
DATA = "account,amount,event_time,city\n" + "".join(f"CL{i % 3},{100.0 + i},{1000 * i},Santiago\n" for i in range(30))


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "transactions.csv").write_text(DATA)
    namespace = {"__name__": "page"}
    found = blocks(page)
    assert found
    for block in found:
        run = compile(block, page, "exec", dont_inherit=True)
        exec(run, namespace)
    if page == "README.md":
        assert (tmp_path / "busy.jsonl").read_text().count("\n") == 24
