/* lanes.h: runs a block of lanes through a segment, for one instruction set.
 *
 * run.c includes this file once for each set, so it has no guard. LANES(name) makes names, LANES_TARGET selects the
 * set, LANES_VECTOR is the numbers to a vector, LANES_WIDE the vectors to sum in. */

#if defined(__GNUC__)
typedef double LANES(vector) __attribute__((vector_size(LANES_VECTOR * sizeof(double)), aligned(8), may_alias));
typedef int64_t LANES(bits) __attribute__((vector_size(LANES_VECTOR * sizeof(double)), aligned(8), may_alias));
#else
typedef double LANES(vector);
#endif

LANES_TARGET static double *LANES(lane)(const block *b, uint32_t reg)
{
    return b->lanes + (size_t)(reg & ~REGISTER_LANE) * b->stride;
}

/* An operand's block: a lane register's own, or a spare one filled with a uniform register's number. */
LANES_TARGET static const double *LANES(operand)(const block *b, uint32_t reg, int spare)
{
    if (reg & REGISTER_LANE)
        return LANES(lane)(b, reg);
    double *const x = b->spare + (size_t)spare * b->stride;
    const double number = reg == REGISTER_NONE ? 0.0 : b->uniform[reg];
    for (size_t l = 0; l < b->padded; l++)
        x[l] = number;
    return x;
}

LANES_TARGET static void LANES(load)(const block *b, const instruction *i, double *restrict out)
{
    const pgr_lane_input x = b->program->lane_inputs[b->program->group_first_input[b->segment->group] + i->a];
    const double *const from = b->in[x.array] + x.offset + b->first * x.stride;
    if (x.stride == 1)
        memcpy(out, from, b->count * sizeof *out);
    else
        for (size_t l = 0; l < b->count; l++)
            out[l] = from[l * x.stride];
    for (size_t l = b->count; l < b->padded; l++)
        out[l] = out[b->count - 1]; /* padding, with harmless numbers */
}

LANES_TARGET static void LANES(store)(const block *b, const instruction *i)
{
    const pgr_output x = b->program->outputs[i->b];
    const double *const from = LANES(lane)(b, i->a);
    double *const to = b->out[x.array] + x.offset + b->first * x.stride;
    if (x.stride == 1)
        memcpy(to, from, b->count * sizeof *to);
    else
        for (size_t l = 0; l < b->count; l++)
            to[l * x.stride] = from[l];
}

/* Sums a dot in the processor's registers, term by term, for `n` vectors of lanes from `l` on. n is a constant for the
 * compiler. */
LANES_TARGET PGR_INLINE void LANES(dot_part)(const block *b, const instruction *i, double *out, size_t l, int n)
{
    typedef LANES(vector) vector;
    const program_dot dot = b->program->dots[i->b];
    const uint32_t *const args = &b->program->args[dot.first], *const end = args + 2 * dot.count;
    const double *const lanes = b->lanes + l;
    const size_t stride = b->stride;
    vector sum[LANES_WIDE];
    if (i->a & REGISTER_LANE) {
        const vector *const x = (const vector *)(lanes + (size_t)(i->a & ~REGISTER_LANE) * stride);
        UNROLLED for (int k = 0; k < n; k++)
            sum[k] = x[k];
    } else {
        const double number = i->a == REGISTER_NONE ? -0.0 : b->uniform[i->a];
        UNROLLED for (int k = 0; k < n; k++)
            sum[k] = number - (vector){0.0}; /* + would lose the sign of -0 */
    }
    for (const uint32_t *arg = args; arg < end; arg += 2) {
        const uint32_t s = arg[0], t = arg[1];
        if ((s & REGISTER_LANE) == 0 && (t & REGISTER_LANE) != 0) {
            const vector *const x = (const vector *)(lanes + (size_t)(t & ~REGISTER_LANE) * stride);
            const double w = b->uniform[s];
            UNROLLED for (int k = 0; k < n; k++)
                sum[k] += w * x[k];
        } else if ((s & t & REGISTER_LANE) != 0) {
            const vector *const x = (const vector *)(lanes + (size_t)(s & ~REGISTER_LANE) * stride);
            const vector *const y = (const vector *)(lanes + (size_t)(t & ~REGISTER_LANE) * stride);
            UNROLLED for (int k = 0; k < n; k++)
                sum[k] += x[k] * y[k];
        } else if ((s & REGISTER_LANE) != 0) { /* one factor */
            const vector *const x = (const vector *)(lanes + (size_t)(s & ~REGISTER_LANE) * stride);
            UNROLLED for (int k = 0; k < n; k++)
                sum[k] += x[k];
        } else {
            const double w = b->uniform[s] * (t == REGISTER_NONE ? 1.0 : b->uniform[t]);
            UNROLLED for (int k = 0; k < n; k++)
                sum[k] += w;
        }
    }
    UNROLLED for (int k = 0; k < n; k++)
        ((vector *)(out + l))[k] = sum[k];
}

