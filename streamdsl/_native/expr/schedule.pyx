"""See schedule.pxd.

An instruction needs its *eager* arguments at all rows of its frame: they are evaluated before it, in the order of the
program, so that no depth of an expression is a depth of the stack. Later arguments of `and`, `or`, `when` and
`coalesce` are *lazy*: evaluated in the midst of it, for the rows that need them.
"""
from libc.stdlib cimport calloc, qsort

from streamdsl._native.expr.ops cimport (
    OP_AND,
    OP_ADD,
    OP_CAST_F64,
    OP_COALESCE,
    OP_COLUMN,
    OP_CONCAT,
    OP_DIV,
    OP_EQ,
    OP_GREATEST,
    OP_IS_IN,
    OP_LEAST,
    OP_MUL,
    OP_NEG,
    OP_OR,
    OP_RADIANS,
    OP_IS_FINITE,
    OP_SIGN,
    OP_SQRT,
    OP_WHEN,
)
from streamdsl._native.flow.batch cimport KIND_F64

from streamdsl.errors import TopologyError

cdef enum:
    EASY_NEST = 50                           # lazy arguments within lazy arguments: so many are evaluated where they are needed
    MOST_NEST = 2000                         # each takes a piece of the stack
    NEAR = 32                                # how far is searched for what all branches of a `when` need
    FEW_BRANCHES = 8


cdef int schedule(Instruction* code, int n_code, const int* outputs, int n_outputs) except -1:
    cdef int i
    cdef bint deep = False
    for i in range(n_code):
        find_eager(code, i)
        deep = deep or code[i].nest > MOST_NEST
    if deep:
        for i in range(n_code):
            code[i].nest = closer_nest(code, i)
            if code[i].nest > MOST_NEST:
                raise TopologyError(
                    f"an expression has more than {MOST_NEST} conditions within conditions, "
                    "each of which decides whether the next is computed",
                    remedy="compute a part of it as a column of its own, with with_columns(...)",
                )
    for i in range(n_outputs):
        if code[outputs[i]].owner > i:
            code[outputs[i]].owner = i
    find_last_uses(code, n_code, outputs, n_outputs)
    return 0


cdef int find_eager(Instruction* code, int index) except -1:
    cdef Instruction* ins = &code[index]
    cdef Instruction* arg
    cdef int k
    cdef bint lazy = ins.op == OP_AND or ins.op == OP_OR or ins.op == OP_WHEN or ins.op == OP_COALESCE
    ins.owner = 2147483647
    ins.last = -1
    ins.asked = -1
    ins.eager = <char*>calloc(ins.n_args + 1, 1)
    if ins.eager == NULL:
        raise MemoryError("no memory left for an expression")
    ins.safe = cannot_fail(ins)
    for k in range(ins.n_args):
        arg = &code[ins.args[k]]
        ins.safe = ins.safe and arg.safe
        # Deep in a nest, what cannot fail may as well be evaluated for all rows.
        ins.eager[k] = not lazy or k == 0 or (arg.safe and arg.nest >= EASY_NEST)
        ins.nest = max(ins.nest, arg.nest + (not ins.eager[k]))
    if ins.op == OP_WHEN and 3 <= ins.n_args <= 2 * FEW_BRANCHES + 1:
        find_common(code, ins)
    return 0


cdef bint cannot_fail(const Instruction* ins) noexcept:
    cdef int op = ins.op
    if OP_COLUMN <= op <= OP_COALESCE or OP_EQ <= op <= OP_IS_FINITE or op == OP_IS_IN or op == OP_CONCAT:
        return True
    if op == OP_LEAST or op == OP_GREATEST or op == OP_CAST_F64 or op == OP_DIV or op == OP_RADIANS:
        return True
    return ins.kind == KIND_F64 and (OP_ADD <= op <= OP_MUL or OP_NEG <= op <= OP_SIGN or op == OP_SQRT)


# What every branch of a `when` needs is needed at all rows ----------------------------------------------------


cdef int near(const Instruction* code, int index, int* found) noexcept:
    """Collect the instruction and what it needs, up to NEAR of them; return how many."""
    cdef int n = 1, at = 0, k, arg
    found[0] = index
    while at < n:
        for k in range(code[found[at]].n_args + 1):
            if k == code[found[at]].n_args:
                arg = code[found[at]].common
            else:
                arg = code[found[at]].args[k] if code[found[at]].eager[k] else -1
            if arg >= 0 and n < NEAR and code[arg].n_args > 0 and not among(found, n, arg):
                found[n] = arg
                n += 1
        at += 1
    return n


