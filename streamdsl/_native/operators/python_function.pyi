from typing import Any

from streamdsl._native.operators.user_code import UserCodeOperator

class PythonFunctionOperator(UserCodeOperator):
    def __init__(self, spec: Any) -> None: ...
