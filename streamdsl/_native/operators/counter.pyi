from streamdsl._native.expr.program import Program
from streamdsl._native.operators.base import Operator

class CounterOperator(Operator):
    def __init__(self, name: str, metric: str, predicate: Program) -> None: ...
