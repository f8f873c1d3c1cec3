"""A sink that prints rows."""

from streamdsl.connectors.console.console import Console, console

__all__ = ["Console", "console"]
