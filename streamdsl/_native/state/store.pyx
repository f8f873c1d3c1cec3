"""See store.pxd.

A barrier costs the task a few swaps: `begin` moves lists, `drain` does the work between the batches that follow. A row
that changes before its turn is serialised first (`KeyTable.touch`), so checkpoint n holds what stood at barrier n.
"""
cimport cython
from libc.stdlib cimport free, malloc, realloc
from streamdsl._native.includes.checked cimport PLANTED

from streamdsl._native.state.evictor cimport ROOM_BEHIND_BARRIER, ROOM_ENOUGH, Room
from streamdsl._native.state.row_table cimport RowField

from streamdsl.errors import InternalError, StateError

cdef enum:
    ROWS_BETWEEN = 256         # rows restored between two looks at the memory


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
        self.evictor = Evictor(self.arena, self.stream)

    def __dealloc__(self):
        free(self.table_refs)

    def attach(self, backend, int64_t limit):
        """Let rows become cold: `backend` holds what the stream has brought, `limit` is for all that is in memory, in bytes."""
        cdef KeyTable table
        cdef RowField field
        for table in self.tables:
            table.backend = backend
            if table.listener is not None:
                table.listener.on_limit(limit)
            for field in table.fields:
                self.evictor.heap_is_used |= field.on_heap
        self.evictor.limit = limit

    def add_table(self, str kind not None, str name not None, str key_layout not None="bytes", fields=()):
        """Make a table and return it.

        Parameters
        ----------
        kind : "rows" | "windows" | "timers" | "changes" | "times"
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
        self.evictor.tables = self.table_refs
        self.evictor.n_tables = self.n_tables
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
            if not (<KeyTable>self.table_refs[i]).drained():
                return 0
        if not PLANTED("mark-before-rows"):
            self.stream.mark(self.barrier)
        self.barrier = -1
        return 1

    cdef bint write_pending(self, int64_t max_rows) except -1 nogil:
        """`drain`, as long as the stream has room for it; return whether there was anything to do."""
        cdef int64_t asked = self.stream.wanted_bytes
        if self.evictor.limit <= 0 or self.stream.bytes_waiting < self.evictor.stream_room:
            self.drain(max_rows)
            return True
        self.stream.want_applied()
        return self.stream.wanted_bytes != asked

    cdef int make_room(self) except -1 nogil:
        cdef Room room = self.evictor.make_room(self.barrier >= 0)
        if room == ROOM_BEHIND_BARRIER:
            self.evictor.moved = self.write_pending(4096)
        return room == ROOM_ENOUGH

    cdef int64_t memory(self) noexcept nogil:
        return self.evictor.movable() + self.evictor.fixed()

    def load(self, rows):
        """Take (database key, value) pairs of the backend into tables that do not have them; what has no room leaves again."""
        cdef bytes key
        cdef const char* data
        cdef int64_t n = 0
        cdef int table
        for key, value in rows:
            check_key(key, self.shards)
            data = key
            table = (<unsigned char>data[2] << 8) | <unsigned char>data[3]
            if table >= self.n_tables:
                raise StateError(f"a stored key names table {table}, but store {self.name!r} has {self.n_tables}",
                                 remedy="restore from another checkpoint")
            (<KeyTable>self.table_refs[table]).take_back(key, value, False)
            n += 1
            if n % ROWS_BETWEEN == 0:
                self.make_room()

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

    def make_some_room(self):
        """`make_room` for callers in Python: False when the database has to apply more of the stream first."""
        cdef int room
        with nogil:
            room = self.make_room()
        return room != 0

    def warm_up(self):
        """Bring all cold rows back, whatever the limit: to look into them."""
        cdef KeyTable table
        for table in self.tables:
            if table.cold:
                table.warm_up()

    def figures(self):
        """Return {"bytes", "keys", "cold_keys", "evicted", "reads"}."""
        cdef KeyTable table
        beside = [(<KeyTable>table).listener.beside() for table in self.tables if (<KeyTable>table).listener is not None]
        return {
            "bytes": self.memory(), "keys": sum([(<KeyTable>table).total() for table in self.tables]) + sum(beside),
            "cold_keys": sum([(<KeyTable>table).cold for table in self.tables]), "evicted": self.evictor.evicted,
            "reads": sum([(<KeyTable>table).reads for table in self.tables]),
        }

    def memory_bytes(self):
        """Return the bytes of the store in memory, entries that wait in its stream included."""
        return self.memory()

    def close(self):
        """Free all rows. A store that is only dropped keeps alive the Python objects that its rows refer to."""
        cdef int i
        self.barrier = -1
        for i in range(self.n_tables):
            (<KeyTable>self.table_refs[i]).clear_rows()
        self.arena.drop()

    def counts(self):
        """Return the number of keys of each table, cold ones included, by (kind, name)."""
        return {((<KeyTable>table).kind, (<KeyTable>table).name): (<KeyTable>table).total() for table in self.tables}


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
    """Puts rows of a checkpoint into the tables of a store, where they count as changed.

    Parameters
    ----------
    store : StateStore
        Where the rows go.
    mapping : dict
        Stored table id -> list of (table id in `store`, {stored field id: field index}). Tables that are not named
        are passed over.
    field_counts : dict
        Stored table id -> number of fields its rows have.
    """

    def __init__(self, StateStore store not None, dict mapping not None, dict field_counts not None):
        self.store = store
        self.targets = {
            old_id: [FieldMap(store.tables[table], ids, field_counts[old_id]) for table, ids in places]
            for old_id, places in mapping.items()
        }

    def load(self, rows, relieve):
        """Insert the (database key, value) pairs of an iterable; `relieve` brings the store's stream into the database."""
        cdef bytes key
        cdef bytes value
        cdef const char* data
        cdef int64_t n = 0
        cdef FieldMap target
        for key, value in rows:
            data = key
            check_key(key, self.store.shards)
            for target in self.targets.get((<unsigned char>data[2] << 8) | <unsigned char>data[3], ()):
                target.table.merge_row(data + 4, <int32_t>(len(key) - 4), (<unsigned char>data[0] << 8) | <unsigned char>data[1],
                                       value, len(value), target.ids, target.n_ids)
            n += 1
            if n % ROWS_BETWEEN == 0:
                while not self.store.make_room():
                    if not relieve():
                        raise StateError("the state to be restored has no room in memory, and the database does not take it",
                                         remedy="raise state_memory, and see whether the disk of the state directory is full")


cdef int check_key(bytes key, int shards) except -1:
    cdef const char* data = key
    if len(key) < 4:
        raise StateError(f"a stored key of {len(key)} bytes is damaged", remedy="restore from another checkpoint")
    if ((<unsigned char>data[0] << 8) | <unsigned char>data[1]) >= shards:
        raise StateError(f"a stored key names shard {(<unsigned char>data[0] << 8) | <unsigned char>data[1]}, but the job has {shards}",
                         remedy="restore from another checkpoint")
    return 0
