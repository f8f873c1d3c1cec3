"""What every job of `benchmarks/kafka.py` is told, and what it says at its end. Runs in the environments of other engines too."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Work:
    """Find the fraud among the transactions of a topic; write the alerts to another, as JSON.

    Attributes
    ----------
    records : int
        How many transactions there are; 0: more are coming, until SIGTERM.
    guarantee : str
        "exactly_once" or "at_least_once".
    interval_ms : int
        Between checkpoints, or commits.
    directory : str
        For state; it is empty.
    follows : bool
        Whether the job reads the records as one that never ends does: it is not told where the topic ends.
    """

    broker: str
    transactions: str
    alerts: str
    records: int
    guarantee: str
    interval_ms: int
    parallelism: int
    directory: str
    follows: bool = False

    def arguments(self) -> list[str]:
        """Return it as a command line."""
        return [json.dumps(asdict(self))]

    @classmethod
    def told(cls) -> Work:
        """Return what this process was told."""
        return cls(**json.loads(sys.argv[1]))

    @property
    def name(self) -> str:
        """Of the job: of its group, its transactions, its internal topics."""
        return f"job-of-{self.alerts}"


def peak_kib() -> int:
    """Return the most memory that was resident since this program began. `ru_maxrss` begins with what the parent had before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has taken so far, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(records: int, seconds: float, **more: Any) -> None:
    """Print what was measured, as the last line. What the interpreter itself does at its end is not measured."""
    megabytes = peak_kib() // 1024
    rate = round(records / seconds) if seconds > 0 else 0
    print(
        json.dumps({"records": records, "seconds": round(seconds, 3), "records_per_s": rate, "peak_rss_mb": megabytes, **more}), flush=True
    )
    os._exit(0)
