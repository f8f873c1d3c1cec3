"""Where the servers beside the job are. Addresses come from the environment, because they hold passwords."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamdsl import ConfigError, Secret

#: Those of compose.yml.
_USUAL: Final = {
    "FRAUD_POSTGRES": "postgresql://streamdsl:streamdsl@localhost:5432/streamdsl",
    "FRAUD_REDIS": "redis://localhost:6379",
}


def address(name: str, environ: Mapping[str, str]) -> Secret:
    """Return an address.

    Raises
    ------
    ConfigError
        Nobody has said it.
    """
    found = environ.get(name) or _USUAL.get(name)
    if found is None:
        raise ConfigError(f"{name} is not set", remedy=f"say where it is: {name}=https://…")
    return Secret(found)
