"""Keys to slots, once for each record, whatever the number of operators behind it."""
from libc.stdint cimport INT64_MIN, int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from streamdsl._native.flow.batch cimport (
    KIND_BOOL, KIND_DEC, KIND_F64, KIND_I64, KIND_STR, KIND_U64, SYS_KEY, SYS_SLOT, SYS_TIME, Batch, StringBuilder, batch_release,
    batch_share, batch_take, column_alloc, column_clear, column_share, i64, strings_append, strings_finish,
    strings_init,
)
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.includes.decimal cimport dec_of, dec_store
from streamdsl._native.state.row_table cimport RowField, RowHeader

from streamdsl.errors import InternalError, StateError

KINDS = {"bool": KIND_BOOL, "i64": KIND_I64, "u64": KIND_U64, "f64": KIND_F64, "str": KIND_STR, "dec": KIND_DEC}
cdef object TWO_64 = 2**64


cdef class KeyDecoder:
    """Key bytes back to columns; `kinds` are the physical kinds of the key's components."""

    def __init__(self, kinds):
        cdef int i
        kinds = list(kinds)
        self.kinds = kinds
        self.n_components = len(kinds)
        self.plain = kinds == ["str"]
        self.component_kinds = <int*>calloc(self.n_components + 1, sizeof(int))
        if self.component_kinds == NULL:
            raise MemoryError("no memory left for a key")
        for i in range(self.n_components):
            self.component_kinds[i] = KINDS[kinds[i]]

    def __dealloc__(self):
        free(self.component_kinds)

    cdef int decode(self, KeyTable table, const int64_t* slots, int64_t n, Column* out) except -1 nogil:
        cdef int k
        cdef int64_t row
        if not self.plain:
            for row in range(n):
                if not fits(table.header(slots[row]).key, table.header(slots[row]).key_size, self.component_kinds, self.n_components):
                    damaged_key()
        for k in range(self.n_components):
            if self.component_kinds[k] == KIND_STR:
                self._decode_strings(table, slots, n, k, &out[k])
            else:
                column_alloc(&out[k], self.component_kinds[k], n, 0)
                for row in range(n):
                    read_fixed(component(table.header(slots[row]).key, k), &out[k], row)
        return 0

    cdef int _decode_strings(self, KeyTable table, const int64_t* slots, int64_t n, int k, Column* out) except -1 nogil:
        cdef int64_t row
        cdef uint32_t size
        cdef RowHeader* header
        cdef const char* at
        cdef StringBuilder builder
        strings_init(&builder, n, n * 16)
        for row in range(n):
            header = table.header(slots[row])
            if self.plain:
                strings_append(&builder, header.key, header.key_size)
            else:
                at = component(header.key, k)
                memcpy(&size, at + 1, 4)
                strings_append(&builder, at + 5, size)
        return strings_finish(&builder, out)

    def key_of(self, bytes key):
        """Return the key as user code sees it: a scalar for one component, else a tuple."""
        cdef list parts = []
        cdef int k
        cdef const char* data = key
        if self.plain:
            return key.decode("utf-8", "surrogateescape")
        if not fits(data, len(key), self.component_kinds, self.n_components):
            damaged_key()
        for k in range(self.n_components):
            parts.append(python_component(component(data, k)))
        return parts[0] if len(parts) == 1 else tuple(parts)


cdef bint fits(const char* key, int64_t size, const int* kinds, int n) noexcept nogil:
    # A key may come from a damaged checkpoint: its parts must lie inside of it. A part begins with its kind.
    cdef int k
    cdef uint32_t text
    cdef int64_t at = 0, need
    for k in range(n):
        need = 2 if kinds[k] == KIND_BOOL else 5 if kinds[k] == KIND_STR else 17 if kinds[k] == KIND_DEC else 9
        if size - at < need or key[at] != kinds[k]:
            return False
        if kinds[k] == KIND_STR:
            memcpy(&text, key + at + 1, 4)
            need += text
            if size - at < need:
                return False
        at += need
    return at == size


cdef int damaged_key() except -1 nogil:
    with gil:
        raise StateError("a stored key does not have the columns that the stream is keyed by",
                         remedy="the checkpoint is damaged: restore an older one")


cdef const char* component(const char* key, int k) noexcept nogil:
    cdef uint32_t size
    while k > 0:
        if key[0] == 1:
            key += 2
        elif key[0] == 5:
            memcpy(&size, key + 1, 4)
            key += 5 + size
        else:
            key += 17 if key[0] == 6 else 9
        k -= 1
    return key


cdef uint64_t big_endian(const char* data) noexcept nogil:
    cdef int i
    cdef uint64_t value = 0
    for i in range(8):
        value = (value << 8) | <uint8_t>data[i]
    return value


cdef void read_fixed(const char* data, Column* out, int64_t row) noexcept nogil:
    if out.kind == KIND_BOOL:
        out.values[row] = data[1]
    elif out.kind == KIND_DEC:
        dec_store(out.values + 16 * row, dec_of(<int64_t>big_endian(data + 1), big_endian(data + 9)))
    else:
        (<uint64_t*>out.values)[row] = big_endian(data + 1)


