"""The client of HTTP, and what its answers mean."""

from __future__ import annotations

import logging
from typing import Final

from streamdsl.errors import ConnectorError

# The one place that imports the client, for the one who has not installed it.
try:
    import httpx
except ImportError as missing:  # pragma: no cover - seen by those who installed the library alone
    raise ConnectorError("http(...) needs the package httpx", remedy="pip install 'streamdsl[http]'") from missing

__all__ = ["AGAIN", "REFUSED", "SHOWN", "httpx"]

#: Answers that another attempt may mend; so may all of 5xx.
AGAIN: Final = frozenset({408, 425, 429})
#: Answers that refuse whoever asks, whatever the row.
REFUSED: Final = frozenset({401, 403, 407})
#: Of an answer that refuses a row, so much is shown.
SHOWN: Final = 200


class _NoRequests(logging.Filter):
    """Keeps out what the client says of each request: it has the whole URL, which may be a secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


logging.getLogger("httpx").addFilter(_NoRequests())
