"""Evaluates a ProgramSpec (streamdsl/physical/node.py) over batches.

An instruction is evaluated for a frame: the rows that need it; what it needs at all of them is evaluated before. `and`, `or`,
`when` and `coalesce` make smaller frames for their later arguments, so these cannot fail for rows that do not need them.
Instructions without arguments that vary are evaluated once a batch, for one row.
"""
from libc.stdint cimport int16_t, int32_t, int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from streamdsl._native.expr.branching cimport (
    combine_logic,
    merge,
    narrow_mask,
    rows_of_mask,
    rows_undecided,
    split_rows,
)
from streamdsl._native.expr.ops cimport OP_AND, OP_COALESCE, OP_COLUMN, OP_LITERAL, OP_OR, OP_TIME, OP_WHEN
from streamdsl._native.expr.params cimport compile_instruction, instruction_free
from streamdsl._native.expr.schedule cimport ascending, schedule
from streamdsl._native.expr.vector cimport (
    Frame,
    Instruction,
    Vector,
    combine_valid,
    is_null_constant,
    pool_clear,
    pool_take,
    row_at,
    vector_clear,
    vector_null,
    vector_share,
    vector_spread,
)
from streamdsl._native.flow.arrow cimport PyBatch, wrap_batch
from streamdsl._native.flow.batch cimport (
    KIND_BOOL,
    SYS_TIME,
    Batch,
    Buffer,
    Column,
    batch_release,
    batch_share,
    buffer_new,
    buffer_release,
    column_clear,
    column_share,
)

from streamdsl.errors import InternalError

cdef enum:
    STACK_ARGS = 6


