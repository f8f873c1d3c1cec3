"""What an instruction needs before it, and what nobody needs after it: found once, when a program is made."""
from streamdsl._native.expr.vector cimport Instruction

# Fills the fields of all instructions that say when they are evaluated and how long results are kept.
cdef int schedule(Instruction* code, int n_code, const int* outputs, int n_outputs) except -1
cdef void ascending(int* indices, int n) noexcept nogil                  # sorts
