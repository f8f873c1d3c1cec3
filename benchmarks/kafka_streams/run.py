"""Builds the fraud job on Kafka Streams and says how to run it; see `FraudJob.java`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.kafka_jobs.work import Work
from examples.fraud.cities import CITIES

HERE = Path(__file__).resolve().parent
BUILT = HERE.parents[1] / "build" / "kafka_streams"
HEAP = "1g"


def build() -> str:
    """Compile what has changed since the last time, under `build/kafka_streams`, and return the class path."""
    maven = shutil.which("mvn")
    if maven is None:
        sys.exit("kafka-streams needs mvn, which is not on the PATH; install Apache Maven, or leave it out with --jobs")
    classpath, sources = BUILT / "classpath", [HERE / "pom.xml", *HERE.rglob("*.java")]
    if not classpath.exists() or any(path.stat().st_mtime > classpath.stat().st_mtime for path in sources):
        goals = ["compile", "dependency:build-classpath", f"-Dmdep.outputFile={classpath}"]
        done = subprocess.run([maven, "-q", "-B", *goals], cwd=HERE, stdout=sys.stderr, check=False)
        if done.returncode:
            sys.exit(
                f"kafka-streams: Maven could not build {HERE}; what it says is above. The first time it needs a repository within reach."
            )
        # Maven leaves the file as it is if it says the same, and then it would be made each time.
        os.utime(classpath)
    return f"{BUILT / 'classes'}{os.pathsep}{classpath.read_text().strip()}"


def version() -> str:
    """Return the version of Kafka Streams that `pom.xml` names."""
    return (HERE / "pom.xml").read_text().split("<kafka.version>")[1].split("<")[0]


def command(work: Work) -> list[str]:
    """Return how to run the job."""
    cities = BUILT / "cities.csv"
    cities.write_text("".join(f"{name},{latitude},{longitude}\n" for name, (latitude, longitude) in CITIES.items()), encoding="utf-8")
    told = (work.broker, work.transactions, work.alerts, work.records, work.guarantee, work.interval_ms, work.parallelism, work.directory)
    logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    java = shutil.which("java") or sys.exit("kafka-streams needs java, which is not on the PATH; install Java 17")
    return [java, f"-Xmx{HEAP}", logging, "-cp", build(), "streamdsl.benchmarks.FraudJob", *map(str, told), str(cities)]
