"""Builds the fraud job on Kafka Streams and says how to run it; see `FraudJob.java`."""

from __future__ import annotations

from pathlib import Path

from benchmarks import maven
from benchmarks.kafka_jobs.work import Work
from examples.fraud.cities import CITIES

HERE = Path(__file__).resolve().parent
BUILT = HERE.parents[1] / "build" / "kafka_streams"
HEAP = "1g"


def build() -> str:
    """Compile what has changed since the last time, under `build/kafka_streams`, and return the class path."""
    return maven.build(HERE, BUILT, "kafka-streams")


def version() -> str:
    """Return the version of Kafka Streams that `pom.xml` names."""
    return (HERE / "pom.xml").read_text().split("<kafka.version>")[1].split("<")[0]


def command(work: Work) -> list[str]:
    """Return how to run the job."""
    cities = BUILT / "cities.csv"
    cities.write_text("".join(f"{name},{latitude},{longitude}\n" for name, (latitude, longitude) in CITIES.items()), encoding="utf-8")
    told = (work.broker, work.transactions, work.alerts, work.records, work.guarantee, work.interval_ms, work.parallelism, work.directory)
    logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    return [
        maven.java("kafka-streams"),
        f"-Xmx{HEAP}",
        logging,
        "-cp",
        build(),
        "streamdsl.benchmarks.FraudJob",
        *map(str, told),
        str(cities),
    ]
