/* call.h: running programs. */
#ifndef PGR_INTERNAL_CALL_H
#define PGR_INTERNAL_CALL_H

#include "python/layer.h"

extern PyMethodDef pgr__program_methods[];

#endif