cdef class Program:
    """Expressions over the columns of a batch.

    Parameters
    ----------
    spec : ProgramSpec
        Instructions in post-order (`op`, `kind`, `args`, `params`) and the indices of the outputs.

    Raises
    ------
    ValueError
        The instructions make no sense.
    """

    def __init__(self, spec):
        cdef int i
        self.keep = []
        self.n_outputs = len(spec.outputs)
        self.code = <Instruction*>calloc(len(spec.instructions) + 1, sizeof(Instruction))
        self.outputs = <int*>calloc(self.n_outputs + 1, sizeof(int))
        self.conjuncts = <int*>calloc(len(spec.instructions) + 1, sizeof(int))
        if self.code == NULL or self.outputs == NULL or self.conjuncts == NULL:
            raise MemoryError("no memory left for an expression")
        for instruction in spec.instructions:
            self.n_code += 1
            compile_instruction(self.code, self.n_code - 1, instruction, self.keep)
        for i in range(self.n_outputs):
            if not 0 <= spec.outputs[i] < self.n_code:
                raise ValueError(f"output {i}: there is no instruction {spec.outputs[i]}")
            self.outputs[i] = spec.outputs[i]
            self.code[self.outputs[i]].uses += 1
        schedule(self.code, self.n_code, self.outputs, self.n_outputs)
        self.waiting = <int*>calloc(self.n_code + 1, sizeof(int))
        self.top = <int*>calloc(self.n_code + 1, sizeof(int))
        if self.waiting == NULL or self.top == NULL:
            raise MemoryError("no memory left for an expression")
        self._list_top()
        if self.n_outputs > 0:
            list_conjuncts(self, self.outputs[0])

    def _list_top(self):
        cdef int i
        for i in range(self.n_outputs):
            if self.code[self.outputs[i]].op > OP_LITERAL:
                self.collect(NULL, self.outputs[i])
        needed = sorted({self.agenda[i] for i in range(self.n_agenda)})
        self.n_agenda = 0
        self.n_top = len(needed)
        for i in range(self.n_top):
            self.top[i] = needed[i]

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_code):
            instruction_free(&self.code[i])
        pool_clear(&self.pool)
        free(self.code)
        free(self.outputs)
        free(self.conjuncts)
        free(self.top)
        free(self.agenda)
        free(self.waiting)

    # For Python --------------------------------------------------------------------------------------------

    def evaluate_batch(self, PyBatch batch not None):
        """Return a PyBatch of the outputs."""
        cdef Batch* out = batch_share(batch.batch, self.n_outputs)
        try:
            with nogil:
                self.evaluate(batch.batch, out.columns)
        except BaseException:
            batch_release(out)
            raise
        return wrap_batch(out)

    def select_rows(self, PyBatch batch not None):
        """Return the rows for which the one output is true."""
        cdef Buffer* rows = buffer_new(4 * batch.batch.n)
        cdef int64_t n
        try:
            with nogil:
                n = self.select(batch.batch, <int32_t*>rows.data)
            return [(<int32_t*>rows.data)[i] for i in range(n)]
        finally:
            buffer_release(rows)

    # The doors ---------------------------------------------------------------------------------------------

    cdef int evaluate(self, Batch* batch, Column* out) except -1 nogil:
        cdef Frame frame = self.top_frame(batch.n)
        cdef Vector result
        cdef int i, done = 0
        memset(out, 0, self.n_outputs * sizeof(Column))
        self.batch = batch
        try:
            if batch.n > 0:
                for i in range(self.n_top):
                    self.at = self.code[self.top[i]].owner
                    self.step(&frame, self.top[i])
            for i in range(self.n_outputs):
                memset(&result, 0, sizeof(Vector))
                self.at = i
                self.eval(&frame, self.outputs[i], &result)
                vector_spread(&frame, &result)
                out[i] = result.col
                done += 1
        finally:
            self.forget()
            if done < self.n_outputs:
                for i in range(done):
                    column_clear(&out[i])
        return 0

    cdef int64_t select(self, Batch* batch, int32_t* rows) except -1 nogil:
        cdef Frame frame = self.top_frame(batch.n)
        cdef Frame narrow
        cdef int64_t m = -1                  # -1: all rows so far, or those of the mask
        cdef Vector vector
        cdef Buffer* mask = NULL
        cdef Frame* at = &frame
        cdef int k, index
        if self.n_outputs != 1 or self.code[self.outputs[0]].kind != KIND_BOOL:
            with gil:
                raise ValueError("a filter has one output, a bool")
        self.batch = batch
        memset(&vector, 0, sizeof(Vector))
        try:
            mask = pool_take(&self.pool, batch.n)
            memset(mask.data, 1, batch.n)
            for k in range(self.n_conjuncts):
                index = self.conjuncts[k]
                if m < 0 and k > 0 and not self.code[index].cheap:
                    m = rows_of_mask(mask.data, batch.n, rows)
                if m >= 0:                   # only the rows that are left
                    narrow = self.subframe(&frame, rows, m)
                    at = &narrow
                if m == 0:
                    break
                self.eval(at, index, &vector)
                if vector.constant:
                    if is_null_constant(&vector) or not vector.col.values[0]:
                        m = 0
                        break
                elif m < 0:
                    narrow_mask(&frame, &vector, mask.data)
                else:
                    m = keep_true(&vector, rows, m)
                vector_clear(&vector)
            if m < 0:
                m = rows_of_mask(mask.data, batch.n, rows)
        finally:
            vector_clear(&vector)
            buffer_release(mask)
            self.forget()
        return m

    # Evaluation --------------------------------------------------------------------------------------------

    cdef int eval(self, Frame* frame, int index, Vector* out) except -1 nogil:
        """Fill `out`, which is empty, with the value of an instruction at the frame's rows."""
        cdef Instruction* ins = &self.code[index]
        cdef int begin, i, end
        if ins.n_args == 0 and ins.op <= OP_LITERAL:
            return self.eval_leaf(ins, out)
        if frame.m == 0:
            vector_null(out, ins.kind)
            return 0
        if not is_kept(frame, ins):
            # All that it needs at these rows, in the order of the program: what is shared is there for all who need it.
            begin = self.n_agenda
            self.collect(frame, index)
            end = self.n_agenda
            ascending(self.agenda + begin, end - begin)
            for i in range(begin, end):
                self.step(frame, self.agenda[i])
            self.n_agenda = begin
        self.take(frame, ins, out)
        return 0

    cdef int eval_leaf(self, Instruction* ins, Vector* out) except -1 nogil:
        if ins.op == OP_COLUMN:
            if ins.whole < self.batch.width:
                return self.input(ins, &self.batch.columns[ins.whole], out)
            with gil:
                raise InternalError(f"an expression reads column {ins.whole} of a batch of {self.batch.width}")
        if ins.op == OP_TIME:
            return self.input(ins, &self.batch.sys[SYS_TIME], out)
        vector_share(out, &ins.constant)
        return 0

    cdef int collect(self, Frame* frame, int index) except -1 nogil:
        """Put on the agenda the instruction and what it needs at the frame's rows and does not have (frame NULL: nothing is there)."""
        cdef Instruction* ins
        cdef int n = 1, k, arg
        self.n_collected += 1
        self.waiting[0] = index
        self.code[index].marked = self.n_collected
        while n > 0:
            n -= 1
            ins = &self.code[self.waiting[n]]
            if self.n_agenda == self.agenda_room:
                self.agenda_room = 2 * self.agenda_room + 64
                self.agenda = <int*>realloc_or_fail(self.agenda, self.agenda_room * sizeof(int))
            self.agenda[self.n_agenda] = self.waiting[n]
            self.n_agenda += 1
            for k in range(ins.n_args + 1):
                if k < ins.n_args and not ins.eager[k]:
                    continue
                arg = ins.args[k] if k < ins.n_args else ins.common
                if arg < 0 or self.code[arg].marked == self.n_collected or self.code[arg].op <= OP_LITERAL:
                    continue
                self.code[arg].marked = self.n_collected
                if frame == NULL or not is_kept(frame, &self.code[arg]):
                    self.waiting[n] = arg
                    n += 1
        return 0

    cdef int step(self, Frame* frame, int index) except -1 nogil:
        """Evaluate an instruction whose eager arguments are there, and keep its value."""
        cdef Instruction* ins = &self.code[index]
        cdef Instruction* other
        cdef Vector out
        cdef int k
        if is_kept(frame, ins):
            return 0
        memset(&out, 0, sizeof(Vector))
        if ins.op == OP_AND or ins.op == OP_OR:
            self.logic(frame, ins, &out)
        elif ins.op == OP_WHEN or ins.op == OP_COALESCE:
            self.choose(frame, ins, &out)
        else:
            self.apply(frame, ins, &out)
        vector_clear(&ins.kept)
        ins.kept = out
        ins.kept_frame = frame.id
        for k in range(ins.n_done):
            other = &self.code[ins.done[k]]
            if other.kept_frame == frame.id:
                vector_clear(&other.kept)
                other.kept_frame = -1
        return 0

    cdef void take(self, Frame* frame, Instruction* ins, Vector* out) noexcept nogil:
        """Give the value that is kept to one who reads it; to the only one for good."""
        if ins.uses > 1 or ins.kept_frame != frame.id:
            vector_share(out, &ins.kept)
            return
        out[0] = ins.kept
        memset(&ins.kept, 0, sizeof(Vector))
        ins.kept_frame = -1

    cdef int input(self, Instruction* ins, const Column* column, Vector* out) except -1 nogil:
        if column.kind != ins.kind:
            with gil:
                raise InternalError(f"an expression reads a column of kind {column.kind} as {ins.kind}")
        column_share(&out.col, column)
        return 0

    cdef int apply(self, Frame* frame, Instruction* ins, Vector* out) except -1 nogil:
        """Evaluate all arguments, then the kernel."""
        cdef Vector[STACK_ARGS] room
        cdef Vector* args = room
        cdef int k
        if ins.n_args > STACK_ARGS:
            args = <Vector*>calloc(ins.n_args, sizeof(Vector))
            if args == NULL:
                with gil:
                    raise MemoryError("no memory left for an expression")
        else:
            memset(room, 0, sizeof(room))
        try:
            for k in range(ins.n_args):
                self.eval(frame, ins.args[k], &args[k])
            self.run_kernel(frame, ins, args, out)
        finally:
            for k in range(ins.n_args):
                vector_clear(&args[k])
            if args != room:
                free(args)
        return 0

    cdef int run_kernel(self, Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
        cdef Frame one
        cdef int k
        cdef bint constant = True, done = False
        for k in range(ins.n_args):
            constant = constant and args[k].constant
            if ins.strict and is_null_constant(&args[k]):
                vector_null(out, ins.kind)
                return 0
        if constant:
            one = self.top_frame(1)
            one.error_row = row_at(frame, 0) if frame.error_row < 0 else frame.error_row
            frame = &one
        try:
            if ins.strict:
                combine_valid(frame, args, ins.n_args, out)
            ins.kernel(frame, ins, args, out)
            done = True
        finally:
            if not done:
                vector_clear(out)
        out.constant = constant
        return 0

    cdef int logic(self, Frame* frame, Instruction* ins, Vector* out) except -1 nogil:
        cdef bint stop = ins.op == OP_OR, done = False
        cdef Vector right
        cdef Frame narrow, one
        cdef Frame* work
        cdef Buffer* rows = NULL
        cdef int k
        memset(&right, 0, sizeof(Vector))
        try:
            self.eval(frame, ins.args[0], out)
            for k in range(1, ins.n_args):
                work = frame
                if out.constant:
                    if not is_null_constant(out) and out.col.values[0] == stop:
                        break
                elif not self.code[ins.args[k]].cheap:
                    if rows == NULL:
                        rows = pool_take(&self.pool, 4 * frame.m)
                    narrow = self.subframe(frame, <int32_t*>rows.data, rows_undecided(frame, out, stop, <int32_t*>rows.data))
                    if narrow.m == 0:
                        break
                    if narrow.m < frame.m:
                        work = &narrow
                self.eval(work, ins.args[k], &right)
                if out.constant and right.constant:
                    one = self.top_frame(1)
                    combine_logic(&one, &one, out, &right, stop)
                else:
                    combine_logic(frame, work, out, &right, stop)
                vector_clear(&right)
            done = True
        finally:
            vector_clear(&right)
            buffer_release(rows)
            if not done:
                vector_clear(out)
        return 0

    cdef int choose(self, Frame* frame, Instruction* ins, Vector* out) except -1 nogil:
        """when and coalesce: each row takes its value from one of the parts."""
        cdef int k, n_parts = ins.n_args if ins.op == OP_COALESCE else ins.n_args // 2 + 1
        cdef Vector* parts = <Vector*>calloc(n_parts, sizeof(Vector))
        cdef Buffer* which = NULL
        cdef Buffer* rows = NULL
        cdef int only
        cdef bint done = False
        if parts == NULL:
            with gil:
                raise MemoryError("no memory left for an expression")
        try:
            which = pool_take(&self.pool, 2 * frame.n)
            rows = pool_take(&self.pool, 8 * frame.m)
            only = self.branches(
                frame, ins, parts, <int16_t*>which.data, <int32_t*>rows.data, <int32_t*>rows.data + frame.m
            )
            if only < n_parts and parts[only].col.kind == ins.kind:
                vector_share(out, &parts[only])
            else:
                merge(frame, ins.kind, parts, n_parts, <int16_t*>which.data, out)
            done = True
        finally:
            for k in range(n_parts):
                vector_clear(&parts[k])
            free(parts)
            buffer_release(which)
            buffer_release(rows)
            if not done:
                vector_clear(out)
        return 0

    cdef int branches(self, Frame* frame, Instruction* ins, Vector* parts, int16_t* which, int32_t* rows, int32_t* taken) except -1 nogil:
        """Evaluate the parts for the rows that take them. Returns the part that all rows take, or their number."""
        cdef bint testing = ins.op == OP_WHEN
        cdef int k, last = ins.n_args // 2 if testing else ins.n_args - 1
        cdef int64_t i, m
        cdef Frame rest = frame[0]
        cdef Frame chosen
        cdef Vector condition
        cdef int value
        memset(&condition, 0, sizeof(Vector))
        for k in range(last):
            value = ins.args[2 * k + 1] if testing else ins.args[k]
            self.eval(&rest, ins.args[2 * k] if testing else value, &condition)
            m = split_rows(&rest, &condition, testing, <int16_t>k, which, taken, rows)
            if testing:
                vector_clear(&condition)
                if m > 0:
                    chosen = self.subframe(&rest, taken, m)
                    self.eval(frame if m == frame.m or self.code[value].cheap else &chosen, value, &parts[k])
            else:
                parts[k] = condition
                memset(&condition, 0, sizeof(Vector))
            if m == frame.m:
                return k
            if m == rest.m:
                return last + 1              # no row is left
            rest = self.subframe(frame, rows, rest.m - m)
        for i in range(rest.m):
            which[row_at(&rest, i)] = <int16_t>last
        value = ins.args[ins.n_args - 1]
        self.eval(frame if rest.m == frame.m or self.code[value].cheap else &rest, value, &parts[last])
        return last if rest.m == frame.m else last + 1

    cdef void forget(self) noexcept nogil:
        """Drop what was kept for common subexpressions of this batch."""
        cdef int i
        self.n_agenda = 0
        for i in range(self.n_code):
            if self.code[i].kept_frame >= 0:
                vector_clear(&self.code[i].kept)
                self.code[i].kept_frame = -1

    cdef Frame top_frame(self, int64_t n) noexcept nogil:
        return self.subframe(NULL, NULL, n)

    cdef Frame subframe(self, Frame* parent, const int32_t* rows, int64_t m) noexcept nogil:
        cdef Frame frame
        frame.n = m if parent == NULL else parent.n
        frame.rows = rows
        frame.m = m
        frame.pool = &self.pool
        frame.error_row = -1
        frame.id = self.n_frames
        frame.parent = parent
        self.n_frames += 1
        return frame


cdef inline bint is_kept(const Frame* frame, const Instruction* ins) noexcept nogil:
    """What holds for a frame holds for those made from it."""
    if ins.kept_frame < 0:
        return False
    while frame != NULL:
        if frame.id == ins.kept_frame:
            return True
        frame = frame.parent
    return False


cdef void* realloc_or_fail(void* memory, size_t size) except NULL nogil:
    cdef void* larger = realloc(memory, size)
    if larger == NULL:
        with gil:
            raise MemoryError("no memory left for an expression")
    return larger


cdef int list_conjuncts(Program program, int first) except -1:
    cdef Instruction* ins
    cdef int k
    waiting, seen = [first], set()
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        ins = &program.code[index]
        if ins.op != OP_AND:
            program.conjuncts[program.n_conjuncts] = index
            program.n_conjuncts += 1
            continue
        for k in range(ins.n_args - 1, -1, -1):
            waiting.append(ins.args[k])
    return 0


cdef int64_t keep_true(const Vector* vector, int32_t* rows, int64_t m) noexcept nogil:
    cdef int64_t i, kept = 0
    cdef int32_t row
    for i in range(m):
        row = rows[i]
        rows[kept] = row
        kept += vector.col.values[row] != 0 and (vector.col.valid == NULL or vector.col.valid[row] != 0)
    return kept
