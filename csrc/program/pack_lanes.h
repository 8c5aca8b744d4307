/* pack_lanes.h: runs packs, for one instruction set: lanes.h includes it, so it has no guard, either.
 *
 * A pack is eight numbers on every machine, so that sums are added in the same order. */

#ifndef LANES_GATHER /* put together in registers: numbers stored one by one and loaded as a vector make it wait */
LANES_TARGET PGR_INLINE LANES(vector) LANES(gather)(const double *u, const uint32_t *at)
{
#if LANES_VECTOR == 4
    return (LANES(vector)){u[at[0]], u[at[1]], u[at[2]], u[at[3]]};
#elif LANES_VECTOR == 2
    return (LANES(vector)){u[at[0]], u[at[1]]};
#else
    LANES(vector) x;
    for (int k = 0; k < LANES_VECTOR; k++)
        ((double *)&x)[k] = u[at[k]];
    return x;
#endif
}
#endif

/* An operand's numbers; `kind` is a constant for the compiler. */
LANES_TARGET PGR_INLINE LANES(eight) LANES(operand_of)(const double *u, const uint32_t *index, uint32_t at, int kind)
{
    LANES(eight) x;
    if (kind == IN_A_ROW)
        return LANES(eight_at)(u + at);
    if (kind == THE_SAME) {
        UNROLLED for (int k = 0; k < PACK / LANES_VECTOR; k++)
            x.part[k] = u[at] - (LANES(vector)){0.0}; /* + would lose the sign of -0 */
        return x;
    }
#ifdef LANES_GATHER
    x.part[0] = (LANES(vector))LANES_GATHER(u, index + at);
    return x;
#else
    UNROLLED for (int k = 0; k < PACK / LANES_VECTOR; k++)
        x.part[k] = LANES(gather)(u, index + at + k * LANES_VECTOR);
    return x;
#endif
}

LANES_TARGET PGR_INLINE LANES(eight) LANES(any_operand)(const double *u, const uint32_t *index, uint32_t at,
                                                        uint32_t kind)
{
    switch (kind) {
    case IN_A_ROW: return LANES(operand_of)(u, index, at, IN_A_ROW);
    case THE_SAME: return LANES(operand_of)(u, index, at, THE_SAME);
    default: return LANES(operand_of)(u, index, at, GATHERED);
    }
}

LANES_TARGET PGR_INLINE void LANES(add_product)(LANES(eight) *sum, LANES(eight) x, LANES(eight) y)
{
    UNROLLED for (int k = 0; k < PACK / LANES_VECTOR; k++)
        sum->part[k] += x.part[k] * y.part[k];
}

/* Adds a run of terms to `many` sums in turn; kinds are constants for the compiler. */
LANES_TARGET PGR_INLINE void LANES(run_of_terms)(LANES(eight) *sum, const double *u, const uint32_t *index,
                                                 const uint32_t *code, uint32_t count, int many, int kind_x, int kind_y)
{
    uint32_t t = 0;
    for (; t + (uint32_t)many <= count; t += (uint32_t)many, code += 2 * many)
        UNROLLED for (int k = 0; k < many; k++)
            LANES(add_product)(&sum[k], LANES(operand_of)(u, index, code[2 * k], kind_x),
                               LANES(operand_of)(u, index, code[2 * k + 1], kind_y));
    for (; t < count; t++, code += 2)
        LANES(add_product)(&sum[0], LANES(operand_of)(u, index, code[0], kind_x),
                           LANES(operand_of)(u, index, code[1], kind_y));
}

#define KINDS_OF(x, y) (x) * OPERAND_KINDS + (y)

/* All runs of a sum. Of two kinds, the smaller comes first. Returns where its numbers end. */
LANES_TARGET PGR_INLINE const uint32_t *LANES(all_terms)(LANES(eight) *sum, const double *u, const uint32_t *index,
                                                         const uint32_t *code, uint32_t runs, int many)
{
    for (uint32_t run = 0; run < runs; run++) {
        const uint32_t kinds = *code % RUN_KINDS, count = *code / RUN_KINDS;
        code++;
        switch (kinds) {
#define CASE(x, y) \
        case KINDS_OF(x, y): \
            LANES(run_of_terms)(sum, u, index, code, count, many, x, y); \
            break;
        CASE(IN_A_ROW, IN_A_ROW) CASE(IN_A_ROW, THE_SAME) CASE(IN_A_ROW, GATHERED)
        CASE(THE_SAME, THE_SAME) CASE(THE_SAME, GATHERED) CASE(GATHERED, GATHERED)
#undef CASE
        }
        code += 2 * (size_t)count;
    }
    return code;
}

