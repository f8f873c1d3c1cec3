"""Which streamdsl this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version"]


def installed_version() -> str:
    """Return the version of the installed distribution; a checkout has none."""
    try:
        return version("streamdsl")
    except PackageNotFoundError:
        return "from its sources"
