from typing import Any

from streamdsl._native.operators.base import Operator

class WindowAggregateOperator(Operator):
    def __init__(self, spec: Any, lookup: Any, arguments: Any, table: Any) -> None: ...
    def restored(self) -> None: ...
