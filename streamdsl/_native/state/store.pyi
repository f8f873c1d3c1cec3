from collections.abc import Iterable, Mapping
from typing import Any

from streamdsl._native.state.key_table import KeyTable, RowField
from streamdsl._native.state.write_stream import WriteStream

class StateStore:
    name: str
    shards: int
    stream: WriteStream
    tables: list[KeyTable]
    barrier: int
    def __init__(self, name: str, shards: int) -> None: ...
    def add_table(self, kind: str, name: str, key_layout: str = "bytes", fields: Iterable[RowField] = ()) -> KeyTable: ...
    def describe(self) -> dict[str, Any]: ...
    def begin_checkpoint(self, checkpoint_id: int) -> None: ...
    def drain_some(self, max_rows: int) -> bool: ...
    def memory_bytes(self) -> int: ...
    def counts(self) -> dict[tuple[str, str], int]: ...

class RowLoader:
    rows: int
    def __init__(
        self,
        store: StateStore,
        mapping: Mapping[int, list[tuple[int, dict[int, int]]]],
        field_counts: Mapping[int, int],
        stored: bool,
    ) -> None: ...
    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> int: ...
