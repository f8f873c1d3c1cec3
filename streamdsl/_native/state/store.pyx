"""See store.pxd.

A barrier costs the task a few swaps: `begin` moves lists, `drain` does the work between the batches that follow. A row
that changes before its turn is serialised first (`KeyTable.touch`), so checkpoint n holds what stood at barrier n.

Evicting rows will be a method of the store, called where `drain` is: it may drop rows that are clean and not pending,
and must append dirty ones to the stream first.
"""
cimport cython
from libc.stdlib cimport free, malloc, realloc
from streamdsl._native.includes.checked cimport PLANTED

from streamdsl.errors import InternalError, StateError


cdef class StateStore:
    """Keyed state of one task.

    Parameters
    ----------
    name : str
        The task's name: the identity of the store within a checkpoint.
    shards : int
        S, the number of shards of the job.
    """

    def __init__(self, str name not None, int shards):
        self.name = name
        self.shards = shards
        self.arena = Arena()
        self.stream = WriteStream()
        self.tables = []
        self.barrier = -1

    def __dealloc__(self):
        free(self.table_refs)

    def add_table(self, str kind not None, str name not None, str key_layout not None="bytes", fields=()):
        """Make a table and return it.

        Parameters
        ----------
        kind : "rows" | "windows" | "timers"
            What a row is.
        name : str
            The operator or lookup that it belongs to.
        key_layout : str
            What the keys are made of, in words; state with other keys is not restored into it.
        fields : iterable of RowField
            More may follow (`KeyTable.add_field`) until the first key is inserted.
        """
        cdef KeyTable table
        cdef void** refs
        for table in self.tables:
            if (table.kind, table.name) == (kind, name):
                raise InternalError(f"store {self.name!r} has two {kind} tables {name!r}")
        table = KeyTable(self.n_tables, kind, name, key_layout, self.shards, self.arena, self.stream)
        for field in fields:
            table.add_field(field)
        refs = <void**>realloc(self.table_refs, (self.n_tables + 1) * sizeof(void*))
        if refs == NULL:
            raise MemoryError("no memory left for a table")
        self.table_refs = refs
        self.table_refs[self.n_tables] = <void*>table
        self.n_tables += 1
        self.tables.append(table)
        return table

    def describe(self):
        """Return the tables and fields as JSON values: what the ids in stored keys and rows mean."""
        return {"tables": [(<KeyTable>table).describe() for table in self.tables]}

    cdef int begin(self, int64_t checkpoint_id) except -1 nogil:
        cdef int i
        while not PLANTED("second-barrier-forgets-pending") and not self.drain(4096):
            pass
        if PLANTED("mark-before-rows"):
            self.stream.mark(checkpoint_id)
        for i in range(self.n_tables):
            if not PLANTED("offsets-without-state"):
                (<KeyTable>self.table_refs[i]).begin()
        self.barrier = checkpoint_id
        return 0

    cdef int drain(self, int64_t max_rows) except -1 nogil:
        cdef int i
        if self.barrier < 0:
            return 1
        for i in range(self.n_tables):
            max_rows -= (<KeyTable>self.table_refs[i]).drain(max_rows)
            if (<KeyTable>self.table_refs[i]).pending_at < (<KeyTable>self.table_refs[i]).n_pending:
                return 0
        if not PLANTED("mark-before-rows"):
            self.stream.mark(self.barrier)
        self.barrier = -1
        return 1

    cdef int64_t memory(self) noexcept nogil:
        cdef int64_t size = self.arena.reserved + self.stream.bytes_waiting
        cdef int i
        for i in range(self.n_tables):
            size += (<KeyTable>self.table_refs[i]).memory()
        return size

    def begin_checkpoint(self, int64_t checkpoint_id):
        """`begin` for callers in Python."""
        with nogil:
            self.begin(checkpoint_id)

    def drain_some(self, int64_t max_rows):
        """`drain` for callers in Python: True when nothing is pending any more."""
        cdef int done
        with nogil:
            done = self.drain(max_rows)
        return done == 1

    def memory_bytes(self):
        """Return the bytes of the store in memory, entries that wait in its stream included."""
        return self.memory()

    def close(self):
        """Free all rows. A store that is only dropped keeps alive the Python objects that its rows refer to."""
        cdef int i
        self.barrier = -1
        for i in range(self.n_tables):
            (<KeyTable>self.table_refs[i]).clear_rows()

    def counts(self):
        """Return the number of live keys of each table, by (kind, name)."""
        return {((<KeyTable>table).kind, (<KeyTable>table).name): (<KeyTable>table).count for table in self.tables}


@cython.final
cdef class FieldMap:
    """Where the fields of one stored table go in one table of the store."""
    cdef KeyTable table
    cdef int32_t* ids
    cdef int64_t n_ids

    def __cinit__(self, KeyTable table, dict ids, int64_t n_ids):
        cdef int64_t i
        self.table = table
        self.n_ids = n_ids
        self.ids = <int32_t*>malloc((n_ids + 1) * sizeof(int32_t))
        if self.ids == NULL:
            raise MemoryError("no memory left to restore state")
        for i in range(n_ids):
            self.ids[i] = ids.get(i, -1)

    def __dealloc__(self):
        free(self.ids)


cdef class RowLoader:
    """Puts stored rows back into the tables of a store.

    Parameters
    ----------
    store : StateStore
        Where the rows go.
    mapping : dict
        Stored table id -> list of (table id in `store`, {stored field id: field index}). Tables that are not named
        are passed over.
    field_counts : dict
        Stored table id -> number of fields its rows have.
    stored : bool
        Whether the live database holds exactly these rows: they are clean then, otherwise they count as changed.
    """

    def __init__(self, StateStore store not None, dict mapping not None, dict field_counts not None, bint stored):
        self.store = store
        self.stored = stored
        self.targets = {
            old_id: [FieldMap(store.tables[table], ids, field_counts[old_id]) for table, ids in places]
            for old_id, places in mapping.items()
        }

    def load(self, rows):
        """Insert the (database key, value) pairs of an iterable; returns how many were taken."""
        cdef bytes key
        cdef bytes value
        cdef const char* data
        cdef int64_t size
        cdef int32_t shard
        cdef FieldMap target
        cdef list places
        cdef int64_t taken = 0
        for key, value in rows:
            data = key
            size = len(key)
            if size < 4:
                raise StateError(f"a stored key of {size} bytes is damaged", remedy="restore from another checkpoint")
            places = self.targets.get((<unsigned char>data[2] << 8) | <unsigned char>data[3])
            if places is None:
                continue
            shard = (<unsigned char>data[0] << 8) | <unsigned char>data[1]
            if shard >= self.store.shards:
                raise StateError(f"a stored key names shard {shard}, but the job has {self.store.shards}",
                                 remedy="restore from another checkpoint")
            for target in places:
                target.table.restore_row(data + 4, <int32_t>(size - 4), shard, value, len(value), target.ids,
                                         target.n_ids, self.stored)
            taken += 1
        self.rows += taken
        return taken
