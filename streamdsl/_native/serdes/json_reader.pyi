from collections.abc import Sequence

import pyarrow as pa

class JsonReader:
    def __init__(self, schema: pa.Schema, required: Sequence[bool], bounds: Sequence[tuple[int, int]]) -> None: ...
    def read(self, records: list[bytes]) -> tuple[pa.RecordBatch, list[int]]: ...
