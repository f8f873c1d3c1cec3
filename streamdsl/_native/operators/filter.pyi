from streamdsl._native.expr.program import Program
from streamdsl._native.operators.base import Operator

class FilterOperator(Operator):
    filtered: int
    def __init__(self, name: str, predicate: Program) -> None: ...
