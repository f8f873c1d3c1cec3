from streamdsl._native.operators.row import RowShape
from streamdsl._native.state.key_table import RowField

class RowBlockField(RowField):
    def __init__(self, name: str, shape: RowShape) -> None: ...
