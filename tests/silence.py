"""A server that falls silent: connections stay, and nothing is answered any more."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamdsl import Config, Topology, files

#: What a stop may take; and how late a busy machine may be, which is less than any of the time-outs that it must not wait for.
STOP_S, LATE_S = 2, 5


class Link:
    """Stands between a client and the server at `port` of this machine; without one it takes connections and says nothing."""

    def __init__(self, port: int | None = None) -> None:
        self._target = port
        self._silent = threading.Event()
        #: Set when something was asked, or answered, and kept back.
        self.asked = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def fall_silent(self) -> None:
        """Answer nothing from now on."""
        self._silent.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if self._target is None or self._silent.is_set():
                    self.asked.set()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets.append(server)
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if not self._silent.is_set():
                    other.sendall(data)
                else:
                    self.asked.set()

    def close(self) -> None:
        """Break all connections: whoever waits hears of it."""
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._accepting.join(10)


def run_of(place: Path, put: Callable[[Any], Any], **settings: Any) -> Any:
    """Start a job of rows that come one after another; `put` has the stream, and says where they go."""
    (place / "in.csv").write_text("k,v\n" + "".join(f"k{n % 3},{n}\n" for n in range(100_000)))
    topology = Topology("silent")
    put(topology.stream(files(place / "in.csv", schema={"k": str, "v": int}, rate=500.0), name="in"))
    return topology.start(Config(state_dir=place / "state", checkpoint_interval="50ms", stop_timeout=f"{STOP_S}s", **settings))


def check_stop(run: Any, link: Link, *, checkpoints: int = 2) -> None:
    """Have the server fall silent behind so many checkpoints: the run stops in time, and leaves no thread once its calls are over."""
    try:
        until = time.monotonic() + 60
        while run.metrics()["checkpoints"]["completed"] < checkpoints:
            assert not run.wait(0.02) and time.monotonic() < until
        link.fall_silent()
        assert link.asked.wait(30)
        began = time.monotonic()
        run.stop()
        assert run.wait()
        assert time.monotonic() - began < STOP_S + LATE_S
    finally:
        link.close()
        run._control.join(60)
    assert not run.left_behind
