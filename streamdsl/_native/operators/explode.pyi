from streamdsl._native.operators.base import Operator

class ExplodeOperator(Operator):
    def __init__(self, name: str, column: int, empty_as_null: bool, keep_nulls: bool, index: bool = False) -> None: ...
