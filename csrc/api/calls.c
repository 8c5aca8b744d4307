/* calls.c: see calls.h. */
#include "api/calls.h"

pgr_id *pgr__ids_of(pgr_tape *tape, size_t n, const pgr_handle *handles, pgr_status *status)
{
    pgr_id *const ids = *status == PGR_OK ? tape_resize(tape, NULL, (n + 1) * sizeof *ids) : NULL;
    if (ids == NULL && *status == PGR_OK)
        *status = PGR_ERR_NOMEM;
    for (size_t i = 0; i < n && *status == PGR_OK; i++)
        if ((ids[i] = tape_id_of(tape, handles[i])) == 0)
            *status = PGR_ERR_HANDLE;
    return ids;
}

pgr_status pgr__hold_all(pgr_tape *tape, size_t n, const pgr_id *ids, pgr_handle *out)
{
    for (size_t i = 0; i < n; i++) {
        const int64_t h = pgr_hold(tape, ids[i]);
        if (h < 0) {
            for (; i > 0; out[i] = 0)
                tape_release(tape, (uint32_t)out[--i], false);
            return (pgr_status)-h;
        }
        out[i] = (pgr_handle)h;
    }
    return PGR_OK;
}
