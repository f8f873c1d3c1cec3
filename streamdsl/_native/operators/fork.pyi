from streamdsl._native.operators.base import Operator

class Fork(Operator):
    def __init__(self, targets: list[Operator], numbered: bool) -> None: ...
