# Declarations of the naming of places for the fronts, which ask at every lease.
# The C below reads frames by CPython's API, which is half as dear as reading their attributes.

cdef extern from *:
    """
    #ifndef SOJOURN_FRAMES
    #define SOJOURN_FRAMES
    #include <frameobject.h>

    /* The frame of the innermost Python code, or None. Compiled functions have none. */
    static CYTHON_INLINE PyObject *sj_frame(void) {
        PyObject *frame = (PyObject *)PyEval_GetFrame();
        if (frame == NULL) frame = Py_None;
        Py_INCREF(frame);
        return frame;
    }

    /* The frame that called it, or None. */
    static CYTHON_INLINE PyObject *sj_caller(PyObject *frame) {
        PyObject *back = (PyObject *)PyFrame_GetBack((PyFrameObject *)frame);
        if (back == NULL) {
            back = Py_None;
            Py_INCREF(back);
        }
        return back;
    }

    static CYTHON_INLINE PyObject *sj_code(PyObject *frame) {
        return (PyObject *)PyFrame_GetCode((PyFrameObject *)frame);
    }

    static CYTHON_INLINE PyObject *sj_file(PyObject *code) {
        PyObject *name = ((PyCodeObject *)code)->co_filename;
        Py_INCREF(name);
        return name;
    }

    static CYTHON_INLINE int sj_offset(PyObject *frame) {
        return PyFrame_GetLasti((PyFrameObject *)frame);
    }
    #endif
    """
    object sj_frame()
    object sj_caller(object frame)
    object sj_code(object frame)
    object sj_file(object code)
    int sj_offset(object frame)

cdef dict _inside

cpdef here()
