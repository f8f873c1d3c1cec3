class WriteStream:
    appended: int
    bytes_waiting: int
    appended_bytes: int
    applied_bytes: int
    wanted_bytes: int
