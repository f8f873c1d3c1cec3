from typing import Any

from streamdsl._native.operators.base import Operator

class DeduplicateOperator(Operator):
    def __init__(self, spec: Any, lookup: Any) -> None: ...
    def state(self) -> dict[Any, list[int]]: ...
