"""The example, killed three times on the way: ``python examples/fraud/crash_demo.py``.

SIGKILL gives a process no chance to tidy up. The run is started again with the same state directory, and in the end
every alert is there once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_TOPOLOGY = Path(__file__).resolve().with_name("topology.py")


def command(output: Path, state: Path, *options: str) -> list[str]:
    """Return the command that runs the example."""
    return [sys.executable, str(_TOPOLOGY), "--output", str(output), "--state-dir", str(state), *options]


def alerts(output: Path) -> Counter[tuple[int, str]]:
    """Return how often each alert stands in an output file."""
    with output.open(encoding="utf-8") as file:
        rows = (json.loads(line) for line in file)
        return Counter((row["transaction_id"], row["rule"]) for row in rows)


def run_and_kill(arguments: Sequence[str], kills: int, chance: random.Random) -> None:
    """Run to the end, with so many kills on the way."""
    for number in range(kills + 1):
        process = subprocess.Popen(arguments, start_new_session=True)
        try:
            if number == kills:
                if process.wait():
                    sys.exit(f"the run failed with exit code {process.returncode}")
                return
            time.sleep(chance.uniform(1.5, 3))
            if process.poll() is not None:
                print(f"ended before kill {number + 1}")
                return
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        print(f"\n*** killed with SIGKILL ({number + 1} of {kills}); starting again ***\n", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; return the exit code."""
    parser = argparse.ArgumentParser(description="Kill the fraud example and start it again.")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--rate", default="20000")
    parser.add_argument("--seed", type=int, default=None, help="chooses the moments")
    parser.add_argument("--quiet", action="store_true")
    asked = parser.parse_args(argv)
    quiet = ["--quiet"] if asked.quiet else []
    with tempfile.TemporaryDirectory(prefix="fraud-crash-") as name:
        directory = Path(name)
        print("first without a crash, for the alerts to expect", flush=True)
        subprocess.run(command(directory / "expected.jsonl", directory / "calm", "--quiet"), check=True)
        expected = alerts(directory / "expected.jsonl")
        print(f"now at {asked.rate} records a second, with {asked.kills} kills", flush=True)
        arguments = command(directory / "alerts.jsonl", directory / "state", "--rate", asked.rate, "--checkpoint-interval", "500ms", *quiet)
        run_and_kill(arguments, asked.kills, random.Random(asked.seed))
        found = alerts(directory / "alerts.jsonl")
    twice = sum(1 for times in found.values() if times > 1)
    print(f"{len(expected):,} alerts expected, {len(found):,} found, {twice:,} twice")
    return 0 if found == expected else 1


if __name__ == "__main__":
    sys.exit(main())
