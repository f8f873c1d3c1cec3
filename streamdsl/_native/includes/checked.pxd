"""What only the checked build has: checks, fault points, planted bugs. In a release build all three compile to nothing.

CHECK(condition, what)     an invariant of the code around it; one that does not hold ends the process, with its place.
                           The condition has no effects, and is a comparison of plain values or one call: what Cython computes in
                           front of the macro (a call within `and`, anything of Python) a release build would compute too.
FAULT("FP03")              a step at which a test may kill, fail or delay the process (see faults.py, which keeps count).
                           Not under a lock: it takes the GIL.
PLANTED("name")            whether a known bug has been switched on (STREAMDSL_PLANT=name; tests/power/bank.py lists them).
                           The environment is asked each time, so that a test can switch within one process.
"""

cdef extern from * nogil:
    """
    #ifndef SD_CHECKED_H
    #define SD_CHECKED_H
    #ifdef STREAMDSL_CHECKED
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>

    #define SD_CHECKED_BUILD 1

    static void sd_check_failed(const char *condition, const char *what, const char *file, int line) {
        fprintf(stderr, "%s:%d: check failed: %s (%s)\\n", file, line, what, condition);
        fflush(stderr);
        abort();
    }
    #define sd_check(condition, what) \\
        ((condition) ? (void)0 : sd_check_failed(#condition, what, __FILE__, __LINE__))

    static int sd_planted(const char *name) {
        const char *planted = getenv("STREAMDSL_PLANT");
        return planted != NULL && strcmp(planted, name) == 0;
    }

    static int sd_fault(const char *name) {
        PyGILState_STATE state = PyGILState_Ensure();
        PyObject *faults = PyImport_ImportModule("streamdsl._native.includes.faults");
        PyObject *done = faults == NULL ? NULL : PyObject_CallMethod(faults, "fault", "s", name);
        int result = done == NULL ? -1 : 0;
        Py_XDECREF(done);
        Py_XDECREF(faults);
        PyGILState_Release(state);
        return result;
    }
    #else
    #define SD_CHECKED_BUILD 0
    #define sd_check(condition, what) ((void)(what))
    #define sd_planted(name) ((void)(name), 0)
    #define sd_fault(name) ((void)(name), 0)
    #endif
    #endif
    """
    const bint CHECKED_BUILD "SD_CHECKED_BUILD"
    void CHECK "sd_check"(bint condition, const char* what) noexcept
    bint PLANTED "sd_planted"(const char* name) noexcept
    int FAULT "sd_fault"(const char* name) except -1
