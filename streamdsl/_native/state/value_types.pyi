class ValueType:
    text: str
    immutable: bool