LANES_TARGET static void LANES(pack_sums)(const program_packs *p, const pack_step *s, double *u)
{
    const uint32_t *code = p->code + s->first;
    for (uint32_t k = 0; k < s->count; k++) {
        LANES(eight) sum = LANES(any_operand)(u, p->index, code[2], code[1]);
        double *const out = u + code[0];
        code = LANES(all_terms)(&sum, u, p->index, code + 4, code[3], 1);
        LANES(put_eight)(out, sum);
    }
}

/* What leaves every sum as it is: -0. */
LANES_TARGET PGR_INLINE LANES(eight) LANES(nothing)(void)
{
    LANES(eight) x;
    for (int k = 0; k < PACK / LANES_VECTOR; k++)
        x.part[k] = -0.0 - (LANES(vector)){0.0};
    return x;
}

LANES_TARGET static void LANES(pack_add_up)(const program_packs *p, const pack_step *s, double *u)
{
    enum { MANY = SUMMANDS / PACK };
    LANES(eight) sum[MANY];
    UNROLLED for (int m = 0; m < MANY; m++)
        sum[m] = s->goes_on ? LANES(eight_at)(u + s->place + (uint32_t)m * PACK) : LANES(nothing)();
    if (s->kinds == KINDS_OF(IN_A_ROW, IN_A_ROW))
        LANES(run_of_terms)(sum, u, p->index, p->code + s->first, s->count, MANY, IN_A_ROW, IN_A_ROW);
    else
        LANES(run_of_terms)(sum, u, p->index, p->code + s->first, s->count, MANY, IN_A_ROW, THE_SAME);
    UNROLLED for (int m = 0; m < MANY; m++)
        LANES(put_eight)(u + s->place + (uint32_t)m * PACK, sum[m]);
}

LANES_TARGET static void LANES(pack_long_sum)(const program_packs *p, const pack_step *s, double *u)
{
    enum { MANY = SUMMANDS / PACK };
    const uint32_t *code = p->code + s->first;
    for (uint32_t k = 0; k < s->count; k++) {
        LANES(eight) sum[MANY];
        for (int m = 0; m < MANY; m++)
            sum[m] = LANES(nothing)();
        const bool is_begun = code[1] == IN_A_ROW; /* the most of its terms are added up */
        double *const out = u + code[0], start = is_begun ? -0.0 : u[code[2]], part[PACK];
        if (is_begun)
            for (int m = 0; m < MANY; m++)
                sum[m] = LANES(eight_at)(u + code[2] + (uint32_t)m * PACK);
        code = LANES(all_terms)(sum, u, p->index, code + 4, code[3], MANY);
        for (int l = 0; l < PACK / LANES_VECTOR; l++)
            sum[0].part[l] = (sum[0].part[l] + sum[1].part[l]) + (sum[2].part[l] + sum[3].part[l]);
        LANES(put_eight)(part, sum[0]);
        *out = start + (((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7])));
    }
}

LANES_TARGET static void LANES(pack_rows)(const program_packs *p, const pack_step *s, double *u)
{
    const uint32_t *code = p->code + s->first;
    for (uint32_t k = 0; k < s->count; k++) {
        const LANES(eight) start = LANES(any_operand)(u, p->index, code[2], code[1]);
        LANES(eight) sum[PACK];
        double *const out = u + code[0];
        code += 3;
        for (int m = 0; m < PACK; m++) {
            sum[m] = LANES(nothing)();
            code = LANES(all_terms)(&sum[m], u, p->index, code + 1, code[0], 1);
        }
        LANES(eight) total = LANES(totals)(sum, PACK);
        for (int l = 0; l < PACK / LANES_VECTOR; l++)
            total.part[l] += start.part[l];
        LANES(put_eight)(out, total);
    }
}

/* The commonest operations, on vectors. */
LANES_TARGET PGR_INLINE void LANES(binary)(const program_packs *p, const pack_step *s, double *u, int op, int kind_x,
                                           int kind_y)
{
    const uint32_t *code = p->code + s->first, *const end = code + 3 * (size_t)s->count;
    for (; code < end; code += 3) {
        LANES(eight) x = LANES(operand_of)(u, p->index, code[1], kind_x);
        const LANES(eight) y = LANES(operand_of)(u, p->index, code[2], kind_y);
        UNROLLED for (int k = 0; k < PACK / LANES_VECTOR; k++)
            x.part[k] = op == PGR_OP_ADD   ? x.part[k] + y.part[k]
                        : op == PGR_OP_SUB ? x.part[k] - y.part[k]
                        : op == PGR_OP_MUL ? x.part[k] * y.part[k]
                                           : x.part[k] / y.part[k];
        LANES(put_eight)(u + code[0], x);
    }
}

