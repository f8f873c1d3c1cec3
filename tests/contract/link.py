"""What stands between a client and a server: it cuts connections, keeps new ones out, and makes the server slow."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Link:
    """A port of this machine that leads to `port`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._away = False
        self._delay_s = 0.0
        self._refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        """Break all connections, as the death of the client does."""
        with self._lock:
            broken, self._sockets = self._sockets, []
        for each in broken:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """Break all connections, and every new one."""
        self._away = True
        self.cut()

    def come_back(self) -> None:
        """Let connections through again."""
        self._away = False

    def slow(self, delay_s: float) -> None:
        """Have each piece that is carried take so long."""
        self._delay_s = delay_s

    def refuse(self, yes: bool) -> None:
        """Answer each request of HTTP as a store does that does not know the key."""
        self._refuses = yes
        self.cut()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # who waits for a connection is told
        self._accepting.join()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._away:
                    client.close()
                    continue
                if self._refuses:
                    threading.Thread(target=_say_no, args=(client,), daemon=True).start()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._sockets += [client, server]
                for one, other in ((client, server), (server, client)):
                    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                time.sleep(self._delay_s)
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


_NO = b"<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"


def _say_no(client: socket.socket) -> None:
    with contextlib.suppress(OSError), client:
        client.recv(1 << 16)
        head = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        client.sendall(head % len(_NO) + _NO)
