from collections.abc import Callable
from typing import Any

import pyarrow as pa

from streamdsl._native.event_time.clock import Clock
from streamdsl._native.operators.base import Operator
from streamdsl._native.operators.refusals import Refusals

class SinkOperator(Operator):
    watchers: tuple[Any, ...]
    written: int
    def __init__(
        self,
        name: str,
        columns: list[int],
        canonical: pa.Schema,
        schema: pa.Schema,
        clock: Clock,
        opens: Callable[[], Any],
        refusals: Refusals | None = None,
    ) -> None: ...
    def commit(self, checkpoint_id: int) -> None: ...
    def close(self) -> None: ...
    def latency_buckets(self) -> dict[int, int]: ...
