"""The journal of a store's write stream: the stream's own entries, as they came, behind a line that says so."""

from __future__ import annotations

import struct

from streamdsl._native.includes.faults import fault
from streamdsl._native.state.backend import CheckpointFiles, StateBackend
from streamdsl._native.state.stream_reader import StreamReader, append_entries
from streamdsl._native.state.write_stream import WriteStream

__all__ = ["MAGIC", "apply_journal", "mark_entry"]

#: An entry: kind, bytes of the key, bytes of the value (u32, little-endian); key; value. See write_stream.pxd.
MAGIC = b"streamdsl journal 1\n"
_MARK = struct.Struct("<IIIq")
#: So much is gathered before it is sorted and applied.
RUN_BYTES = 8 << 20
CHUNK_ROWS = 1000


def mark_entry(checkpoint_id: int) -> bytes:
    """Return the entry of a MARK."""
    return _MARK.pack(3, 0, 8, checkpoint_id)


def apply_journal(backend: StateBackend, files: CheckpointFiles) -> None:
    """Apply the journal of a checkpoint to its base, which `backend` holds.

    Raises
    ------
    StateError
        It is not a journal, or does not end at the MARK of its checkpoint.
    """
    left = files.journal_bytes
    if not left:
        return
    stream = WriteStream()
    reader = StreamReader(stream)
    data, begun, last = b"", False, -1
    for chunk in files.read_journal():
        left -= len(chunk)
        data += chunk
        if not begun and len(data) >= len(MAGIC):
            if not data.startswith(MAGIC):
                break
            data, begun = data[len(MAGIC) :], True
        if begun:
            try:
                taken, mark = append_entries(stream, data, left)
            except ValueError as error:
                raise files.journal_damaged(f"{files.journal_bytes - left - len(data)} bytes and {error}") from error
            data = data[taken:]
            last = mark if taken else last
            if stream.bytes_waiting >= RUN_BYTES:
                _apply(backend, reader)
    if not begun:
        raise files.journal_damaged("it does not begin as a journal does")
    if data or left or last != files.checkpoint_id:
        raise files.journal_damaged(f"it does not end with the mark of checkpoint {files.checkpoint_id}")
    _apply(backend, reader)


def _apply(backend: StateBackend, reader: StreamReader) -> None:
    while (passed := reader.peek_journal(RUN_BYTES)) is not None:
        del passed
        reader.confirm_journal()
    while (entries := reader.peek_database(CHUNK_ROWS)) is not None:
        backend.apply(entries)
        fault("FP50")
        reader.confirm_database()
