"""See params.pxd. All checks that need no data are made here, once."""
import re

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from streamdsl._native.expr.functions cimport Function, function_of
from streamdsl._native.expr.kernels_cast cimport cast_kernel
from streamdsl._native.expr.kernels_compare cimport compare_kernel
from streamdsl._native.expr.kernels_decimal cimport decimal_kernel
from streamdsl._native.expr.kernels_numeric cimport numeric_kernel
from streamdsl._native.expr.kernels_string cimport string_kernel
from streamdsl._native.expr.kernels_text cimport text_kernel
from streamdsl._native.expr.kernels_time cimport time_kernel
from streamdsl._native.expr.lookup cimport Table, lookup_kernel, table_free, table_new, table_set_values
from streamdsl._native.expr.ops cimport *
from streamdsl._native.expr.vector cimport Instruction, Kernel, is_null_constant, vector_clear, vector_null
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_F64, KIND_I64, KIND_STR, KIND_U64

# What they define is known once they are imported.
import streamdsl._native.expr.kernels_calendar
import streamdsl._native.expr.kernels_characters
import streamdsl._native.expr.kernels_list
import streamdsl._native.expr.kernels_math
import streamdsl._native.expr.kernels_pattern
import streamdsl._native.expr.kernels_row
import streamdsl._native.expr.kernels_struct
import streamdsl._native.expr.kernels_time_text

cdef object KIND_NAMES = ("none", "bool", "i64", "u64", "f64", "str", "dec")
cdef object FIXED_SPEC = re.compile(r"\.(\d{1,2})f", re.ASCII)


cdef int compile_instruction(Instruction* code, int index, object spec, list keep) except -1:
    cdef Instruction* ins = &code[index]
    cdef Shape shape = shape_of(spec.op)
    cdef int k, n_args = len(spec.args)
    ins.op = shape.op
    ins.kind = kind_code(spec.kind)
    ins.strict = shape.strict
    ins.kept_frame = -1
    ins.common = -1
    ins.n_args = n_args
    ins.args = <int*>calloc(n_args + 1, sizeof(int))
    if ins.args == NULL:
        raise MemoryError("no memory left for an expression")
    if n_args < shape.least_args or (n_args > shape.most_args and shape.most_args >= 0):
        raise ValueError(f"instruction {index}: {spec.op} does not take {n_args} arguments")
    for k in range(n_args):
        if not 0 <= spec.args[k] < index:
            raise ValueError(f"instruction {index}: argument {spec.args[k]} does not stand before it")
        ins.args[k] = spec.args[k]
        code[ins.args[k]].uses += 1
    try:
        if ins.op == OP_FUNCTION:
            set_function(code, ins, function_of(spec.op), tuple(spec.params), keep)
        else:
            ins.kernel = kernel_of(ins.op)
            check_kinds(code, ins)
            set_params(code, ins, tuple(spec.params), keep)
    except (ValueError, TypeError, IndexError, OverflowError, re.error) as error:
        raise ValueError(f"instruction {index}, {spec.op}: {error}") from error
    ins.cheap = is_cheap(code, ins)
    return 0


cdef void instruction_free(Instruction* ins) noexcept:
    free(ins.args)
    free(ins.eager)
    free(ins.done)
    table_free(<Table*>ins.table)
    vector_clear(&ins.constant)
    vector_clear(&ins.kept)


cdef Kernel kernel_of(int op) noexcept:
    cdef Kernel kernel = compare_kernel(op)
    if kernel == NULL:
        kernel = numeric_kernel(op)
    if kernel == NULL:
        kernel = decimal_kernel(op)
    if kernel == NULL:
        kernel = cast_kernel(op)
    if kernel == NULL:
        kernel = string_kernel(op)
    if kernel == NULL:
        kernel = text_kernel(op)
    if kernel == NULL:
        kernel = lookup_kernel(op)
    if kernel == NULL:
        kernel = time_kernel(op)
    return kernel


