"""The thresholds of the rules, as a value: what a backtest compares, and what a file or a topic may say."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamdsl import ConfigError


@dataclass(frozen=True)
class Thresholds:
    """What the rules compare with.

    Parameters
    ----------
    velocity : int
        Transactions within a minute.
    sigmas : float
        Standard deviations from the mean amount.
    warmup : int
        Earlier transactions that a mean needs.
    kmh : float
        Speed between two cities.
    """

    velocity: int = 3
    sigmas: float = 3.0
    warmup: int = 5
    kmh: float = 900.0

    @classmethod
    def of(cls, values: dict[str, Any]) -> Thresholds:
        """Return the usual thresholds with these in their place.

        Raises
        ------
        ConfigError
            A name or a type does not fit.
        """
        known = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"there is no threshold {name!r}", remedy=f"there are: {', '.join(known)}")
            if isinstance(value, bool) or not isinstance(value, (int, known[name])) or value <= 0:
                raise ConfigError(f"{name} = {value!r} is no {known[name].__name__} above 0", remedy=f"the usual is {getattr(cls(), name)}")
        return cls(**values)

    @classmethod
    def read(cls, path: Path) -> Thresholds:
        """Return those of a JSON file."""
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(f"{path} has no thresholds: {error}", remedy='write an object: {"sigmas": 3.5}') from error
