"""A real Flink on loopback: a JobManager, TaskManagers and the SQL gateway, a process each.

with Cluster() as flink:
    flink.gateway, flink.kill_task_manager(0), flink.start_task_manager()
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.flink.pyflink import OPENS, jar_of
from tests.kafka import leash
from tests.kafka.distribution import alone, cache

__all__ = ["Cluster", "FlinkFailed", "NoFlink", "classpath"]

HOST: Final = "127.0.0.1"
POM: Final = Path(__file__).resolve().parent / "pom.xml"
START_TIMEOUT_S: Final = 120.0
#: C1 alone and one collector thread: processes of tests live for a minute.
QUICKLY_THERE: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class NoFlink(RuntimeError):
    """There is no Flink to start here; the text says why, and what would help."""


class FlinkFailed(RuntimeError):
    """A process did not do what it was told; the text has the end of its log."""


def classpath() -> tuple[str, str]:
    """Return the path of Java and the class path of Flink, fetched by Maven if it is not there yet."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None:
        raise NoFlink("no Flink: there is no java on the PATH; install Java 17")
    home = cache() / "flink"
    with alone(home):
        # Two trees may ask for two class paths.
        known = home / f"classpath-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
        if not known.exists() or not _all_there(known.read_text()):
            if maven is None:
                raise NoFlink("no Flink: there is no mvn on the PATH; install Apache Maven")
            goals = ["dependency:build-classpath", f"-Dmdep.outputFile={known}", "-Dmdep.includeScope=runtime"]
            done = subprocess.run([maven, "-q", "-B", "-f", str(POM), *goals], capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stdout + done.stderr).strip()[-2000:]
                raise NoFlink(f"no Flink: Maven could not fetch it, for which it needs a repository within reach\n{said}")
        return java, known.read_text().strip()


def _all_there(paths: str) -> bool:
    return all(Path(path).exists() for path in paths.strip().split(os.pathsep))


