"""Functions of one double, as the C library computes them."""
from streamdsl._native.expr.elementwise cimport Unary
from streamdsl._native.expr.functions cimport define
from streamdsl._native.expr.vector cimport Frame, Instruction, Vector, to_f64, vector_alloc
from streamdsl._native.flow.batch cimport KIND_F64

cdef extern from * nogil:
    """
    #include <math.h>
    SD_UNARY(sd_log1p, double, double, log1p(x))
    SD_UNARY(sd_cbrt, double, double, cbrt(x))
    SD_UNARY(sd_cot, double, double, 1.0 / tan(x))
    SD_UNARY(sd_sinh, double, double, sinh(x))
    SD_UNARY(sd_cosh, double, double, cosh(x))
    SD_UNARY(sd_tanh, double, double, tanh(x))
    SD_UNARY(sd_asinh, double, double, asinh(x))
    SD_UNARY(sd_acosh, double, double, acosh(x))
    SD_UNARY(sd_atanh, double, double, atanh(x))
    SD_UNARY(sd_degrees, double, double, x * (180.0 / 3.14159265358979323846))
    static const sd_unary SD_MATH[] = {sd_log1p, sd_cbrt, sd_cot, sd_sinh, sd_cosh, sd_tanh, sd_asinh, sd_acosh, sd_atanh, sd_degrees};
    """
    Unary* MATH "SD_MATH"


cdef int of_one_float(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    to_f64(frame, &args[0])
    vector_alloc(frame, out, KIND_F64)
    MATH[ins.which](args[0].col.values, out.col.values, frame.rows, frame.m)
    return 0


# In the order of SD_MATH.
for _which, _name in enumerate(("log1p", "cbrt", "cot", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "degrees")):
    define(_name, "f64 -> f64", of_one_float, _which)
