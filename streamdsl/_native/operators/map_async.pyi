from typing import Any

from streamdsl._native.operators.base import Operator

class MapAsyncOperator(Operator):
    tasks: int
    def __init__(self, spec: Any) -> None: ...