/* As many lanes at a time as the processor's registers hold. */
LANES_TARGET static void LANES(dot)(const block *b, const instruction *i, double *out)
{
    enum { STEP = LANE_CHUNK / LANES_VECTOR, MOST = LANES_WIDE / STEP };
    size_t l = 0;
    for (size_t left = b->padded / LANE_CHUNK; left > 0;) {
        const size_t now = left < MOST ? left : MOST;
        switch (now) {
#define CASE(n) \
        case n: \
            if (n <= MOST) \
                LANES(dot_part)(b, i, out, l, n <= MOST ? n * STEP : 1); \
            break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
            CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) CASE(15) CASE(16)
#undef CASE
        }
        l += now * LANE_CHUNK;
        left -= now;
    }
}

/* The sum of a vector's numbers, pair by pair. */
LANES_TARGET PGR_INLINE double LANES(total)(LANES(vector) sum)
{
    double part[LANES_VECTOR];
    memcpy(part, &sum, sizeof part);
    for (size_t half = LANES_VECTOR / 2; half > 0; half /= 2)
        for (size_t k = 0; k < half; k++)
            part[k] += part[k + half];
    return part[0];
}

LANES_TARGET PGR_INLINE LANES(vector) LANES(term)(const double *x, const double *y, size_t l)
{
    LANES(vector) v = *(const LANES(vector) *)(y + l);
    if (x != NULL)
        v *= *(const LANES(vector) *)(x + l);
    return v;
}

/* Adds to n sums over lanes of x[l] * y[k][l], or of y[k][l] if x is NULL, two vectors of each at a time. */
LANES_TARGET PGR_INLINE void LANES(sums_of)(const double *x, const double *const *y, size_t count, int n, double *out)
{
    typedef LANES(vector) vector;
    vector sum[4][2];
    UNROLLED for (int k = 0; k < n; k++)
        sum[k][0] = sum[k][1] = (vector){0.0};
    size_t l = 0;
    for (; l + 2 * LANES_VECTOR <= count; l += 2 * LANES_VECTOR)
        UNROLLED for (int k = 0; k < n; k++) {
            sum[k][0] += LANES(term)(x, y[k], l);
            sum[k][1] += LANES(term)(x, y[k], l + LANES_VECTOR);
        }
    for (; l + LANES_VECTOR <= count; l += LANES_VECTOR)
        UNROLLED for (int k = 0; k < n; k++)
            sum[k][0] += LANES(term)(x, y[k], l);
#if defined(__GNUC__)
    if (l < count) { /* the last vector, some of whose lanes are padding */
        LANES(bits) mask;
        for (size_t k = 0; k < LANES_VECTOR; k++)
            mask[k] = -(int64_t)(l + k < count);
        UNROLLED for (int k = 0; k < n; k++)
            sum[k][1] += (vector)((LANES(bits))LANES(term)(x, y[k], l) & mask);
    }
#endif
    UNROLLED for (int k = 0; k < n; k++)
        out[k] += LANES(total)(sum[k][0] + sum[k][1]);
}