cdef int set_function(Instruction* code, Instruction* ins, Function row, tuple params, list keep) except -1:
    cdef int k
    ins.kernel = row.kernel
    ins.which = row.which
    if ins.kind != kind_code(row.result):
        raise ValueError(f"the result has kind {row.result}, not {KIND_NAMES[ins.kind]}")
    for k in range(ins.n_args if row.args != ("*",) else 0):
        need(code, ins, k, code[ins.args[k]].kind == kind_code(row.args[k]))
    if row.setup != NULL:
        row.setup(ins, params, keep)
    elif params:
        raise ValueError(f"it takes no parameters, not {params}")
    return 0


# Kinds -------------------------------------------------------------------------------------------------------


cdef bint is_number(int kind) noexcept:
    return kind == KIND_I64 or kind == KIND_U64 or kind == KIND_F64


cdef int need(Instruction* code, Instruction* ins, int k, bint fine) except -1:
    """A literal null fits everywhere."""
    if not fine and not (code[ins.args[k]].op == OP_LITERAL and is_null_constant(&code[ins.args[k]].constant)):
        raise ValueError(f"argument {k} has kind {KIND_NAMES[code[ins.args[k]].kind]}, the result {KIND_NAMES[ins.kind]}")
    return 0


cdef int check_kinds(Instruction* code, Instruction* ins) except -1:
    cdef int k, kind, op = ins.op
    check_result(ins)
    for k in range(ins.n_args):
        kind = code[ins.args[k]].kind
        if op == OP_AND or op == OP_OR or op == OP_NOT:
            need(code, ins, k, kind == KIND_BOOL)
        elif op == OP_WHEN and k % 2 == 0 and k < ins.n_args - 1:
            need(code, ins, k, kind == KIND_BOOL)
        elif op == OP_WHEN or op == OP_COALESCE or op == OP_LEAST or op == OP_GREATEST or (op == OP_REPLACE and k == 1):
            need(code, ins, k, kind == ins.kind or (ins.kind == KIND_F64 and is_number(kind) and op != OP_REPLACE))
        elif OP_EQ <= op <= OP_GE:
            need(code, ins, k, family(kind) == family(code[ins.args[0]].kind) or any_null(code, ins))
        elif op == OP_DIV or op == OP_POW or op == OP_ATAN2 or (OP_SQRT <= op <= OP_RADIANS):
            need(code, ins, k, kind != KIND_STR and kind != KIND_DEC)
        elif op == OP_IS_NAN or op == OP_IS_FINITE:
            need(code, ins, k, kind != KIND_STR and kind != KIND_DEC)
        elif (OP_ADD <= op <= OP_ROUND) or op == OP_FLOOR or op == OP_CEIL:
            need(code, ins, k, kind == ins.kind or (ins.kind == KIND_F64 and kind != KIND_STR and kind != KIND_DEC))
        elif op == OP_CHECK_RANGE:
            need(code, ins, k, kind == ins.kind and is_number(kind))
        elif OP_PARSE_I64 <= op <= OP_PARSE_BOOL:
            need(code, ins, k, kind == KIND_STR)
        elif (OP_STR_LOWER <= op <= OP_STR_SPLIT_PART) or op == OP_CONCAT:
            need(code, ins, k, kind == KIND_STR)
        elif OP_DT_YEAR <= op <= OP_DT_TRUNCATE:
            need(code, ins, k, kind == KIND_I64)
        elif op == OP_DEC_CAST:
            need(code, ins, k, kind != KIND_DEC)
        elif OP_DEC_ADD <= op <= OP_DEC_TO_STR:
            need(code, ins, k, kind == KIND_DEC)
    return 0


cdef int family(int kind) noexcept:
    """Kinds of one family compare."""
    return kind if kind == KIND_STR or kind == KIND_DEC else KIND_I64


cdef bint any_null(Instruction* code, Instruction* ins) noexcept:
    cdef int k
    for k in range(ins.n_args):
        if code[ins.args[k]].op == OP_LITERAL and is_null_constant(&code[ins.args[k]].constant):
            return True
    return False


