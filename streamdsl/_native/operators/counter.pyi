from typing import Any

from streamdsl._native.expr.program import Program
from streamdsl._native.operators.refusals import RefusingOperator

class CounterOperator(RefusingOperator):
    def __init__(self, spec: Any, predicate: Program) -> None: ...
