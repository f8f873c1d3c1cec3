"""Apache Kafka itself: fetched once by Maven as `pom.xml` says, then kept outside the tree."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

POM: Final = Path(__file__).resolve().parent / "pom.xml"
#: C1 alone: a broker of a test lives for seconds, in which C2 would only take the cores away from it.
QUICKLY_THERE: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class NoKafka(RuntimeError):
    """There is no Kafka to start here; the text says why, and what would help."""


@dataclass(frozen=True)
class Distribution:
    """Kafka's jars, and the Java that runs them."""

    version: str
    java: str
    home: Path

    @property
    def classpath(self) -> str:
        """All jars, in an order that is always the same: the archive of classes holds for one order only."""
        return os.pathsep.join(str(jar) for jar in sorted((self.home / "lib").glob("*.jar")))

    @property
    def archive(self) -> Path:
        """Where this Java keeps Kafka's classes as it wants them in memory; with it a start takes a third of the time."""
        real = Path(self.java).resolve()
        return self.home / f"classes-{zlib.crc32(f'{real} {real.stat().st_mtime_ns} {self.classpath}'.encode()):08x}.jsa"

    def command(self, main: str, *arguments: str, heap: str, jvm: tuple[str, ...] = QUICKLY_THERE) -> list[str]:
        """Return how to run one of Kafka's programs."""
        archived = [f"-XX:SharedArchiveFile={self.archive}"] if self.archive.exists() else []
        logging = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")
        return [self.java, f"-Xmx{heap}", *archived, *jvm, *logging, "-cp", self.classpath, main, *arguments]


def version() -> str:
    """Return the version of Kafka that `pom.xml` names."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", POM.read_text())
    assert found, f"{POM} names no kafka.version"
    return found[1]


def cache() -> Path:
    """Return the folder for what is fetched once for all runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamdsl-tests"


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """Keep other test processes, which may want the same thing, waiting."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch() -> Distribution:
    """Return Kafka, fetched by Maven if it is not there yet.

    Raises
    ------
    NoKafka
        Without Java, or where Maven is needed and does not do it.
    """
    java = shutil.which("java")
    if java is None:
        raise NoKafka("no broker: there is no java on the PATH; install Java 17 or newer, or set STREAMDSL_TEST_BROKER=HOST:PORT")
    kafka = Distribution(version(), java, cache() / f"kafka-{version()}")
    with alone(kafka.home):
        if not (kafka.home / "lib").exists():
            _fetch(kafka.home / "lib")
    return kafka


def _fetch(lib: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NoKafka("no broker: there is no mvn on the PATH; install Apache Maven, or set STREAMDSL_TEST_BROKER=HOST:PORT")
    partial = lib.with_name("lib.partial")
    shutil.rmtree(partial, ignore_errors=True)
    goals = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run([maven, "-q", "-B", "-f", str(POM), *goals], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise NoKafka(f"no broker: Maven could not fetch Kafka {version()}, for which it needs a repository within reach\n{said}")
    # Last: the folder is whole when it has its name.
    partial.rename(lib)