cdef int check_result(Instruction* ins) except -1:
    cdef int op = ins.op, wanted = 0
    if op == OP_AND or op == OP_OR or (OP_EQ <= op <= OP_IS_FINITE) or (OP_STR_STARTS_WITH <= op <= OP_STR_CONTAINS) or op == OP_IS_IN:
        wanted = KIND_BOOL
    elif op == OP_TIME or op == OP_STR_LENGTH or (OP_DT_YEAR <= op <= OP_DT_TRUNCATE) or op == OP_CAST_I64 or op == OP_PARSE_I64:
        wanted = KIND_I64
    elif op == OP_CAST_U64:
        wanted = KIND_U64
    elif op == OP_CAST_BOOL or op == OP_PARSE_BOOL:
        wanted = KIND_BOOL
    elif op == OP_DIV or op == OP_POW or op == OP_ATAN2 or (OP_SQRT <= op <= OP_RADIANS) or op == OP_CAST_F64 or op == OP_PARSE_F64:
        wanted = KIND_F64
    elif op == OP_CAST_STR or (OP_STR_LOWER <= op <= OP_FORMAT):
        wanted = KIND_STR
    elif op == OP_DEC_TO_F64:
        wanted = KIND_F64
    elif op == OP_DEC_TO_I64 or op == OP_DEC_SIGN:
        wanted = KIND_I64
    elif op == OP_DEC_TO_U64:
        wanted = KIND_U64
    elif op == OP_DEC_TO_STR:
        wanted = KIND_STR
    elif OP_DEC_ADD <= op <= OP_DEC_CAST:
        wanted = KIND_DEC
    elif (OP_ADD <= op <= OP_ROUND) or op == OP_FLOOR or op == OP_CEIL:
        if not is_number(ins.kind):
            raise ValueError(f"the result cannot have kind {KIND_NAMES[ins.kind]}")
    if wanted != 0 and ins.kind != wanted:
        raise ValueError(f"the result has kind {KIND_NAMES[wanted]}, not {KIND_NAMES[ins.kind]}")
    return 0


cdef bint is_cheap(Instruction* code, Instruction* ins) noexcept:
    """Cannot fail, and cheaper for all rows than choosing rows for it: straight loops over numbers."""
    cdef int k, op = ins.op
    for k in range(ins.n_args):
        if not code[ins.args[k]].cheap or (code[ins.args[k]].kind == KIND_STR and op != OP_IS_NULL and op != OP_NOT_NULL):
            return False
    if OP_COLUMN <= op <= OP_OR or OP_EQ <= op <= OP_IS_FINITE or op == OP_CAST_F64 or op == OP_RADIANS or op == OP_DIV:
        return True
    return ins.kind == KIND_F64 and (OP_ADD <= op <= OP_MUL or OP_NEG <= op <= OP_SIGN or op == OP_SQRT)


# Parameters --------------------------------------------------------------------------------------------------


