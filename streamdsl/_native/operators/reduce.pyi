from typing import Any

from streamdsl._native.operators.key_lookup import KeyLookup
from streamdsl._native.operators.user_code import UserCodeOperator
from streamdsl._native.state.row_table import RowField

class ReduceField(RowField): ...

class ReduceOperator(UserCodeOperator):
    def __init__(self, spec: Any, lookup: KeyLookup) -> None: ...
    def state(self) -> dict[Any, Any]: ...
