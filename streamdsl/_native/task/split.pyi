from typing import Any

class Split:
    name: str
    ended: bool
    taken: int
    def __init__(self, name: str, index: int, number: int, reader: Any, disorder_ms: int, external: bool, state: Any) -> None: ...
    def snapshot(self, reached: int, word_of_idleness: bool) -> dict[str, Any]: ...
