"""From the planner's instructions to the C ones."""
from streamdsl._native.expr.vector cimport Instruction

# Fill one instruction; `code` holds the earlier ones. ValueError: it makes no sense. `keep` gets what C pointers refer to.
cdef int compile_instruction(Instruction* code, int index, object spec, list keep) except -1
cdef void instruction_free(Instruction* ins) noexcept
