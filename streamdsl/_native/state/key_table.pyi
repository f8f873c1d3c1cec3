from streamdsl._native.state.row_table import RowTable

class KeyTable(RowTable):
    evictable: bool
    cold: int
    any_cold: bool
    reads: int
    def stored(self, key: bytes) -> bytes | None: ...
    def stored_rows(self, slot: int, n: int) -> tuple[list[tuple[bytes, bytes]], int]: ...
    def expect_any(self) -> None: ...