/* Runs sums over lanes with a common factor together, from instruction `i` on. Returns the last of them. */
LANES_TARGET static const instruction *LANES(sums)(const block *b, const instruction *i, const instruction *end)
{
    enum { MOST = 4 };
    const double *y[MOST];
    double out[MOST];
    int n = 0;
    const bool products = i->op == PROGRAM_LANE_DOT;
    const double *const x = products ? LANES(operand)(b, i->a, 0) : NULL;
    for (; n < MOST && i + n < end && i[n].op == i->op && (!products || i[n].a == i->a); n++) {
        const uint32_t other = products ? i[n].b : i[n].a;
        if ((other & REGISTER_LANE) == 0 && n > 0)
            break; /* there is only one spare block */
        y[n] = LANES(operand)(b, other, 1);
        out[n] = b->sums[i[n].out - b->segment->first_sum];
    }
    switch (n) {
    case 1: products ? LANES(sums_of)(x, y, b->count, 1, out) : LANES(sums_of)(NULL, y, b->count, 1, out); break;
    case 2: products ? LANES(sums_of)(x, y, b->count, 2, out) : LANES(sums_of)(NULL, y, b->count, 2, out); break;
    case 3: products ? LANES(sums_of)(x, y, b->count, 3, out) : LANES(sums_of)(NULL, y, b->count, 3, out); break;
    case 4: products ? LANES(sums_of)(x, y, b->count, 4, out) : LANES(sums_of)(NULL, y, b->count, 4, out); break;
    }
    for (int k = 0; k < n; k++)
        b->sums[i[k].out - b->segment->first_sum] = out[k];
    return i + n - 1;
}

/* out[l] = op(x[l], y[l]). */
LANES_TARGET static void LANES(apply)(int op, const double *x, const double *y, double *out, size_t n)
{
    switch (op) {
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
    case PGR_OP_##ID: \
        LANES_IN_PLACE \
        for (size_t l = 0; l < n; l++) { \
            const double a = x[l], b = y[l]; \
            (void)b; \
            out[l] = (value); \
        } \
        break;
        PGR_OPS(X)
#undef X
    }
}

/* An operation of the table. */
LANES_TARGET static void LANES(operation)(const block *b, const instruction *i, double *out)
{
    const size_t n = b->padded;
    /* The commonest ones with a uniform operand, which others copy to a spare block. */
#define WITH_NUMBER(ID, expression) \
    case PGR_OP_##ID: \
        if ((i->a & i->b & REGISTER_LANE) != 0) \
            break; \
        if ((i->a & REGISTER_LANE) != 0) { \
            const double *const x = LANES(lane)(b, i->a), c = b->uniform[i->b]; \
            LANES_IN_PLACE \
            for (size_t l = 0; l < n; l++) { \
                const double a = x[l]; \
                out[l] = expression; \
            } \
        } else { \
            const double *const y = LANES(lane)(b, i->b), a = b->uniform[i->a]; \
            LANES_IN_PLACE \
            for (size_t l = 0; l < n; l++) { \
                const double c = y[l]; \
                out[l] = expression; \
            } \
        } \
        return;
    switch (i->op) {
        WITH_NUMBER(ADD, a + c)
        WITH_NUMBER(SUB, a - c)
        WITH_NUMBER(MUL, a * c)
        WITH_NUMBER(DIV, a / c)
        WITH_NUMBER(LESS, (a < c ? 1.0 : 0.0))
    }
#undef WITH_NUMBER
    const double *const x = LANES(operand)(b, i->a, 0);
    const double *const y = i->b == REGISTER_NONE ? x : LANES(operand)(b, i->b, 1);
    LANES(apply)((int)i->op, x, y, out, n);
}

LANES_TARGET static void LANES(run_block)(const block *b)
{
    const instruction *const end = b->program->instructions + b->segment->first + b->segment->count;
    for (const instruction *i = b->program->instructions + b->segment->first; i < end; i++) {
        switch (i->op) {
        case PROGRAM_LOAD: LANES(load)(b, i, LANES(lane)(b, i->out)); break;
        case PROGRAM_STORE: LANES(store)(b, i); break;
        case PROGRAM_CALL: b->evaluation->kernels.lane_call(b, i); break;
        case PROGRAM_DOT: LANES(dot)(b, i, LANES(lane)(b, i->out)); break;
        case PROGRAM_LANE_SUM:
        case PROGRAM_LANE_DOT: i = LANES(sums)(b, i, end); break;
        default: LANES(operation)(b, i, LANES(lane)(b, i->out));
        }
    }
}

#include "program/pack_lanes.h"
