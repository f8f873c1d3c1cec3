"""The Python of the documents runs, block after block, in a directory with a little data."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What a page takes for granted in front of its first block.
BEFORE = {
    "docs/guide/running.md": """
from streamdsl import Topology, files
topology = Topology("job")
read = topology.stream(files("transactions.csv", {"account": str, "amount": float}), name="in")
read.to(files("out.jsonl"), name="out")
config = None
""",
    "docs/guide/operations.md": """
from pathlib import Path
from streamdsl import Config, Topology, files
topology = Topology("job")
topology.stream(files("transactions.csv", {"account": str, "amount": float}), name="in").to(files("out.jsonl"), name="out")
config = Config()
""",
    "docs/guide/page.md": """
from streamdsl import Config, Topology, files
topology = Topology("job")
topology.stream(files("transactions.csv", {"account": str, "amount": float}), name="in").to(files("out.jsonl"), name="out")
config = Config()
""",
    "docs/guide/connectors.md": """
from dataclasses import dataclass
from pathlib import Path
from streamdsl import Topology, col, files, kafka, memory, lit
@dataclass
class Transaction:
    account: str
    amount: float
@dataclass
class Order:
    id: int
    city: str
Customer = {"name": str}
Path("orders").mkdir()
Path("orders/a.csv").write_text("id,city\\n1,Lima\\n")
Path("today-1.csv").write_text("account,amount\\nCL1,5.0\\n")
topology = Topology("job")
topology.stream(memory("orders", Order, []), name="orders").to(memory("seen"))
topology.stream(memory("transactions", Transaction, []), name="transactions").to(memory("alerts"), name="alerts")
others = Topology("others").stream(memory("others", Transaction))
balances = others.key_by("account").count()
alerts = critical = others.with_columns(alert_id=lit("1"), account_number=lit("CL1"))
dsn, token = "postgresql://shop@db/shop", "Bearer x"
""",
    "docs/guide/fraud.md": """
from streamdsl import Topology, col, count, expanding, files, operator, rolling
source = files("transactions.csv", {"account": str, "channel": str, "event_time": int})
accounts = Topology("job").stream(source, timestamp="event_time").key_by("account")
""",
}
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
    *BEFORE,
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
    exec(BEFORE.get(page, ""), namespace)
    found = blocks(page)
    assert found
    for block in found:
        run = compile(block, page, "exec", dont_inherit=True)
        exec(run, namespace)
    if page == "README.md":
        assert (tmp_path / "busy.jsonl").read_text().count("\n") == 24


def test_no_page_with_code_is_left_out():
    # tests/testing/test_guide.py, tests/processor/test_native.py, tests/docs/test_quickstart.py
    elsewhere = {"docs/guide/testing.md", "docs/guide/native.md", "docs/quickstart.md"}
    found = {
        str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if "```python" in path.read_text()
    }
    assert found == {*PAGES, *elsewhere}
