"""A schema registry for tests: the calls of Confluent's REST interface that serializers make, in memory, on loopback."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class Registry:
    """Schemas by number and by subject; `url` is where it listens while it is entered."""

    def __init__(self) -> None:
        self.schemas: list[dict[str, Any]] = []
        self.versions: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"registry": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def register(self, subject: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Take a schema under a subject; the same one has one number."""
        kept = {key: schema[key] for key in ("schema", "schemaType", "references") if schema.get(key)}
        with self._lock:
            if kept not in self.schemas:
                self.schemas.append(kept)
            number = self.schemas.index(kept) + 1
            versions = self.versions.setdefault(subject, [])
            if number not in versions:
                versions.append(number)
            return {"subject": subject, "id": number, "version": versions.index(number) + 1, **kept}

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """Return what the registry says, None for "not found"."""
        path = path.partition("?")[0]
        if method == "POST" and (found := re.fullmatch(r"/subjects/([^/]+)(/versions)?", path)):
            return self.register(found[1], body or {})
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            number = int(found[1])
            return self.schemas[number - 1] if 0 < number <= len(self.schemas) else None
        if found := re.fullmatch(r"/subjects/([^/]+)/versions/(\w+)", path):
            versions = self.versions.get(found[1], [])
            version = len(versions) if found[2] == "latest" else int(found[2])
            if 0 < version <= len(versions):
                return {"subject": found[1], "version": version, "id": versions[version - 1], **self.schemas[versions[version - 1] - 1]}
        return None

    def __enter__(self) -> Registry:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    registry: ClassVar[Registry]

    def _do(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        found = self.registry.answer(self.command, self.path, json.loads(self.rfile.read(size)) if size else None)
        said = json.dumps({"error_code": 40403, "message": "not found"} if found is None else found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = _do

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
