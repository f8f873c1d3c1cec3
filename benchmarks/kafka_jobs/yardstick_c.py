"""The yardstick in C: what librdkafka itself takes, without Python. Compiled when it is run, against the library of the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import confluent_kafka
from confluent_kafka.admin import AdminClient

from benchmarks.kafka_jobs.work import Work

SOURCE = Path(__file__).with_name("yardstick.c")


def compiler() -> str:
    """Return the C compiler.

    Raises
    ------
    SystemExit
        There is none.
    """
    found = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if found is None:
        raise SystemExit("yardstick-c needs a C compiler; leave it out with --jobs")
    return found


def library() -> Path:
    """Return librdkafka as the Python client carries it."""
    package = Path(confluent_kafka.__file__).parent
    found = sorted([*package.parent.glob("confluent_kafka.libs/librdkafka*.so*"), *package.glob(".dylibs/librdkafka*")])
    if not found:
        raise SystemExit(f"there is no librdkafka beside {package}; leave yardstick-c out with --jobs")
    return found[0]


def main() -> None:
    """Compile it and become it."""
    work = Work.told()
    known = AdminClient({"bootstrap.servers": work.broker}).list_topics(work.transactions, timeout=30)
    partitions = len(known.topics[work.transactions].partitions)
    with tempfile.TemporaryDirectory() as place:
        program = Path(place) / "yardstick"
        subprocess.run([compiler(), "-O2", "-Wall", "-o", program, SOURCE, "-ldl"], check=True)
        arguments = [program, library(), work.broker, work.transactions, partitions, work.records]
        sys.exit(subprocess.run([str(argument) for argument in arguments], check=False).returncode)


if __name__ == "__main__":
    main()
