"""See placement.pxd."""
from libc.stdint cimport uint32_t

from streamdsl._native.state.murmur2 cimport murmur2

import pyarrow as pa

from streamdsl._native.state.murmur2 import shard_of_key
from streamdsl.errors import DataError

#: Characters of a key in an error.
SHOWN_KEY = 80


cdef int64_t first_misplaced(const Column* key, const char* bad, int32_t n, int partitions, int number) noexcept nogil:
    cdef int64_t row
    cdef uint32_t hash
    for row in range(n):
        hash = murmur2(key.values + key.offsets[row], key.offsets[row + 1] - key.offsets[row]) & 0x7FFFFFFF
        if hash % <uint32_t>partitions == <uint32_t>number:
            continue
        if (key.valid == NULL or key.valid[row]) and (bad == NULL or not bad[row]):
            return row
    return -1


def misplaced_error(spec, reader, str split, int number, chunk, int64_t row, int partitions):
    """Return the error for a row of `split` that does not belong there."""
    column = spec.columns[spec.partitioned_by]
    value = chunk.rows.column(spec.partitioned_by).slice(row, 1).cast(pa.binary())[0].as_py()
    position = reader.position(chunk, row)
    return DataError(
        f"the source {spec.name!r} is partitioned_by={column!r}, but a record with the key {shown(value)} lies in "
        f"{split}, and its murmur2 hash says partition {shard_of_key(value, partitions)} of {partitions}",
        remedy="leave partitioned_by= out (rows then change tasks by key), or write the topic with the key's bytes as record keys by "
        "the partitioner of Java's clients (librdkafka: partitioner=murmur2_random), anew if it has got partitions since",
        operator=spec.name, field=column, topic=split.removesuffix(f"/{number}"), partition=number,
        offset=position.get("offset") if isinstance(position, dict) else None,
    )


def shown(bytes key):
    """Return a key for an error: as text if it is one, and not all of a long one."""
    text = repr(key.decode("utf-8", "backslashreplace"))
    return text if len(text) <= SHOWN_KEY else f"{text[:SHOWN_KEY]}…"
