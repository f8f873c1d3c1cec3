"""Makes new inputs of old ones, for where no coverage-guided fuzzer can be installed, and for the small part in the suite."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["SEEDS", "Mutator"]

LONGEST: Final = 1 << 16
#: What decoders began with, and what broke them.
SEEDS: Final = Path(__file__).with_name("seeds")
#: Numbers at the edges of what lengths and offsets are written in.
EDGES: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
WORDS: Final = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\\",
    b"\\u",
    b"null",
    b"true",
    b"1e999",
    b"-0",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\x80\x80",
)


class Mutator:
    """Draws from `seed`; the same seed gives the same inputs."""

    def __init__(self, seeds: Sequence[bytes], seed: int) -> None:
        self._seeds, self._chance = list(seeds), random.Random(seed)

    def next(self) -> bytes:
        """Return another input."""
        value = bytearray(self._chance.choice(self._seeds))
        for _ in range(1 << self._chance.randrange(5)):
            self._change(value)
        return bytes(value[:LONGEST])

    def _change(self, value: bytearray) -> None:
        chance = self._chance
        at, until = sorted((chance.randint(0, len(value)), chance.randint(0, len(value))))
        kind = chance.randrange(8)
        if kind == 0 and value:
            value[at % len(value)] ^= 1 << chance.randrange(8)
        elif kind == 1 and value:
            value[at % len(value)] = chance.randrange(256)
        elif kind == 2:
            size = chance.choice((1, 2, 4, 8))
            value[at : at + size] = (chance.choice(EDGES) & (256**size - 1)).to_bytes(size, chance.choice(("little", "big")))
        elif kind == 3:
            del value[at:until]
        elif kind == 4:
            value[at:at] = value[at:until] * chance.choice((1, 1, 2, 50))
        elif kind == 5:
            value[at:at] = chance.choice(WORDS) * chance.choice((1, 1, 1, 3, 300))
        elif kind == 6:
            other = chance.choice(self._seeds)
            value[at:until] = other[chance.randint(0, len(other)) :]
        else:
            del value[chance.randint(0, len(value)) :]
