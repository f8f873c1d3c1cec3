from typing import Any

class RowField:
    name: str
    layout: str
    size: int
    def __init__(self, name: str, layout: str, size: int) -> None: ...

class RowTable:
    id: int
    kind: str
    name: str
    key_layout: str
    shards: int
    count: int
    fields: list[RowField]
    def add_field(self, field: RowField) -> None: ...
    def describe(self) -> dict[str, Any]: ...
