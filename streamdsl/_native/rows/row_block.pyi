from streamdsl._native.rows.row import RowShape
from streamdsl._native.state.arena import Arena

class RowPacker:
    layout: str
    def __init__(self, shape: RowShape, arena: Arena) -> None: ...
