from typing import Any

from streamdsl._native.operators.base import Operator

class MapAsyncOperator(Operator):
    def __init__(self, spec: Any) -> None: ...
