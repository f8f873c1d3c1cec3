"""Small jobs around one Processor, driven through the real tasks."""

from __future__ import annotations

from typing import Any

from streamdsl import Topology, memory
from streamdsl.testing import TopologyTestDriver

ROW = {"k": str, "n": int, "x": float}


def row(k: str | None, n: int = 0, x: float = 0.0) -> dict[str, Any]:
    """Return a row of the input."""
    return {"k": k, "n": n, "x": x}


def driven(
    processor: Any, *, tags: tuple[str, ...] = (), errors: Any = "fail", window: Any = None, grace: Any = 0, **options: Any
) -> TopologyTestDriver:
    """Return a driver of: rows by `k` → processor → "out" (and each tag to a sink of its name)."""
    topology = Topology("job")
    stream = topology.stream(memory("in", schema=ROW), watermarks="external").key_by("k")
    keyed = stream if window is None else stream.window(window, grace=grace)
    made = keyed.process(processor, name="op", errors=errors)
    made.to(memory("out"))
    for tag in tags:
        made.output(tag).to(memory(tag))
    return TopologyTestDriver(topology, **options)


def send(driver: TopologyTestDriver, *rows: tuple[int, dict[str, Any]]) -> None:
    """Send rows with their times as one batch."""
    driver.send_batch("in", [item for _, item in rows], timestamps=[at for at, _ in rows])
