from collections.abc import Sequence

import pyarrow as pa

from streamdsl._native.flow.native_rows import NativeRows

class JsonReader:
    def __init__(self, schema: pa.Schema, required: Sequence[bool], bounds: Sequence[tuple[int, int]]) -> None: ...
    def read(self, records: list[bytes]) -> tuple[NativeRows, list[int]]: ...
