from collections.abc import Sequence

from streamdsl._native.operators.base import Operator

class KeyEncodeOperator(Operator):
    def __init__(self, name: str, keys: Sequence[int], plain: bool) -> None: ...
