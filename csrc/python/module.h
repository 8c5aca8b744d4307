/* module.h: what CPython's layer adds to the interface that cffi reads. */
#ifndef PGR_INTERNAL_MODULE_H
#define PGR_INTERNAL_MODULE_H

#include "pgr.h"

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

#endif
