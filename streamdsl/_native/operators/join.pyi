from typing import Any

from streamdsl._native.operators.base import Operator
from streamdsl._native.operators.key_lookup import KeyLookup

class JoinPort(Operator):
    spec: Any

class JoinOperator(Operator):
    late: int
    emitted: int
    def __init__(self, spec: Any, lookup: KeyLookup) -> None: ...
