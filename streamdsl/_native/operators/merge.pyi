from streamdsl._native.operators.base import Operator

class MergePort(Operator):
    def __init__(self, name: str) -> None: ...

class MergeOperator(Operator):
    def __init__(self, name: str, size: int) -> None: ...
