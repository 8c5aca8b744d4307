/* reads.h: whether what a recorded function read by name is as it was. */
#ifndef PGR_INTERNAL_READS_H
#define PGR_INTERNAL_READS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* reads: (missing, holder, name, object, holder, name, object, ..), or (). Whether each name is bound to that very
 * object in its holder, a dict, a cell, the dict of a class, or something else with attributes; to nothing, if the
 * object is `missing`. */
bool pgr__reads_hold(PyObject *reads);

#endif