cdef int find_common(Instruction* code, Instruction* ins) except -1:
    cdef int[NEAR] wanted
    cdef int[NEAR] other
    cdef int k, i, j, m, n, best = -1
    if code[ins.args[ins.n_args - 1]].n_args == 0:
        return 0
    n = near(code, ins.args[ins.n_args - 1], wanted)
    for k in range(1, ins.n_args - 1, 2):
        m = near(code, ins.args[k], other)
        i = 0
        while i < n:
            for j in range(m):
                if other[j] == wanted[i]:
                    i += 1
                    break
            else:
                n -= 1
                wanted[i] = wanted[n]
    for i in range(n):
        if code[wanted[i]].n_args > 0 and wanted[i] > best:
            best = wanted[i]
    if best >= 0:
        ins.common = best
        code[best].uses += 1
        ins.nest = max(ins.nest, code[best].nest)
    return 0


cdef int closer_nest(const Instruction* code, int index) noexcept:
    """Return how deep lazy arguments nest, when what is evaluated before them anyway does not count."""
    cdef int[NEAR] there
    cdef int i, k, n = near(code, index, there), nest = 0
    cdef const Instruction* ins
    for i in range(n):
        ins = &code[there[i]]
        for k in range(ins.n_args):
            if code[ins.args[k]].n_args == 0 or among(there, n, ins.args[k]):
                continue
            nest = max(nest, code[ins.args[k]].nest if ins.eager[k] else 1 + nest_beyond(code, ins.args[k], there, n))
        if ins.common < 0 and (ins.op == OP_AND or ins.op == OP_OR or ins.op == OP_WHEN or ins.op == OP_COALESCE):
            nest = max(nest, 1)
    return nest


cdef int nest_beyond(const Instruction* code, int index, const int* there, int n_there) noexcept:
    cdef int[NEAR] found
    cdef int k, n = 1, at = 0, nest = 0, arg
    cdef const Instruction* ins
    found[0] = index
    while at < n:
        ins = &code[found[at]]
        at += 1
        if ins.op == OP_AND or ins.op == OP_OR or ins.op == OP_WHEN or ins.op == OP_COALESCE:
            nest = max(nest, ins.nest)
            continue
        for k in range(ins.n_args):
            arg = ins.args[k]
            if code[arg].n_args == 0 or among(there, n_there, arg) or among(found, n, arg):
                continue
            if n == NEAR:
                nest = max(nest, code[arg].nest)
            else:
                found[n] = arg
                n += 1
    return nest


cdef inline bint among(const int* found, int n, int index) noexcept:
    cdef int i
    for i in range(n):
        if found[i] == index:
            return True
    return False


# How long results are kept -----------------------------------------------------------------------------------


cdef int find_last_uses(Instruction* code, int n_code, const int* outputs, int n_outputs) except -1:
    cdef Instruction* ins
    cdef Instruction* arg
    cdef int i, k, at
    for i in range(n_code - 1, -1, -1):
        ins = &code[i]
        for k in range(ins.n_args):
            arg = &code[ins.args[k]]
            at = i if i > ins.asked else ins.asked
            arg.last = max(arg.last, at)
            # While which instruction it may be asked for, late: by a lazy argument.
            arg.asked = max(arg.asked, ins.asked if ins.eager[k] else at)
            arg.owner = min(arg.owner, ins.owner)
        if ins.common >= 0:
            code[ins.common].last = max(code[ins.common].last, i)
    for i in range(n_outputs):
        code[outputs[i]].last = n_code
    for i in range(n_code):
        if code[i].n_args > 0 and code[i].uses > 1 and 0 <= code[i].last < n_code:
            code[code[i].last].n_done += 1
    for i in range(n_code):
        code[i].done = <int*>calloc(code[i].n_done + 1, sizeof(int))
        if code[i].done == NULL:
            raise MemoryError("no memory left for an expression")
        code[i].n_done = 0
    for i in range(n_code):
        if code[i].n_args > 0 and code[i].uses > 1 and 0 <= code[i].last < n_code:
            ins = &code[code[i].last]
            ins.done[ins.n_done] = i
            ins.n_done += 1
    return 0


cdef int compare(const void* a, const void* b) noexcept nogil:
    return (<const int*>a)[0] - (<const int*>b)[0]


cdef void ascending(int* indices, int n) noexcept nogil:
    if n > 1:
        qsort(indices, n, sizeof(int), compare)
