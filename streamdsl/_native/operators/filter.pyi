from typing import Any

from streamdsl._native.expr.program import Program
from streamdsl._native.operators.refusals import RefusingOperator

class FilterOperator(RefusingOperator):
    filtered: int
    def __init__(self, spec: Any, predicate: Program) -> None: ...
