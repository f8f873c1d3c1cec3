"""Aggregates as fixed-size states in keyed rows, with an optional variable part in the arena.

An accumulator is one aggregate of one operator. It is bound to the columns of a batch (`begin`), runs over many
states in one pass (`run`), and gives away a column of results (`finish`).
"""
from libc.stdint cimport int32_t, int64_t, uint8_t

from streamdsl._native.flow.batch cimport Column
from streamdsl._native.aggregates.cell cimport ByteReader, Cell, Results
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum RunMode:
    ADD = 0              # no results
    ADD_THEN_EMIT = 1    # the result after each row
    EMIT_THEN_ADD = 2    # the result before each row
    EMIT = 3             # one result a state; no rows


# What a row does where rows may be withdrawn.
cdef enum Change:
    CHANGE_WITHDRAWS = 1     # its values leave
    CHANGE_EMPTIES = 2       # it is the last of its group: the result of ADD_THEN_EMIT is the one before it, and the state is cleared
    CHANGE_BEGINS = 4        # it is the first of its group


cdef class Accumulator:
    cdef readonly str operator               # name, for errors
    cdef readonly str column                 # name of the result
    cdef readonly str layout                 # what the state holds, in words
    cdef readonly int64_t size               # bytes of the state, a multiple of 8
    cdef int64_t offset                      # of the state from the pointers that `run` is given
    cdef Arena arena
    cdef int argument                        # index among the argument columns, -1 = none
    cdef int by
    cdef int where
    cdef int argument_kind
    cdef int by_kind
    cdef int output_kind
    cdef bint refuses                        # a record may fail in it; the others take whatever comes
    cdef int64_t saved_size                  # bytes that `save` fills
    cdef bint flat                           # the state has no variable part: a copy of its bytes is a state
    cdef bint on_heap                        # it refers to Python objects
    cdef bint keeps_nulls                    # a null argument is a value like any other
    cdef Column* argument_column             # of the batch at hand, NULL = none
    cdef Column* by_column
    cdef Column* where_column
    cdef int64_t row                         # being added: for errors, and for its arrival number
    cdef int64_t arrived                     # arrival number of row 0 of the batch at hand
    cdef Results results
    cdef const uint8_t* changes              # by row of the batch: bits of Change; NULL: every row is added
    cdef bint watched                        # see `watch`
    cdef bint exceeded
    cdef readonly Accumulator also           # another result of the same state: see `share`

    # One state. Zeroed memory is an empty state of every accumulator.
    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil
    # Takes a value out that was added before. Only where the plan says that rows may be withdrawn (AggregateSpec.retracts).
    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil
    cdef int emit(self, char* state) except -1 nogil                 # append the result to `results`
    cdef int emit_all(self, char* state) except -1 nogil             # the same of all that share the state
    cdef int emit_many(self, char** states, int64_t offset, int64_t n) except -1 nogil   # `emit` of what stands there in each
    cdef int emit_each(self, char** states, int64_t n) except -1 nogil                   # `emit_all` of each
    cdef int clear(self, char* state) except -1 nogil                # free variable parts; empty afterwards
    cdef int64_t heap_bytes(self, char* state)                       # of the Python objects, about
    cdef int copy(self, char* into, char* source, ByteWriter* scratch) except -1 nogil       # `into` is empty
    cdef int write(self, char* state, ByteWriter* out) except -1 nogil
    cdef int read(self, char* state, ByteReader* source) except -1 nogil
    # Adds the state `other` of the same key to `into`; `other` is left as `clear` leaves it. The result does not depend on
    # which of the two is `into`: what arrived first is told by the arrival numbers. Fails for what refuses the merged state
    # (an overflow, a user's function); both are then as they were.
    cdef int merge(self, char* into, char* other) except -1 nogil
    # The same, and `source` stays as it is; `room` has the size of a state.
    cdef int add_copy(self, char* into, char* source, char* room, ByteWriter* scratch) except -1 nogil

    # Of one that refuses: before a record `save` notes the state, after it `restore` brings that back if the record has been
    # refused, and `forget` lets go of what was noted.
    cdef int save(self, char* state, char* saved) except -1 nogil
    cdef int restore(self, char* state, char* saved) except -1 nogil
    cdef int forget(self, char* saved) except -1 nogil

    # Sums that are put together from so many parts at most, each a state of this accumulator. True: it no longer fails when a record
    # is added; `exceeded` becomes true instead when a part grows so large that all together may not fit the result. Who puts
    # them together asks `fits` of what they make, and has the record fail.
    cdef bint watch(self, int64_t parts) noexcept nogil
    cdef bint fits(self, char* state) noexcept nogil
    cdef int fail_too_large(self) except -1 nogil                    # raises RecordError for `row`

    # Many states.
    # `arrived`: see KeyLookup.arrive; 0 where no rows are added.
    cdef int begin(self, Column* arguments, int64_t n_results, int64_t arrived) except -1 nogil
    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil
    # run: states[i] meets the row rows[i] (rows = NULL: i) of the bound columns
    cdef int finish(self, Column* target) except -1 nogil
    # Whether `other`, over the same rows, is another result of this one's state; if so, `run` writes its results too,
    # and it keeps no state of its own. `reads` tells it of one whose argument and condition are the same.
    cdef bint share(self, Accumulator other)
    cdef bint reads(self, Accumulator other)
    cdef int take_in(self, Accumulator other) except -1              # with those that share its state already
    cdef int fail(self, str reason) except -1 nogil                  # raises RecordError for `row`


