from streamdsl._native.rows.row import RowShape
from streamdsl._native.state.row_table import RowField

class RowBlockField(RowField):
    def __init__(self, name: str, shape: RowShape) -> None: ...
