"""A PostgreSQL server of its own: a new cluster on a free loopback port, which a test may kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

PASSWORD = "correct horse battery"


class NoServer(Exception):
    """PostgreSQL is not installed here."""


def binaries() -> Path:
    """Return the directory of the newest server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path is None:
        raise NoServer("PostgreSQL is not installed (on Debian: apt-get install postgresql)")
    return Path(on_path).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """Initialised in `folder`, started by `start`; `dsn` is where it is."""

    def __init__(self, folder: Path) -> None:
        self._bin = binaries()
        self._data = folder / "data"
        self._log = folder / "log"
        self.port = free_port()
        self.dsn = f"postgresql://streamdsl:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root.
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(folder, "postgres", "postgres")
        words = folder / "password"
        words.write_text(PASSWORD)
        words.chmod(0o644)
        subprocess.run(
            [
                self._bin / "initdb",
                "-D",
                self._data,
                "-U",
                "streamdsl",
                "--pwfile",
                words,
                "-A",
                "scram-sha-256",
                "-E",
                "UTF8",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            **self._as,
        )

    def start(self) -> None:
        """Start, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-p", str(self.port), "-h", "127.0.0.1", "-k", ""],
                stdout=log,
                stderr=log,
                **self._as,
            )
        until = time.monotonic() + 60
        while subprocess.run([self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False).returncode:
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError(f"the server did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it without warning; its children notice that they are alone."""
        assert self._process is not None
        found = subprocess.run(["pgrep", "-P", str(self._process.pid)], check=False, capture_output=True, text=True)
        children = [Path("/proc", pid) for pid in found.stdout.split()]
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + 30
        # The children hold the shared memory until they have noticed.
        while time.monotonic() < until and any(child.exists() for child in children):
            time.sleep(0.02)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