cdef object python_component(const char* data):
    cdef uint32_t size
    cdef uint64_t bits
    cdef double value
    if data[0] == 1:
        return data[1] != 0
    if data[0] == 5:
        memcpy(&size, data + 1, 4)
        return data[5:5 + size].decode("utf-8", "surrogateescape")
    bits = big_endian(data + 1)
    if data[0] == 6:                         # as a whole number: its reader knows the scale
        return (<object><int64_t>bits) * TWO_64 + <object>big_endian(data + 9)
    if data[0] == 4:
        memcpy(&value, &bits, 8)
        return value
    return bits if data[0] == 3 else <int64_t>bits


cdef class KeyLookup(Operator):
    """Sets SYS_SLOT from SYS_KEY. Rows with a null key leave by the tag "null", or are dropped here and counted."""

    def __init__(self, str name, KeyTable table, KeyDecoder decoder):
        cdef int i
        self.name = name
        self.table = table
        table.evictable = True
        self.decoder = decoder
        self.watermark = INT64_MIN
        self.latest_shard = INT64_MIN
        self.shard_watermarks = <int64_t*>malloc(table.shards * sizeof(int64_t))
        if self.shard_watermarks == NULL:
            raise MemoryError("no memory left for a key lookup")
        for i in range(table.shards):
            self.shard_watermarks[i] = INT64_MIN

    def __dealloc__(self):
        free(self.shard_watermarks)

    def connect(self, Operator target, str tag=""):
        """Send the output `tag` to `target`: "" is the main one, "null" that of rows with a null key."""
        Operator.connect(self, target, tag)
        if tag == "null":
            self.null_output = target

    def add_field(self, RowField field not None):
        """Append an operator's part to the rows of the keys."""
        self.table.add_field(field)

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef Batch* kept = NULL
        cdef Batch* out
        cdef int i
        cdef Column* key = &batch.sys[SYS_KEY]
        if key.valid != NULL:
            kept = self._without_null_keys(batch)
            if kept != NULL:
                batch = kept
                key = &batch.sys[SYS_KEY]
        try:
            if batch.n == 0:
                return 0
            out = batch_share(batch, batch.width)
            for i in range(batch.width):
                column_share(&out.columns[i], &batch.columns[i])
            # The slot stands for the key from here on: whoever keeps rows need not keep its bytes too.
            column_clear(&out.sys[SYS_KEY])
            column_alloc(&out.sys[SYS_SLOT], KIND_I64, batch.n, 0)
            self.table.lookup_batch(key.values, key.offsets, batch.n, i64(&out.sys[SYS_SLOT]))
            self.emit(out)
        finally:
            if kept != NULL:
                batch_release(kept)
        return 0

    cdef Batch* _without_null_keys(self, Batch* batch) except? NULL nogil:
        cdef int32_t row, n = 0, n_null = 0
        cdef Batch* kept
        cdef Column* key = &batch.sys[SYS_KEY]
        cdef int32_t* rows
        for row in range(batch.n):
            n += key.valid[row]
        if n == batch.n:
            return NULL
        if self.null_output is None and self.null_keys == 0:
            row = 0
            while key.valid[row]:
                row += 1
            with gil:
                self._warn_null_key(i64(&batch.sys[SYS_TIME])[row])
        if self.null_output is None:
            self.null_keys += n if PLANTED("null-keys-miscounted") else batch.n - n
        rows = <int32_t*>malloc((batch.n + 1) * sizeof(int32_t))
        if rows == NULL:
            with gil:
                raise MemoryError("no memory left for a key lookup")
        n = 0
        for row in range(batch.n):
            if key.valid[row]:
                rows[n] = row
                n += 1
        for row in range(batch.n):           # those behind the others
            if not key.valid[row]:
                rows[n + n_null] = row
                n_null += 1
        try:
            if self.null_output is not None:
                kept = batch_take(batch, rows + n, n_null)
                try:
                    self.null_output.process(kept)
                finally:
                    batch_release(kept)
            return batch_take(batch, rows, n)
        finally:
            free(rows)

    def _warn_null_key(self, int64_t time):
        import logging

        logging.getLogger("streamdsl").warning(
            "%s: records with a null key are dropped (counted as null_keys); the first one has the event time %d ms", self.name, time
        )

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        self.watermark = watermark
        return self.next.on_watermark(watermark)

    def arrived(self):
        """Return the next arrival number, for the manifest: states of keys hold such numbers."""
        return self.arrivals

    def go_on_from(self, arrivals):
        """Number records from here on: no task had given the number before the restore."""
        self.arrivals = arrivals

    def shard_state(self, owned):
        """Return {shard: watermark in ms} of the owned shards, for the manifest; shards without a watermark are left out."""
        state = {}
        for shard in owned:
            reached = max(self.watermark, self.shard_watermarks[<int>shard])
            if reached > INT64_MIN:
                state[str(shard)] = reached
        return state

    def restore_shards(self, dict state):
        """Take back what `shard_state` returned, of any number of tasks."""
        for shard, reached in state.items():
            if not 0 <= int(shard) < self.table.shards:
                raise InternalError(f"{self.name}: the checkpoint has a watermark of shard {shard}")
            self.shard_watermarks[<int>int(shard)] = reached
            self.latest_shard = max(self.latest_shard, <int64_t>reached)

    def metrics(self):
        return {"null_keys": self.null_keys, "keys": self.table.total()}
