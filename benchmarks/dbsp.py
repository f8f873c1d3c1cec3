"""Nexmark on Feldera's engine, DBSP: builds and runs the benchmark that stands in a checkout of its sources.

One worker for each core, batches of 40,000 events, all state in memory, no checkpoints. It generates the events itself, on a thread of
the same cores; what that takes is what its `q0` takes, which does nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

#: Those of ours that it has not.
MISSING: Final = {"q11"}
BATCH: Final = 40_000


def build(checkout: Path) -> Path:
    """Compile the benchmark in a checkout of github.com/feldera/feldera, and return the program."""
    command = ["cargo", "bench", "-p", "dbsp_nexmark", "--bench", "nexmark", "--no-run", "--message-format", "json"]
    try:
        done = subprocess.run(command, cwd=checkout, stdout=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError:
        sys.exit("--dbsp: there is no cargo on the PATH; it is built by Rust's")
    if done.returncode:
        sys.exit(f"--dbsp: {checkout} does not compile (exit code {done.returncode}); what it says is above")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return Path(next(one["executable"] for one in told if one.get("executable") and one["target"]["name"] == "nexmark"))


def measure(program: Path, query: str, cores: int, events: int) -> dict[str, Any]:
    """Run a query over so many events on so many cores and return its figures."""
    chosen = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    command = ["taskset", "-c", chosen, str(program), "--bench", "--query", query, "--max-events", str(events), "--cpu-cores", str(cores)]
    command += ["--num-event-generators", "1", "--input-batch-size", str(BATCH), "--no-progress"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"--dbsp: {query} failed (exit code {process.returncode}); what it says is above")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "user_us_per_event": round(used.ru_utime / events * 1e6, 3),
        "peak_rss_mb": used.ru_maxrss // 1024,
    }