cdef int set_params(Instruction* code, Instruction* ins, tuple params, list keep) except -1:
    cdef int op = ins.op
    if op == OP_COLUMN:
        ins.whole = params[0]
        if ins.whole < 0:
            raise ValueError(f"there is no column {params[0]}")
    elif op == OP_LITERAL:
        set_literal(ins, params[0])
    elif op == OP_WHEN:
        if ins.n_args % 2 == 0 or ins.n_args > 30000:
            raise ValueError("arguments are pairs of condition and value, and one value more")
    elif op == OP_DIV:
        ins.whole = "int" in params
    elif op == OP_CAST_STR:
        name = params[0] if params else ""
        ins.whole = 2 if name.startswith("date") else 0
        if name.startswith("timestamp"):
            ins.whole = 10 + {"s": 0, "us": 6, "ns": 9}.get(name[10:12].rstrip(",]"), 3)
    elif OP_CAST_F64 <= op <= OP_PARSE_BOOL:
        ins.whole = bool(params[0]) if params else True
    elif op == OP_CHECK_RANGE:
        set_range(ins, params, keep)
    elif op == OP_ROUND:
        ins.whole = params[0] if params else 0
    elif OP_DEC_ADD <= op <= OP_DEC_TO_STR:
        ins.whole = params[0] if params else 0
        ins.whole2 = params[1] if len(params) > 1 else 0
        ins.size1 = params[2] if len(params) > 2 else 1
        set_object(ins, params, keep)
        if not -38 <= ins.whole <= 76 or not 0 <= ins.whole2 <= 38:
            raise ValueError("a decimal has at most 38 digits")
    elif op == OP_DT_TRUNCATE:
        ins.whole = params[0]
        if ins.whole <= 0:
            raise ValueError("the step must be above 0")
    elif op == OP_STR_SLICE:
        ins.whole = params[0]
        ins.whole2 = -1 if params[1] is None else max(0, params[1])
    elif op == OP_STR_SPLIT_PART:
        set_separator(ins, params, keep)
    elif op == OP_FORMAT:
        set_format(ins, params, keep)
    elif op == OP_IS_IN:
        ins.table = table_new(list(params[0]), code[ins.args[0]].kind)
    elif op == OP_REPLACE or op == OP_REPLACE_STRICT:
        ins.whole = params[2] if len(params) > 2 else 0      # the scale of decimal keys
        ins.table = table_new(list(params[0]), code[ins.args[0]].kind)
        table_set_values(<Table*>ins.table, list(params[0]), list(params[1]), ins.kind)
    return 0


cdef int set_object(Instruction* ins, tuple params, list keep) except -1:
    keep.append(params)
    ins.params = <PyObject*>params
    return 0


cdef int set_literal(Instruction* ins, value) except -1:
    cdef Table* table
    vector_null(&ins.constant, ins.kind)
    if value is None:
        return 0
    memset(&ins.constant, 0, sizeof(ins.constant))
    # A table of one value knows how to turn it into its kind.
    table = table_new([0], KIND_I64)
    try:
        table_set_values(table, [0], [value], ins.kind)
        ins.constant = table.values
        memset(&table.values, 0, sizeof(table.values))
    finally:
        table_free(table)
    ins.constant.constant = True
    ins.constant.col.valid = NULL            # its buffer stays: it is released with the constant
    return 0


cdef int set_range(Instruction* ins, tuple params, list keep) except -1:
    least, most = params[0], params[1]
    if ins.kind == KIND_U64:
        ins.whole = <int64_t><uint64_t>max(0, least)
        ins.whole2 = <int64_t><uint64_t>min(2**64 - 1, most)
    elif ins.kind == KIND_I64:
        ins.whole = max(-(2**63), least)
        ins.whole2 = min(2**63 - 1, most)
    else:
        raise ValueError("only whole numbers have a range")
    set_object(ins, (least, most, str(params[2]) if len(params) > 2 else "the column"), keep)
    return 0


cdef int set_separator(Instruction* ins, tuple params, list keep) except -1:
    cdef bytes separator = params[0].encode()
    if not separator:
        raise ValueError("the text to look for is empty")
    ins.whole = params[1]
    set_object(ins, (separator,), keep)
    ins.text1 = separator
    ins.size1 = len(separator)
    return 0


cdef int set_format(Instruction* ins, tuple params, list keep) except -1:
    cdef bytes joined, numbers
    pieces = [piece.encode() for piece in params[0]]
    specs = tuple(params[1])
    if len(specs) != ins.n_args or len(pieces) != ins.n_args + 1:
        raise ValueError(f"{len(pieces)} pieces and {len(specs)} specs for {ins.n_args} arguments")
    # Styles: -1 = as it is, -2 = through Python, otherwise the number of decimals; then the ends of the pieces.
    styles = []
    for spec in specs:
        fixed = FIXED_SPEC.fullmatch(spec)
        styles.append(-1 if spec == "" else (int(fixed[1]) if fixed else -2))
    ends = [sum(map(len, pieces[: k + 1])) for k in range(len(pieces))]
    joined = b"".join(pieces)
    numbers = b"".join(number.to_bytes(4, "little", signed=True) for number in (*styles, *ends))
    set_object(ins, (joined, specs, numbers), keep)
    ins.text1 = joined
    ins.text2 = numbers
    return 0
