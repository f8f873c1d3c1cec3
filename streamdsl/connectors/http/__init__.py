"""HTTP: each row as a request."""

from streamdsl.connectors.http.description import Http, http

__all__ = ["Http", "http"]
