"""What becomes of records that a source could not decode."""

from __future__ import annotations

import logging
import re
from typing import Any

import pyarrow as pa

from streamdsl._native.event_time.clock import Clock
from streamdsl._native.includes.faults import fault
from streamdsl.errors import DataError, in_one_line, shown
from streamdsl.physical.node import PhysicalSource

log = logging.getLogger("streamdsl")

#: Decoders begin a reason with the field that it is about.
_FIELD = re.compile(r"field '([^']+)'")


class RejectPolicy:
    """Called by a task with each rejected record; fails, skips it, or sends it to the dead letters."""

    def __init__(self, spec: PhysicalSource, target: Any, clock: Clock) -> None:
        self.spec, self.target, self.clock = spec, target, clock
        self.errors = spec.errors
        self.skipped = 0

    def __call__(self, task: Any, rejected: Any) -> None:
        if self.errors == "dead_letter":
            fault("FP37")
            task.dead_letter(self._row(rejected), self.target)
        elif self.errors == "skip":
            self.skipped += 1
            if self.skipped == 1:
                log.warning(
                    "%s: bad records are skipped (counted as rejected); the first: %s at %s, record %s: %s",
                    self.spec.name,
                    in_one_line(rejected.reason),
                    rejected.topic,
                    rejected.offset,
                    shown(rejected.raw),
                )
        else:
            field = _FIELD.match(rejected.reason)
            raise DataError(
                f"a record cannot be read: {shown(rejected.raw)}",
                remedy='mend the record, or give the stream errors="skip" or errors=dead_letter(sink)',
                operator=self.spec.name,
                field=field and field[1],
                topic=rejected.topic,
                partition=rejected.partition,
                offset=rejected.offset,
                reason=rejected.reason,
            )

    def _row(self, rejected: Any) -> pa.RecordBatch:
        values = {
            "value": (rejected.raw, pa.binary()),
            "error": (rejected.reason, pa.string()),
            "operator": (self.spec.name, pa.string()),
            "topic": (rejected.topic, pa.string()),
            "partition": (rejected.partition, pa.int64()),
            "offset": (rejected.offset, pa.int64()),
            "timestamp": (self.clock.time_ms(), pa.int64()),
        }
        return pa.RecordBatch.from_arrays([pa.array([v], t) for v, t in values.values()], names=list(values))