cdef inline bint takes(Accumulator self, int64_t row) noexcept nogil:
    # Whether the row counts: `where` is true, and the argument is not null where nulls are ignored.
    cdef const Column* where = self.where_column
    if where != NULL and not (where.values[row] and (where.valid == NULL or where.valid[row])):
        return False
    return (self.argument_column == NULL or self.keeps_nulls or self.argument_column.valid == NULL
            or self.argument_column.valid[row])


cdef class AccumulatorSet:
    """All aggregates of one operator, side by side in its field of the row. Several may be results of one state."""
    cdef readonly list accumulators          # one a result
    cdef readonly str layout
    cdef readonly int64_t size
    cdef int count                           # of results
    cdef int n_states
    cdef bint refuses                        # one of them does
    cdef bint on_heap                        # one of them is
    cdef int64_t saved_size                  # of one state
    cdef void** refs                         # borrowed from the list: (<Accumulator>refs[i]).finish(...)
    cdef void** states                       # those of them that have states of their own: (<Accumulator>states[i]).run(...)
    cdef char* before                        # scratch of `merge`: what `save` notes of both states

    cdef int clear(self, char* state) except -1 nogil
    cdef int64_t heap_bytes(self, char* state)
    cdef int copy(self, char* into, char* source, ByteWriter* scratch) except -1 nogil
    cdef int write(self, char* state, ByteWriter* out) except -1 nogil
    cdef int read(self, char* state, ByteReader* source) except -1 nogil
    cdef int merge(self, char* into, char* other) except -1 nogil    # all of them or, where one fails, none
    cdef int add_copy(self, char* into, char* source, char* room, ByteWriter* scratch) except -1 nogil
    cdef int begin(self, Column* arguments, int64_t n_results, int64_t arrived) except -1 nogil
    cdef void follow(self, const uint8_t* changes) noexcept nogil    # after `begin`: see Accumulator.changes
    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil
    cdef int merge_those(self, bint refusing, char* into, char* other) except -1 nogil
    cdef int run_those(self, bint refusing, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil
    cdef int finish(self, Column* targets) except -1 nogil           # targets[0 .. count)
    cdef bint watch(self, int64_t parts) noexcept nogil              # as in Accumulator; whether there are any such
    cdef bint exceeded(self) noexcept nogil
    cdef int change_watched(self, char* state, int64_t row, int sign) except -1 nogil    # add the row, or (-1) withdraw it
    # Those that refuse records, as in Accumulator.
    cdef int save(self, char* state, char* saved) except -1 nogil
    cdef int restore(self, char* state, char* saved) except -1 nogil
    cdef int forget(self, char* saved) except -1 nogil
    cdef void truncate(self, int64_t n) noexcept nogil               # forget the results n .. of those that refuse


cdef Accumulator make_accumulator(str operator, spec, Arena arena)
cdef AccumulatorSet make_set(str operator, specs, Arena arena, int64_t offset)   # states begin at `offset`
