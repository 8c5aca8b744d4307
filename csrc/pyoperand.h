/* pyoperand.h: what pyoperand.c and pyties.c, the two files that know CPython, share; and, between
 * the markers, what they add to the interface that cffi reads. */
#ifndef PGR_PYOPERAND_H
#define PGR_PYOPERAND_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tape.h"

/* cdef: begin */

/* Puts the type Operand and the functions that go with it into the module pygrad._pgr. Takes the GIL. Once done,
 * does nothing. -1 on failure, which is reported through sys.unraisablehook. */
int pgr_install_operand_type(void);

/* Makes the GIL the tape's lock, and pgr_stop_for_signal what its sweeps ask. */
pgr_status pgr_tape_use_gil(pgr_tape *tape);

/* For pgr_tape_on_stop and pgr_run_options: lets Python handle signals that have come. 1 if that has raised an exception,
 * which then is the module's `_stopped_by`. Takes the GIL. */
int pgr_stop_for_signal(void *unused);

/* cdef: end */

#if PY_VERSION_HEX < 0x030a0000
static inline PyObject *Py_NewRef(PyObject *o) { Py_INCREF(o); return o; }
static inline PyObject *Py_XNewRef(PyObject *o) { Py_XINCREF(o); return o; }
#endif

typedef struct {
    PyObject_HEAD
    uint32_t slot; /* 0 only while being made */
    PyObject *weakrefs;
    PyObject *dict;
} operand;

extern PyMethodDef pgr__program_methods[]; /* of pyprogram.c */
bool pgr__is_operand(PyObject *o);
PyObject *pgr__notes(void);

/* The ties of a tape whose owners are operands (see pyties.c), in memory that the caller frees with
 * PyMem_Free; NULL and a count of 0 if there are none. Runs no Python code. */
pgr_tie *pgr__find_ties(pgr_tape *tape, size_t *count);

#endif
