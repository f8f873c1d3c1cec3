from typing import Any

from streamdsl._native.operators.base import Operator

class WindowAggregateOperator(Operator):
    def __init__(self, spec: Any, lookup: Any, arguments: Any) -> None: ...
    def state(self) -> dict[Any, list[dict[str, Any]]]: ...
