"""Ticks of the wall clock, as a source."""

from streamdsl.connectors.ticks.ticks import Ticks

__all__ = ["Ticks"]
