"""Expressions over the columns of a batch, evaluated without the GIL."""
from libc.stdint cimport int16_t, int32_t, int64_t

from streamdsl._native.expr.vector cimport Frame, Instruction, Pool, Vector
from streamdsl._native.flow.batch cimport Batch, Column


cdef class Program:
    """Belongs to one task: it keeps scratch memory between batches and runs in one thread at a time."""

    cdef readonly int n_outputs
    cdef Instruction* code
    cdef int n_code
    cdef int* outputs
    cdef int* conjuncts                      # of the first output: instructions that must all be true
    cdef int n_conjuncts
    cdef Pool pool
    cdef int64_t n_frames                    # frames made so far: their ids
    cdef Batch* batch                        # the one at hand
    cdef list keep                           # Python values that the instructions point at
    cdef int at                              # the output being evaluated: whose error it is
    cdef int* top                            # what the outputs need at all rows, in order
    cdef int n_top
    cdef int* agenda                         # instructions to be evaluated, of all frames at hand one behind another
    cdef int n_agenda
    cdef int agenda_room
    cdef int* waiting                        # scratch of `collect`
    cdef int64_t n_collected

    # Fills out[0 .. n_outputs) with columns of batch.n rows; the caller clears them (column_clear).
    cdef int evaluate(self, Batch* batch, Column* out) except -1 nogil
    # For a program with one bool output: writes the rows where it is true, ascending; returns their number.
    cdef int64_t select(self, Batch* batch, int32_t* rows) except -1 nogil

    cdef int eval(self, Frame* frame, int index, Vector* out) except -1 nogil
    cdef int eval_leaf(self, Instruction* ins, Vector* out) except -1 nogil
    cdef int collect(self, Frame* frame, int index) except -1 nogil
    cdef int step(self, Frame* frame, int index) except -1 nogil
    cdef void take(self, Frame* frame, Instruction* ins, Vector* out) noexcept nogil
    cdef int input(self, Instruction* ins, const Column* column, Vector* out) except -1 nogil
    cdef int apply(self, Frame* frame, Instruction* ins, Vector* out) except -1 nogil
    cdef int run_kernel(self, Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil
    cdef int logic(self, Frame* frame, Instruction* ins, Vector* out) except -1 nogil
    cdef int choose(self, Frame* frame, Instruction* ins, Vector* out) except -1 nogil
    cdef int branches(self, Frame* frame, Instruction* ins, Vector* parts, int16_t* which, int32_t* rows, int32_t* taken) except -1 nogil
    cdef void forget(self) noexcept nogil
    cdef Frame top_frame(self, int64_t n) noexcept nogil
    cdef Frame subframe(self, Frame* parent, const int32_t* rows, int64_t m) noexcept nogil
