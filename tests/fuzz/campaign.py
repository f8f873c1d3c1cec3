"""Feeds each decoder inputs for a while: ``python -m tests.fuzz.campaign [--targets NAME …] [--seconds S] [--seed N]``.

Coverage-guided where atheris is installed (it sees the decoders in Python), else by a seeded mutator. Each decoder runs in a process of its
own with bounds on memory and time. What breaks one is kept in `build/fuzz`, and belongs into `seeds/` once it is mended.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.mutator import LONGEST, SEEDS, Mutator

NAMES = sorted(place.name for place in SEEDS.iterdir())
FOUND = Path("build/fuzz")
#: What one input may take of the processor; beyond it the process ends with the stack of what hangs.
HANG_S = 20
#: By the clock, which also runs while others use the machine: so long nobody waits for a lock.
DEADLOCK_S = 600
MEMORY_BYTES = 4 << 30
GUIDED = importlib.util.find_spec("atheris") is not None


def feed(name: str, seconds: float, seed: int, guided: bool) -> None:
    """Feed one decoder in this process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if guided:
        feed_guided(name, seconds, seed)
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]()
    mutator = Mutator(target.stored(), seed)
    check = watched(name, target.check)
    until, count = time.monotonic() + seconds, 0
    for value in target.stored():
        check(value)
    while time.monotonic() < until:
        check(mutator.next())
        count += 1
    print(f"{name}: {count} inputs", flush=True)
    os._exit(0)  # a registry's thread may be answering


def watched(name: str, check: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Return `check` with a bound on the CPU time of each input, which is kept in a file meanwhile, whatever the process dies of."""
    current = (FOUND / f"{name}-current").open("wb", buffering=0)
    # The stack is printed where the signal comes; then it ends the process, as it does by default.
    faulthandler.register(signal.SIGPROF, all_threads=True, chain=True)
    count = 0

    def checked(value: bytes) -> None:
        nonlocal count
        current.seek(0)
        current.truncate()
        current.write(value)
        if count % 100 == 0:
            faulthandler.dump_traceback_later(DEADLOCK_S, exit=True)
        count += 1
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        check(value)

    return checked


def feed_guided(name: str, seconds: float, seed: int) -> None:
    """Hand the process to libFuzzer, which ends it."""
    import atheris  # type: ignore[import-not-found,unused-ignore]

    packages = ["streamdsl.formats", "streamdsl.connectors.kafka", "fastavro", "confluent_kafka.schema_registry"]
    with atheris.instrument_imports(include=packages):
        from tests.fuzz.targets import TARGETS

        target: Any = TARGETS[name]()
        target.judge(target.stored()[0])  # imports the rest, which takes longer than a record may
    grown = FOUND / "corpus" / name
    grown.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds:.0f}",
        f"-seed={seed}",
        f"-timeout={DEADLOCK_S}",
        f"-rss_limit_mb={MEMORY_BYTES >> 21}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={FOUND}/{name}-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(grown), str(SEEDS / name)], watched(name, target.check))
    atheris.Fuzz()


def main() -> int:
    """Feed the decoders one after another; 1 if one has broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--targets", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    add("--seconds", type=float, default=600, help="for each")
    add("--seed", type=int, default=1)
    add("--mutator", action="store_true", help="use the mutator although atheris is there")
    add("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    FOUND.mkdir(parents=True, exist_ok=True)
    guided = GUIDED and not asked.mutator
    if asked.in_this_process:
        feed(asked.targets[0], asked.seconds, asked.seed, guided)
    broken = []
    for name in asked.targets:
        print(f"{name}: {asked.seconds:.0f} s, {'coverage-guided' if guided else 'by the mutator'}", flush=True)
        more = ["--mutator"] if asked.mutator else []
        command = [sys.executable, "-m", "tests.fuzz.campaign", "--in-this-process", "--targets", name, *more]
        code = subprocess.run([*command, "--seconds", str(asked.seconds), "--seed", str(asked.seed)], check=False).returncode
        if code:
            broken.append(name)
            kept = FOUND / f"{name}-current"
            if kept.exists():
                kept.rename(FOUND / f"{name}-broke-{asked.seed}")
            print(f"{name}: it broke (exit code {code}); the input is in {FOUND}", flush=True)
    print(f"broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
