class WriteStream:
    appended: int
    bytes_waiting: int
