from typing import Any

from streamdsl._native.state.row_table import RowField

KINDS: tuple[str, str, str]

class StateSpec:
    name: str
    text: str

class StateField(RowField):
    def states_at(self, slot: int) -> dict[str, Any]: ...
