"""The page over HTTP: starlette and uvicorn in a thread. Only GET; other origins and strange hosts are refused; all is bounded."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from streamdsl.config import Config
from streamdsl.errors import ConfigError
from streamdsl.runtime.run import Run
from streamdsl.runtime.serving import is_loopback, may_be_asked, public_names
from streamdsl.runtime.state_pages import table_page
from streamdsl.ui.facts import Facts

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["UiServer", "serve_ui"]

_log = logging.getLogger("streamdsl")

#: How often the page is told the figures.
EVERY_S: Final = 1.0
#: Connections at a time, and of them pages that are told.
MOST_CONNECTIONS: Final = 64
MOST_STREAMS: Final = 16
#: A connection without a whole request ends after this.
REQUEST_S: Final = 5.0
_LONGEST_REQUEST: Final = 16 << 10
_START_S: Final = 20.0
_FILES: Final = {"/": ("index.html", "text/html"), "/app.js": ("app.js", "text/javascript"), "/style.css": ("style.css", "text/css")}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve_ui(
    run: Run,
    plans: Mapping[str, str],
    config: Config,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    allowed_hosts: Collection[str] = (),
    rows: bool = False,
) -> UiServer:
    """Serve the live page of a run.

    Parameters
    ----------
    run : Run
    plans : mapping
        The forms of the plan, as text, by their titles.
    config : Config
    port : int
        0: any free one, see `UiServer.address`.
    host : str
        Address to listen at. What is served is open to everybody who can reach it.
    allowed_hosts : collection of str
        Public names under which browsers reach it.
    rows : bool
        Whether rows of sinks and tables are shown.

    Returns
    -------
    UiServer
        To be closed at the end; a context manager.

    Raises
    ------
    ConfigError
        It cannot listen there, or the extra is not installed.
    """
    return UiServer(Facts(run, plans, config, rows=rows), host, port, public_names(allowed_hosts, host))


class UiServer:
    """What `serve_ui` returns. `address` is its URL."""

    def __init__(self, facts: Facts, host: str, port: int, allowed_hosts: frozenset[str]) -> None:
        try:
            import uvicorn

            from streamdsl.ui.bounds import BoundedProtocol
        except ModuleNotFoundError as error:
            raise ConfigError(f"the page needs {error.name!r}", remedy="pip install 'streamdsl[ui]'") from error
        self._facts, self._allowed = facts, allowed_hosts
        self._streams = 0
        self._closing = threading.Event()
        config = uvicorn.Config(
            self._app(),
            host=host,
            port=port,
            http=functools.partial(BoundedProtocol, most=MOST_CONNECTIONS, request_s=REQUEST_S),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=int(REQUEST_S),
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=_LONGEST_REQUEST,
        )
        self._server = uvicorn.Server(config)
        self._socket = _listening(host, port)
        bound = self._socket.getsockname()
        self.address = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        if not is_loopback(bound[0]):
            _log.warning("the page is served at %s: everybody who can reach it can read it", self.address)
        self._thread = threading.Thread(target=self._serve, name="streamdsl-ui", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def __enter__(self) -> UiServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving."""
        self._closing.set()
        self._server.should_exit = True
        self._thread.join(_START_S)
        self._socket.close()
        self._facts.close()

    # ------------------------------------------------------------------ pages

    def _app(self) -> Starlette:
        from starlette.applications import Starlette
        from starlette.routing import Route

        pages: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/api/job": self._job,
            "/api/state": self._state,
            "/api/events": self._events,
            **dict.fromkeys(_FILES, self._file),
        }
        routes = [Route(path, self._guarded(page), methods=["GET"]) for path, page in pages.items()]
        routes += [Route(path, self._guarded(self._tables), methods=["GET"]) for path in ("/tables", "/tables/{rest:path}")]
        return Starlette(routes=routes)

    def _guarded(self, page: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        from starlette.responses import PlainTextResponse

        @functools.wraps(page)
        async def guarded(request: Request) -> Response:
            refusal = self._refusal(request.headers)
            answer = PlainTextResponse(refusal, 403) if refusal else await page(request)
            answer.headers.update(_HEADERS)
            return answer

        return guarded

    def _refusal(self, headers: Mapping[str, str]) -> str:
        """Return why a request is not answered, "" where it is."""
        host = headers.get("host")
        if not may_be_asked(host, self._allowed):
            return "this Host is not allowed: see --ui-allow-host\n"
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2] != host
        # A link from elsewhere may open the page itself; its figures are for this page alone.
        opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") in ("document", None)
        if foreign or (headers.get("sec-fetch-site") in ("cross-site", "same-site") and not opened):
            return "other origins are not answered\n"
        return ""

    async def _file(self, request: Request) -> Response:
        from starlette.responses import Response

        name, kind = _FILES[request.url.path]
        return Response(resources.files("streamdsl.ui").joinpath("static", name).read_bytes(), media_type=kind)

    async def _job(self, request: Request) -> Response:
        return await self._json(self._facts.shape)

    async def _state(self, request: Request) -> Response:
        return await self._json(self._facts.figures)

    async def _json(self, facts: Callable[[], Any]) -> Response:
        from starlette.responses import Response

        return Response(await asyncio.to_thread(lambda: json.dumps(facts())), media_type="application/json")

    async def _tables(self, request: Request) -> Response:
        from starlette.responses import PlainTextResponse, Response

        if self._facts.samples is None:
            return PlainTextResponse("rows are not shown here: see --ui-rows\n", 403)
        status, text = await asyncio.to_thread(table_page, self._facts.run, request.scope["raw_path"].decode("ascii"), request.url.query)
        return Response(text, status, media_type="application/json")

    async def _events(self, request: Request) -> Response:
        from starlette.responses import PlainTextResponse, StreamingResponse

        if self._streams >= MOST_STREAMS:
            return PlainTextResponse(f"{MOST_STREAMS} pages are open already\n", 503)
        return StreamingResponse(self._told(), media_type="text/event-stream")

    async def _told(self) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            while not self._closing.is_set():
                # A reader that is slow is waited for: it gets the figures of then, not a backlog.
                yield b"data: " + (await asyncio.to_thread(lambda: json.dumps(self._facts.figures()))).encode() + b"\n\n"
                for _ in range(10):
                    if self._closing.is_set():
                        return
                    await asyncio.sleep(EVERY_S / 10)
        finally:
            self._streams -= 1


def _listening(host: str, port: int) -> Any:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(MOST_CONNECTIONS)
    except (OSError, OverflowError) as error:
        made.close()
        raise ConfigError(
            f"the page cannot be served at {host}:{port}: {getattr(error, 'strerror', None) or error}",
            remedy="take another port, or 0 for any free one",
        ) from error
    return made
