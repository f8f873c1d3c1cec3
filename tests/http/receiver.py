"""A web server that takes rows."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """What a webhook got. `answer(body, tries)` gives (status, headers)."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict, dict]] = []
        self.answer: Callable[[dict, int], tuple[int, dict]] = lambda body, tries: (204, {})
        self.tries: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def bodies(self) -> list[dict]:
        return [body for body, _ in self.requests]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve until the block ends."""
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers["Idempotency-Key"]
            with kept.lock:
                kept.tries[key] += 1
                kept.at_once += 1
                kept.most_at_once = max(kept.most_at_once, kept.at_once)
            status, headers = kept.answer(body, kept.tries[key])
            with kept.lock:
                kept.at_once -= 1
                if status < 300:
                    kept.requests.append((body, dict(self.headers)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}/hook?token=hunter2secret"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept
    server.shutdown()
    server.server_close()
