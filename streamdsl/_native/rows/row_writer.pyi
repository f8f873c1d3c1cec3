from typing import Any

from streamdsl._native.rows.row import RowShape

class RowWriter:
    shape: RowShape
    n: int
    def __init__(self, operator: str, schema: Any, source: RowShape | None = None, keyed: bool = False) -> None: ...
    def checked(self, result: Any) -> tuple[Any, ...]: ...
