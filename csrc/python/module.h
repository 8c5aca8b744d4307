/* module.h: the layer's part of the interface that cffi reads. */
#ifndef PGR_INTERNAL_MODULE_H
#define PGR_INTERNAL_MODULE_H

#include "pgr.h"

/* cdef: begin */

/* Puts the type Operand and the layer's functions into the module pygrad._pgr, the first time. Takes the GIL. -1 on
 * failure, which sys.unraisablehook reports. */
int pgr_install_operand_type(void);

/* Makes the GIL the tape's lock, and pgr_stop_for_signal its on_stop. */
pgr_status pgr_tape_use_gil(pgr_tape *tape);

/* For pgr_tape_on_stop and pgr_run_options: lets Python handle pending signals. 1 if that raises an exception, which
 * becomes the module's `_stopped_by`. Takes the GIL. */
int pgr_stop_for_signal(void *unused);

/* cdef: end */

#endif