class Cluster:
    """One JobManager, some TaskManagers, and the SQL gateway.

    Parameters
    ----------
    task_managers : int
    slots : int
        Of each TaskManager.
    parallelism : int
        Tasks of a job's stages.
    python : Path, optional
        A Python with PyFlink, for functions: `tests.flink.pyflink`.
    """

    def __init__(
        self,
        *,
        task_managers: int = 2,
        slots: int = 4,
        parallelism: int = 3,
        options: dict[str, str] | None = None,
        python: Path | None = None,
        brief: bool = True,
    ) -> None:
        self._brief = brief
        self.java, self.classpath = classpath()
        if python is not None:
            self.classpath = os.pathsep.join([self.classpath, str(jar_of(python))])
            options = {"python.executable": str(python), "python.client.executable": str(python), **(options or {})}
        self.directory = Path(tempfile.mkdtemp(prefix="streamdsl-flink-"))
        self.rpc, self.rest, self.port = _free_ports(3)
        self.task_managers: list[subprocess.Popen[bytes]] = []
        self._others: list[subprocess.Popen[bytes]] = []
        self._wanted = task_managers
        self._started = 0
        self.options = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": str(self.rpc),
            "jobmanager.bind-host": HOST,
            "jobmanager.memory.heap.size": "300m",
            "jobmanager.memory.off-heap.size": "64m",
            "jobmanager.memory.jvm-metaspace.size": "160m",
            "jobmanager.memory.jvm-overhead.min": "32m",
            "jobmanager.memory.jvm-overhead.max": "64m",
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": str(self.rest),
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.cpu.cores": "2.0",
            "taskmanager.memory.task.heap.size": "256m",
            "taskmanager.memory.task.off-heap.size": "0m",
            "taskmanager.memory.framework.heap.size": "96m",
            "taskmanager.memory.framework.off-heap.size": "64m",
            "taskmanager.memory.managed.size": "160m",
            "taskmanager.memory.network.min": "64m",
            "taskmanager.memory.network.max": "64m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "64m",
            "taskmanager.memory.jvm-overhead.max": "64m",
            "taskmanager.numberOfTaskSlots": str(slots),
            "parallelism.default": str(parallelism),
            "io.tmp.dirs": str(self.directory / "tmp"),
            "blob.storage.directory": str(self.directory / "blob"),
            "execution.checkpointing.dir": f"file://{self.directory / 'checkpoints'}",
            "execution.checkpointing.savepoint-dir": f"file://{self.directory / 'savepoints'}",
            "execution.checkpointing.interval": "1 s",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "5",
            "restart-strategy.fixed-delay.delay": "100 ms",
            "heartbeat.interval": "1000",
            "heartbeat.timeout": "10000",
            "classloader.check-leaked-classloader": "false",
            "sql-gateway.endpoint.rest.address": HOST,
            "sql-gateway.endpoint.rest.bind-address": HOST,
            "sql-gateway.endpoint.rest.port": str(self.port),
            **(options or {}),
        }

    @property
    def gateway(self) -> str:
        """Where the SQL gateway answers."""
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start everything and wait until the slots are there and the gateway answers."""
        conf = self.directory / "conf"
        conf.mkdir()
        (self.directory / "tmp").mkdir()
        (conf / "config.yaml").write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in self.options.items()))
        main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self._others.append(self._run("jobmanager", "400m", main, "--configDir", str(conf)))
        self._others.append(self._run("gateway", "400m", "org.apache.flink.table.gateway.SqlGateway"))
        for _ in range(self._wanted):
            self.start_task_manager()
        self.wait_for_task_managers(self._wanted)
        self._wait(lambda: _get(f"{self.gateway}/v1/info"), "the SQL gateway does not answer", "gateway")

    def start_task_manager(self) -> None:
        """Start one more TaskManager."""
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        self._started += 1
        process = self._run(f"taskmanager-{self._started}", "400m", main, "--configDir", str(self.directory / "conf"))
        self.task_managers.append(process)

    def kill_task_manager(self, number: int) -> None:
        """Kill a TaskManager."""
        process = self.task_managers.pop(number)
        process.kill()
        process.wait()

    def wait_for_task_managers(self, count: int) -> None:
        """Wait until so many TaskManagers have registered."""

        def there() -> bool:
            found = _get(f"http://{HOST}:{self.rest}/overview")
            return found is not None and found["taskmanagers"] >= count

        self._wait(there, "the TaskManagers do not register", "taskmanager-1")

    def rest_get(self, path: str) -> Any:
        """Return what the JobManager's REST API says."""
        return _get(f"http://{HOST}:{self.rest}{path}")

    def close(self) -> None:
        """End all processes and remove their files."""
        for process in (*self.task_managers, *self._others):
            process.kill()
        for process in (*self.task_managers, *self._others):
            process.wait()
        if not os.environ.get("STREAMDSL_KEEP_FLINK"):
            shutil.rmtree(self.directory, ignore_errors=True)

    def log(self, name: str) -> str:
        """Return the end of a process's log."""
        return (self.directory / f"{name}.log").read_text(errors="replace")[-6000:]

    def _run(self, name: str, heap: str, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENS]
        logging = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        command = [
            self.java,
            f"-Xmx{heap}",
            *(QUICKLY_THERE if self._brief else QUICKLY_THERE[:1]),
            *opens,
            *logging,
            "-cp",
            self.classpath,
            main,
            *arguments,
        ]
        environment = {**os.environ, "FLINK_CONF_DIR": str(self.directory / "conf")}
        with (self.directory / f"{name}.log").open("wb") as log:
            return leash.start(command, log, env=environment)

    def _wait(self, there: Any, otherwise: str, log: str) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            if there():
                return
            if any(process.poll() is not None for process in (*self._others, *self.task_managers)):
                break
            time.sleep(0.1)
        raise FlinkFailed(f"{otherwise}\n{self.log(log)}")


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except (OSError, urllib.error.URLError, ValueError):
        return None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
