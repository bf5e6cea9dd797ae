# What the kernel asks of CPython beyond Cython's own declarations; all version checks live here.
# Every function returns an object or raises, so that no kernel module handles a raw pointer.

cdef extern from *:
    """
    #ifndef SOJOURN_CAPI
    #define SOJOURN_CAPI

    /* An object of *type* without __init__; a user's __new__ is honoured. */
    static PyObject *sj_no_arguments = NULL;
    static CYTHON_INLINE PyObject *sj_allocate(PyObject *type) {
        PyObject *made;
        if (sj_no_arguments == NULL) {
            sj_no_arguments = PyTuple_New(0);
            if (sj_no_arguments == NULL) return NULL;
        }
        if (!PyType_Check(type) || ((PyTypeObject *)type)->tp_new == NULL) {
            PyErr_SetString(PyExc_TypeError, "cannot create instances of this type");
            return NULL;
        }
        made = ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, sj_no_arguments, NULL);
        if (made != NULL && (PyObject *)Py_TYPE(made) != type) {
            PyErr_Format(PyExc_TypeError, "%.200s.__new__ returned an object of type %.200s",
                         ((PyTypeObject *)type)->tp_name, Py_TYPE(made)->tp_name);
            Py_DECREF(made);
            return NULL;
        }
        return made;
    }

    /* The object's own __dict__, made if need be; AttributeError for objects without one. */
    static CYTHON_INLINE PyObject *sj_dict(PyObject *object) {
        return PyObject_GenericGetDict(object, NULL);
    }

    /* object.__dict__[name], or NotImplemented when it is not there (or is NotImplemented itself). */
    static CYTHON_INLINE PyObject *sj_peek(PyObject *object, PyObject *name) {
        PyObject **place = _PyObject_GetDictPtr(object);
        PyObject *found = NULL;
        if (place != NULL && *place != NULL) {
            found = PyDict_GetItemWithError(*place, name);
            if (found == NULL && PyErr_Occurred()) return NULL;
        }
        if (found == NULL) found = Py_NotImplemented;
        Py_INCREF(found);
        return found;
    }

    /* What a weak reference refers to; None when it is gone. */
    static CYTHON_INLINE PyObject *sj_deref(PyObject *reference) {
    #if PY_VERSION_HEX >= 0x030d0000
        PyObject *found;
        if (PyWeakref_GetRef(reference, &found) < 0) return NULL;
        if (found == NULL) { found = Py_None; Py_INCREF(found); }
        return found;
    #else
        PyObject *found = PyWeakref_GetObject(reference);
        Py_XINCREF(found);
        return found;
    #endif
    }

    /* Whether a weak reference refers to just this object. */
    static CYTHON_INLINE int sj_refers(PyObject *reference, PyObject *object) {
        PyObject *found;
        int same;
        if (reference == Py_None) return 0;
        found = sj_deref(reference);
        if (found == NULL) return -1;
        same = found == object;
        Py_DECREF(found);
        return same;
    }

    /* A weak reference without a callback. It owns nothing, so the collector need not see it. */
    static CYTHON_INLINE PyObject *sj_weak(PyObject *object) {
        PyObject *made = PyWeakref_NewRef(object, NULL);
        if (made != NULL) PyObject_GC_UnTrack(made);
        return made;
    }

    /* Whether every name is a key of the dict. */
    static CYTHON_INLINE int sj_has_all(PyObject *dict, PyObject *names) {
        Py_ssize_t i, n = PyTuple_GET_SIZE(names);
        for (i = 0; i < n; i++) {
            if (PyDict_GetItemWithError(dict, PyTuple_GET_ITEM(names, i)) == NULL)
                return PyErr_Occurred() ? -1 : 0;
        }
        return 1;
    }

    /* Remove those of the names that are there; deleting keeps a key-sharing dict shared, clear() does not. */
    static CYTHON_INLINE int sj_remove(PyObject *dict, PyObject *names) {
        Py_ssize_t i, n = PyTuple_GET_SIZE(names);
        int likely_there = PyDict_GET_SIZE(dict) > n;
        if (PyDict_GET_SIZE(dict) == 0) return 0;
        for (i = 0; i < n; i++) {
            PyObject *name = PyTuple_GET_ITEM(names, i);
            if (!likely_there && PyDict_GetItemWithError(dict, name) == NULL) {
                if (PyErr_Occurred()) return -1;
            } else if (PyDict_DelItem(dict, name) < 0) {
                if (!PyErr_ExceptionMatches(PyExc_KeyError)) return -1;
                PyErr_Clear();
            }
        }
        return 0;
    }

    /* dict[names[i]] = row[start + i]; the caller has checked the row's length. */
    static CYTHON_INLINE int sj_fill(PyObject *dict, PyObject *names, PyObject *row, Py_ssize_t start) {
        Py_ssize_t i, n = PyTuple_GET_SIZE(names);
        for (i = 0; i < n; i++) {
            if (PyDict_SetItem(dict, PyTuple_GET_ITEM(names, i), PyTuple_GET_ITEM(row, start + i)) < 0) return -1;
        }
        return 0;
    }

    /* Take a row and its tuple out of the collector's sight, as it does itself with tuples, if no value in it
       can be part of a cycle. 40,000 rows are otherwise walked through right after they were made. */
    static CYTHON_INLINE int sj_untrack(PyObject *made, PyObject *row) {
        Py_ssize_t i, n = PyTuple_GET_SIZE(row);
        for (i = 0; i < n; i++) {
            PyObject *value = PyTuple_GET_ITEM(row, i);
            if (PyType_IS_GC(Py_TYPE(value)) && PyObject_GC_IsTracked(value)) return 0;
        }
        PyObject_GC_UnTrack(row);
        if (PyType_IS_GC(Py_TYPE(made))) PyObject_GC_UnTrack(made);
        return 0;
    }

    /* From 3.12 on the collector never runs inside compiled code, so there is nothing to pause. */
    static CYTHON_INLINE int pause_gc(void) {
    #if PY_VERSION_HEX < 0x030c0000
        return PyGC_Disable();
    #else
        return 0;
    #endif
    }
    static CYTHON_INLINE int resume_gc(int paused) {
        if (paused) PyGC_Enable();
        return 0;
    }

    /* Send into a generator; what it yields, or with *returned set its result, without StopIteration. */
    static CYTHON_INLINE PyObject *sj_send(PyObject *flow, PyObject *value, int *returned) {
        PyObject *given = NULL;
        PySendResult going = PyIter_Send(flow, value, &given);
        *returned = going == PYGEN_RETURN;
        return going == PYGEN_ERROR ? NULL : given;
    }

    /* Make *function* the class's tp_init, through a slot wrapper as C types have it: calling the class then
       hands the keyword dict over as it is, where a Python-level __init__ has it unpacked and packed again. */
    typedef int (*sj_initializer)(PyObject *, PyObject *);
    static sj_initializer sj_initialize_with = NULL;
    static int sj_initialize(PyObject *self, PyObject *args, PyObject *given) {
        if (PyTuple_GET_SIZE(args) != 0) {
            PyErr_Format(PyExc_TypeError, "%.200s() takes keyword arguments only (%zd positional given)",
                         Py_TYPE(self)->tp_name, PyTuple_GET_SIZE(args));
            return -1;
        }
        return sj_initialize_with(self, given == NULL ? Py_None : given);
    }
    static CYTHON_INLINE int sj_set_initializer(PyObject *cls, sj_initializer function) {
        PyObject *slot = PyObject_GetAttrString((PyObject *)&PyBaseObject_Type, "__init__");
        PyObject *made;
        int done;
        if (slot == NULL) return -1;
        sj_initialize_with = function;
        made = PyDescr_NewWrapper((PyTypeObject *)cls, ((PyWrapperDescrObject *)slot)->d_base,
                                  (void *)sj_initialize);
        Py_DECREF(slot);
        if (made == NULL) return -1;
        done = PyObject_SetAttrString(cls, "__init__", made);
        Py_DECREF(made);
        return done;
    }

    #endif
    """
    ctypedef int (*sj_initializer)(object, dict) except? -1
    int sj_set_initializer(object cls, sj_initializer function) except -1
    object sj_allocate(object type)
    dict sj_dict(object object)
    object sj_peek(object object, object name)
    object sj_deref(object reference)
    bint sj_refers(object reference, object object) except -1
    object sj_weak(object object)
    bint sj_has_all(dict d, tuple names) except -1
    int sj_remove(dict d, tuple names) except -1
    int sj_fill(dict d, tuple names, tuple row, Py_ssize_t start) except -1
    int sj_untrack(object made, tuple row) except -1
    object sj_send(object flow, object value, int *returned)
    int pause_gc()
    int resume_gc(int paused)
