from streamdsl._native.state.row_table import RowTable

class KeyTable(RowTable):
    evictable: bool
    cold: int
    reads: int
    def expect_any(self) -> None: ...
