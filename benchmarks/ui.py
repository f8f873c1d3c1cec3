"""What does the live page cost? The same job without it, with it and nobody looking, and with a browser's worth of looking.

    python benchmarks/ui.py [--records N] [--rounds N]

Sums by key of records in memory, with state in RocksDB and a checkpoint every second. CPU seconds of the process are compared, in
rounds of three, because other work on the machine does not show in them. "looked at" has two clients that read the events.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fraud import commit, machine
from streamdsl import Config, Topology, col, count, memory

CLIENTS = 2


def look(address: str, over: threading.Event) -> None:
    """Read the events until the run is over."""
    with urllib.request.urlopen(f"{address}/api/events", timeout=60) as events:
        while not over.is_set() and events.readline():
            pass


def measured(rows: pa.Table, page: str) -> float:
    """Return the CPU seconds of one run."""
    topology = Topology("cost")
    keyed = topology.stream(memory("in", rows=rows), name="in").key_by("k")
    keyed.aggregate(n=count(), total=col("v").sum(), name="sums").to_stream().filter(col("n") < 0).to(memory("out"))
    over = threading.Event()
    began = time.process_time()
    run = topology.start(Config(checkpoint_interval="1s"))
    server = run.ui(rows=False) if page != "none" else None
    if server is not None and page == "looked at":
        for _ in range(CLIENTS):
            threading.Thread(target=look, args=(server.address, over), daemon=True).start()
    run.wait()
    spent = time.process_time() - began
    over.set()
    if server is not None:
        server.close()
    return spent


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    rows = pa.table({"k": [f"k{i % 10_000}" for i in range(asked.records)], "v": pa.array(range(asked.records), pa.int64())})
    found: dict[str, list[float]] = {"none": [], "served": [], "looked at": []}
    for _ in range(asked.rounds):
        for page, spent in found.items():
            spent.append(measured(rows, page))
    print(f"{machine()}, commit {commit()}: {asked.records:,} records")
    for page, spent in found.items():
        more = statistics.median(a / b for a, b in zip(spent, found["none"], strict=True)) - 1
        print(f"{page:>10}  {statistics.median(spent):6.2f} CPU s  {more:+.1%}")


if __name__ == "__main__":
    main()
