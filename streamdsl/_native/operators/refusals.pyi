from typing import Any

from streamdsl._native.operators.base import Operator
from streamdsl._native.rows.row import Row

DEAD_LETTER: str

class Refusals:
    def __init__(self, spec: Any) -> None: ...

class RefusingOperator(Operator): ...

def visible_values(row: Row, whole: bool) -> dict[str, Any]: ...
def as_json(value: Any) -> str: ...
