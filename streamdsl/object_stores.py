"""What all users of object stores share: the file system behind a URL, and requests that are made again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from streamdsl.errors import ConfigError, StreamError

__all__ = ["opened", "tried"]

_log = logging.getLogger("streamdsl")

#: How often a request is made again, and how long is waited before, longer and longer.
_TRIES: Final = 5
_PAUSE_S: Final = 0.2

#: What another attempt does not mend.
_REFUSED: Final = (PermissionError, ValueError, TypeError, NotImplementedError)

T = TypeVar("T")


def tried(
    what: str, request: Callable[[], T], failed: type[StreamError], *, final: tuple[type[Exception], ...] = (), again: bool = False
) -> T:
    """Return what a request returns; one that fails is made again a few times. All of them can be.

    Errors of this library, and those of `final`, are raised at once. Other ones become a `failed` in the end, which is
    ``recoverable`` where `again` says so and the store has not refused.
    """
    at_once: tuple[type[Exception], ...] = (StreamError, *final)
    for left in reversed(range(_TRIES)):
        try:
            return request()
        except at_once:
            raise
        except Exception as error:
            refused = isinstance(error, _REFUSED)
            if not left or refused:
                more = {"recoverable": True} if again and not refused else {}
                raise failed(
                    f"{what}: {type(error).__name__}: {error}", remedy="check the address, the rights and the network", **more
                ) from error
            _log.debug("%s, is tried again: %s", what, error)
            time.sleep(_PAUSE_S * 2 ** (_TRIES - 1 - left))
    raise AssertionError("the last try returns or raises")


def opened(url: str, failed: type[StreamError] = ConfigError) -> tuple[Any, str]:
    """Return the file system of a URL, and the path there; `failed` is raised where something for it is not installed."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise failed(f"{url}: object stores need fsspec", remedy="pip install 'streamdsl[objects]'") from error
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise failed(f"{url} cannot be used: {error}", remedy="install what fsspec needs for it, s3fs for s3://") from error
    return system, str(path)
