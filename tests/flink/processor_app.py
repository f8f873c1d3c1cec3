"""A topology with a processor, for the comparison with PyFlink. Its files lie in the directory STREAMDSL_PYTHON_APP."""

import os
import random
from typing import Any

from streamdsl import Processor, Topology, col, count, files, tumbling

DIRECTORY = os.environ.get("STREAMDSL_PYTHON_APP", "/tmp")
DISORDER_MS = 200


def rows(rnd: random.Random, count_: int) -> list[dict[str, Any]]:
    """Rows in the order of their times."""
    keys, start = ("ä", "b", "c"), 1_700_000_000_000
    return [
        {"id": i, "k": rnd.choice(keys), "s": rnd.choice("xyz"), "x": rnd.randrange(800) / 8, "at": start + i * 137} for i in range(count_)
    ]


class Totals(Processor):
    """The total of each second of a key, told by a timer, which no later row can change."""

    output = {"k": str, "moved": float, "n": int, "why": str}
    outputs = {"big": {"id": int, "times": list[int]}}

    def __init__(self, size: int) -> None:
        self.size = size

    def open(self, ctx: Any) -> None:
        """State of all kinds."""
        self.moved = ctx.state.value("moved", float)
        self.seen = ctx.state.list("seen", int)
        self.sums = ctx.state.map("sums", int, float)
        self.counts = ctx.state.map("counts", str, int)
        self.count = ctx.metrics.counter("rows")

    def process(self, row: Any, ctx: Any) -> Any:
        """A row goes into its second."""
        self.count.inc()
        second = ctx.timestamp // self.size
        last = (second + 1) * self.size - 1
        self.moved.set(self.moved.get(0.0) + row.x)
        self.seen.append(row.id)
        self.sums[second] = self.sums.get(second, 0.0) + row.x
        self.counts.put(str(second), self.counts.get(str(second), 0) + 1)
        ctx.set_timer(last, "total")
        ctx.set_timer(last, "never")
        ctx.set_timer(last + 5, "never")
        ctx.cancel_timer(last, "never")
        ctx.cancel_timer(last + 5, "never")
        if row.id % 50 == 0:
            ctx.emit({"id": row.id, "times": self.seen.get()}, to="big")
        if row.x > 90:
            yield {"k": ctx.key, "moved": self.moved.get(), "n": len(self.seen), "why": "row"}

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        """The second is over."""
        second = timer.time // self.size
        count = self.counts.get(str(second))
        yield {"k": ctx.key, "moved": self.sums[second], "n": count, "why": f"{timer.name}@{timer.time} {ctx.timestamp}"}
        del self.sums[second]
        self.counts.remove(str(second))


topology = Topology("processors")
source = files(f"{DIRECTORY}/moves.jsonl", {"id": int, "k": str, "s": str, "x": float, "at": int})
made = topology.stream(source, timestamp="at", disorder=f"{DISORDER_MS}ms").key_by("k").process(Totals(1000), name="quiet")
later = made.key_by("k").window(tumbling("5s")).aggregate(n=count(), most=col("n").max())
for name, stream in (("made", made), ("big", made.output("big")), ("later", later)):
    stream.to(files(f"{DIRECTORY}/{name}.rows", format="json"), name=name)
