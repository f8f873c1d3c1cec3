"""A Redis server of its own on a free loopback port, which a test may kill."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import redis

PASSWORD = "correct horse battery"


class NoServer(Exception):
    """Redis is not installed here."""


class Server:
    """Started by `start`; `url` is where it is. What it holds is gone when it ends, unless it has a folder to keep it in."""

    def __init__(self, folder: Path | None = None) -> None:
        found = shutil.which("redis-server")
        if found is None:
            raise NoServer("Redis is not installed (on Debian: apt-get install redis-server)")
        self._program, self._folder = found, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", ""]
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)
            words += ["--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen([self._program, *words], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while True:
            try:
                self.client().ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def kill(self) -> None:
        """End it without warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
