from typing import Literal

class BarrierAligner:
    size: int
    checkpoint_id: int
    completed: int
    missing: int
    def __init__(self, size: int) -> None: ...
    def barrier(self, input: int, checkpoint_id: int) -> Literal["wait", "complete", "abandon", "stale"]: ...