#define BINARY(name, op) \
    LANES_TARGET static void LANES(name)(const program_packs *p, const pack_step *s, double *u) \
    { \
        switch (s->kinds) { \
            BINARY_CASE(op, IN_A_ROW, IN_A_ROW) BINARY_CASE(op, IN_A_ROW, THE_SAME) \
            BINARY_CASE(op, IN_A_ROW, GATHERED) BINARY_CASE(op, THE_SAME, IN_A_ROW) \
            BINARY_CASE(op, THE_SAME, THE_SAME) BINARY_CASE(op, THE_SAME, GATHERED) \
            BINARY_CASE(op, GATHERED, IN_A_ROW) BINARY_CASE(op, GATHERED, THE_SAME) \
            BINARY_CASE(op, GATHERED, GATHERED) \
        } \
    }
#define BINARY_CASE(op, x, y) \
    case KINDS_OF(x, y): \
        LANES(binary)(p, s, u, op, x, y); \
        break;
BINARY(pack_add, PGR_OP_ADD)
BINARY(pack_sub, PGR_OP_SUB)
BINARY(pack_mul, PGR_OP_MUL)
BINARY(pack_div, PGR_OP_DIV)
#undef BINARY
#undef BINARY_CASE
#undef KINDS_OF

/* Other operations, through copies of their operands. */
LANES_TARGET static void LANES(pack_operation)(const program_packs *p, const pack_step *s, double *u)
{
    enum { MOST = 8 };
    double x[MOST * PACK], y[MOST * PACK];
    const uint32_t kind_x = s->kinds / OPERAND_KINDS, kind_y = s->kinds % OPERAND_KINDS;
    const uint32_t *code = p->code + s->first;
    for (uint32_t left = s->count, now; left > 0; left -= now, code += 3 * (size_t)now) {
        now = left < MOST ? left : MOST;
        for (uint32_t k = 0; k < now; k++) {
            const LANES(eight) a = LANES(any_operand)(u, p->index, code[3 * k + 1], kind_x);
            const LANES(eight) b = LANES(any_operand)(u, p->index, code[3 * k + 2], kind_y);
            LANES(put_eight)(x + PACK * k, a);
            LANES(put_eight)(y + PACK * k, b);
        }
        LANES(apply)((int)s->op, x, y, x, now * PACK);
        for (uint32_t k = 0; k < now; k++)
            memcpy(u + code[3 * k], x + PACK * k, PACK * sizeof *x);
    }
}

LANES_TARGET static void LANES(run_step)(const program_packs *p, const pack_step *s, double *u)
{
    switch (s->op) {
    case PACK_SUMS: LANES(pack_sums)(p, s, u); break;
    case PACK_ROWS: LANES(pack_rows)(p, s, u); break;
    case PACK_LONG_SUM: LANES(pack_long_sum)(p, s, u); break;
    case PACK_ADD_UP: LANES(pack_add_up)(p, s, u); break;
    case PGR_OP_ADD: LANES(pack_add)(p, s, u); break;
    case PGR_OP_SUB: LANES(pack_sub)(p, s, u); break;
    case PGR_OP_MUL: LANES(pack_mul)(p, s, u); break;
    case PGR_OP_DIV: LANES(pack_div)(p, s, u); break;
    default: LANES(pack_operation)(p, s, u);
    }
}

LANES_TARGET static void LANES(run_strip)(const program_packs *p, const pack_step *s, double *u)
{
    for (uint32_t from = 0; from < s->count; from += STRIP_CHUNK)
        for (uint32_t k = 0; k < s->strip; k++) {
            pack_step part = s[k];
            part.count = s->count - from < STRIP_CHUNK ? s->count - from : STRIP_CHUNK;
            part.first += from * (part.op == PACK_ADD_UP ? 2u : 3u);
            part.goes_on = from > 0;
            LANES(run_step)(p, &part, u);
        }
}

/* Runs steps up to one of plain instructions, and returns that. */
LANES_TARGET static const pack_step *LANES(run_packs)(const program_packs *p, const pack_step *s, const pack_step *end,
                                                      double *u)
{
    while (s < end && s->op != PACK_PLAIN) {
        if (s->strip > 1) {
            LANES(run_strip)(p, s, u);
            s += s->strip;
        } else {
            LANES(run_step)(p, s++, u);
        }
    }
    return s;
}
