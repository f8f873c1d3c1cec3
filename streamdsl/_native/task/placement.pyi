from typing import Any

from streamdsl.errors import DataError

def misplaced_error(spec: Any, reader: Any, split: str, number: int, chunk: Any, row: int, partitions: int) -> DataError: ...
