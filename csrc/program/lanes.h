/* lanes.h: runs a block of lanes through a segment, for one instruction set.
 *
 * run.c includes this file once for each set, so it has no guard. LANES(name) makes names, LANES_TARGET selects the
 * set, LANES_VECTOR is the numbers to a vector, LANES_WIDE the vectors to sum in. Some sets have LANES_MAX,
 * LANES_STRIDED and LANES_GATHER, which load numbers from anywhere, and LANES_MASKED operations. */

#if defined(__GNUC__)
typedef double LANES(vector) __attribute__((vector_size(LANES_VECTOR * sizeof(double)), aligned(8), may_alias));
typedef int64_t LANES(bits) __attribute__((vector_size(LANES_VECTOR * sizeof(double)), aligned(8), may_alias));
#else
typedef double LANES(vector);
#endif

#include "program/eights.h"

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

#if defined(PACK_SHUFFLE) && LANES_VECTOR > 1
LANES_TARGET PGR_INLINE LANES(vector) LANES(every_other)(LANES(vector) x, LANES(vector) y)
{
#if LANES_VECTOR == 8
    return PACK_SHUFFLE(x, y, 0, 2, 4, 6, 8, 10, 12, 14);
#elif LANES_VECTOR == 4
    return PACK_SHUFFLE(x, y, 0, 2, 4, 6);
#else
    return PACK_SHUFFLE(x, y, 0, 2);
#endif
}
#endif

LANES_TARGET static void LANES(load)(const block *b, const instruction *i, double *restrict out)
{
    const pgr_lane_input x = *lane_input_of(b, i);
    const any_double *const from = b->in[x.array] + x.offset + b->first * x.stride;
    size_t l = 0;
    if (x.stride == 1) {
        memcpy(out, from, b->count * sizeof *out);
        l = b->count;
    }
#if defined(PACK_SHUFFLE) && LANES_VECTOR > 1
    if (x.stride == 2) /* points of two numbers, whose others are left out */
        for (; l + LANES_VECTOR < b->count; l += LANES_VECTOR) {
            typedef double points __attribute__((vector_size(LANES_VECTOR * sizeof(double)), aligned(1), may_alias));
            const points *const at = (const points *)(from + 2 * l);
            *(LANES(vector) *)(out + l) = LANES(every_other)(at[0], at[1]);
        }
#endif
#ifdef LANES_STRIDED
    const LANES(bits) places = (LANES(bits)){0, 1, 2, 3, 4, 5, 6, 7} * (int64_t)x.stride;
    for (; l + LANES_VECTOR <= b->count; l += LANES_VECTOR)
        *(LANES(vector) *)(out + l) = LANES_STRIDED(from + l * x.stride, places);
#endif
    for (; l < b->count; l++)
        out[l] = from[l * x.stride];
    for (; l < b->padded; l++)
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

LANES_TARGET PGR_INLINE LANES(vector) LANES(relu)(LANES(vector) a)
{
#if defined(LANES_MAX)
    return LANES_MAX((LANES(vector)){0.0}, a); /* the second if one is nan, or both are zeros: as a < 0 ? 0 : a */
#elif defined(__GNUC__)
    return (LANES(vector))((LANES(bits))a & ~(LANES(bits))(a < 0.0));
#else
    return a < 0.0 ? 0.0 : a;
#endif
}

LANES_TARGET PGR_INLINE LANES(vector) LANES(less)(LANES(vector) a, LANES(vector) b)
{
#if defined(__GNUC__)
    const LANES(vector) one = 1.0 - (LANES(vector)){0.0};
    return (LANES(vector))((LANES(bits))(a < b) & (LANES(bits))one);
#else
    return a < b ? 1.0 : 0.0;
#endif
}

/* a times 1 where b > 0, 0 elsewhere. */
LANES_TARGET PGR_INLINE LANES(vector) LANES(gate)(LANES(vector) a, LANES(vector) b)
{
    return a * LANES(less)((LANES(vector)){0.0}, b);
}

/* A lane register's vectors. The address is in one register: with an index as well, Intel's processors split each
 * instruction that reads memory and multiplies. */
LANES_TARGET PGR_INLINE const LANES(vector) *LANES(vectors)(const double *lanes, uint32_t reg, size_t stride)
{
    const LANES(vector) *x = (const LANES(vector) *)(lanes + (size_t)(reg & ~REGISTER_LANE) * stride);
#if defined(__GNUC__)
    __asm__("" : "+r"(x));
#endif
    return x;
}

/* Whether an operation ends a dot, in its place: its positive part, or what a gate lets through. */
LANES_TARGET static bool LANES(ends)(const instruction *dot, const instruction *i)
{
    const bool is_gate = i->op == PGR_OP_GATE && (i->b & REGISTER_LANE) != 0 && i->b != dot->out;
    return i->a == dot->out && i->out == dot->out && (i->op == PGR_OP_RELU || is_gate);
}

/* Sums a dot in the processor's registers, term by term, for `n` vectors of lanes from `l` on. `then` ends it, or is
 * NULL. n is a constant for the compiler. */
LANES_TARGET PGR_INLINE void LANES(dot_part)(const block *b, const instruction *i, const instruction *then, double *out,
                                              size_t l, int n)
{
    typedef LANES(vector) vector;
    const program_dot dot = b->program->dots[i->b];
    const uint32_t *const args = &b->program->args[dot.first], *const end = args + 2 * dot.count;
    const double *const lanes = b->lanes + l;
    const double *const uniform = b->uniform;
    const size_t stride = b->stride;
    vector sum[LANES_WIDE];
    if (i->a & REGISTER_LANE) {
        const vector *const x = LANES(vectors)(lanes, i->a, stride);
        UNROLLED for (int k = 0; k < n; k++)
            sum[k] = x[k];
    } else {
        const double number = i->a == REGISTER_NONE ? -0.0 : uniform[i->a];
        UNROLLED for (int k = 0; k < n; k++)
            sum[k] = number - (vector){0.0}; /* + would lose the sign of -0 */
    }
    for (const uint32_t *arg = args; arg < end; arg += 2) {
        const uint32_t s = arg[0], t = arg[1];
        if ((s & REGISTER_LANE) == 0 && (t & REGISTER_LANE) != 0) {
            const vector *const x = LANES(vectors)(lanes, t, stride);
            const double w = uniform[s];
            UNROLLED for (int k = 0; k < n; k++)
                sum[k] += w * x[k];
        } else if ((s & t & REGISTER_LANE) != 0) {
            const vector *const x = LANES(vectors)(lanes, s, stride);
            const vector *const y = LANES(vectors)(lanes, t, stride);
            UNROLLED for (int k = 0; k < n; k++)
                sum[k] += x[k] * y[k];
        } else if ((s & REGISTER_LANE) != 0) { /* one factor */
            const vector *const x = LANES(vectors)(lanes, s, stride);
            UNROLLED for (int k = 0; k < n; k++)
                sum[k] += x[k];
        } else {
            const double w = uniform[s] * (t == REGISTER_NONE ? 1.0 : uniform[t]);
            UNROLLED for (int k = 0; k < n; k++)
                sum[k] += w;
        }
    }
    if (then != NULL && then->op == PGR_OP_RELU) {
        UNROLLED for (int k = 0; k < n; k++)
            sum[k] = LANES(relu)(sum[k]);
    } else if (then != NULL) {
        const vector *const x = LANES(vectors)(lanes, then->b, stride);
        UNROLLED for (int k = 0; k < n; k++)
            sum[k] = LANES(gate)(sum[k], x[k]);
    }
    UNROLLED for (int k = 0; k < n; k++)
        ((vector *)(out + l))[k] = sum[k];
}

/* As many lanes at a time as the processor's registers hold. */
LANES_TARGET static void LANES(dot)(const block *b, const instruction *i, const instruction *then, double *out)
{
    enum { STEP = LANE_CHUNK / LANES_VECTOR, MOST = LANES_WIDE / STEP };
    size_t l = 0;
    for (size_t left = b->padded / LANE_CHUNK; left > 0;) {
        const size_t parts = (left + MOST - 1) / MOST, now = (left + parts - 1) / parts; /* alike in length */
        switch (now) {
#define CASE(n) \
        case n: \
            if (n <= MOST) \
                LANES(dot_part)(b, i, then, out, l, n <= MOST ? n * STEP : 1); \
            break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
            CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) CASE(15) CASE(16)
#undef CASE
        }
        l += now * LANE_CHUNK;
        left -= now;
    }
}

LANES_TARGET PGR_INLINE LANES(eight) LANES(terms)(bool products, const double *x, const double *y, size_t l)
{
    LANES(eight) v = LANES(eight_at)(y + l);
    if (products) {
        const LANES(eight) w = LANES(eight_at)(x + l);
        UNROLLED for (int p = 0; p < PACK / LANES_VECTOR; p++)
            v.part[p] *= w.part[p];
    }
    return v;
}

/* Adds terms to a sum; only the first `rest` count, the others are padding. */
LANES_TARGET PGR_INLINE void LANES(add_last)(LANES(eight) *sum, bool products, const double *x, const double *y,
                                             size_t l, size_t rest)
{
#ifdef LANES_MASKED
    const __mmask8 mask = (__mmask8)((1u << rest) - 1);
    const LANES(vector) v = *(const LANES(vector) *)(y + l), before = sum->part[0];
    sum->part[0] = products ? _mm512_mask3_fmadd_pd(*(const LANES(vector) *)(x + l), v, before, mask)
                            : _mm512_mask_add_pd(before, mask, before, v);
#else
    LANES(eight) v = LANES(terms)(products, x, y, l);
    for (size_t p = 0; p < PACK / LANES_VECTOR; p++) {
#if defined(__GNUC__)
        static const int64_t counts[2 * PACK] = {-1, -1, -1, -1, -1, -1, -1, -1};
        const LANES(bits) mask = *(const LANES(bits) *)(counts + PACK - rest + p * LANES_VECTOR);
        v.part[p] = (LANES(vector))((LANES(bits))v.part[p] & mask);
#else
        v.part[p] = p < rest ? v.part[p] : 0.0;
#endif
        sum->part[p] += v.part[p];
    }
#endif
}

/* Adds totals to the sums of n instructions. Those of built programs lie in a row. */
LANES_TARGET PGR_INLINE void LANES(add_sums)(const block *b, const instruction *i, int n, LANES(eight) totals)
{
    double *const sums = b->sums - b->segment->first_sum;
    bool in_a_row = n == LANES_VECTOR;
    UNROLLED for (int k = 1; k < n; k++)
        in_a_row &= i[k].out == i->out + (uint32_t)k;
    if (in_a_row) {
        *(LANES(vector) *)(sums + i->out) += totals.part[0];
        return;
    }
    double each[PACK];
    LANES(put_eight)(each, totals);
    for (int k = 0; k < n; k++)
        sums[i[k].out] += each[k];
}

/* Adds to the sums of n instructions, of x[l] * y[l], or of y[l] alone. Each is summed in `ways` parts: n * ways packs.
 * All but b and i are constants for the compiler. */
LANES_TARGET PGR_INLINE void LANES(sums_of)(const block *b, const instruction *i, bool products, int n, int ways)
{
    const size_t count = b->count;
    const double *const x = products ? LANES(operand)(b, i->a, 0) : NULL;
    const double *y[PACK];
    UNROLLED for (int k = 0; k < n; k++) {
        const uint32_t reg = products ? i[k].b : i[k].a;
        y[k] = n == 1 ? LANES(operand)(b, reg, 1) : LANES(lane)(b, reg);
    }
    LANES(eight) sum[PACK][4] = {{{{{0.0}}}}};
#define ADD(k, w, terms) \
    do { \
        const LANES(eight) v_ = (terms); \
        UNROLLED for (int p = 0; p < PACK / LANES_VECTOR; p++) \
            sum[k][w].part[p] += v_.part[p]; \
    } while (0)
    size_t l = 0;
    for (; l + (size_t)ways * PACK <= count; l += (size_t)ways * PACK)
        UNROLLED for (int k = 0; k < n; k++)
            UNROLLED for (int w = 0; w < ways; w++)
                ADD(k, w, LANES(terms)(products, x, y[k], l + (size_t)w * PACK));
    for (; ways > 1 && l + PACK <= count; l += PACK)
        UNROLLED for (int k = 0; k < n; k++)
            ADD(k, 0, LANES(terms)(products, x, y[k], l));
    if (l < count)
        UNROLLED for (int k = 0; k < n; k++)
            LANES(add_last)(&sum[k][ways - 1], products, x, y[k], l, count - l);
#undef ADD
    LANES(eight) each[PACK];
    UNROLLED for (int k = 0; k < n; k++)
        UNROLLED for (int p = 0; p < PACK / LANES_VECTOR; p++) {
            LANES(vector) all = sum[k][0].part[p];
            UNROLLED for (int w = 1; w < ways; w++)
                all += sum[k][w].part[p];
            each[k].part[p] = all;
        }
    LANES(add_sums)(b, i, n, LANES(totals)(each, n));
}

/* Runs sums over lanes with a common factor together, from instruction `i` on. Returns the last of them. */
LANES_TARGET static const instruction *LANES(sums)(const block *b, const instruction *i, const instruction *end)
{
    /* Eight vectors of sums, if there are as many: fewer wait for each other, more don't fit in sixteen registers. */
    enum { MOST = LANES_VECTOR, PARTS = PACK / LANES_VECTOR };
    const bool products = i->op == PROGRAM_LANE_DOT;
    int n = 1;
    if (((products ? i->b : i->a) & REGISTER_LANE) != 0)
        while (n < MOST && i + n < end && i[n].op == i->op && (!products || i[n].a == i->a) &&
               ((products ? i[n].b : i[n].a) & REGISTER_LANE) != 0)
            n++;
    switch (n) {
#define WAYS(n) (4 * (n) * PARTS <= PACK ? 4 : 2 * (n) * PARTS <= PACK ? 2 : 1)
#define CASE(n) \
    case n: \
        if (n <= MOST) \
            products ? LANES(sums_of)(b, i, true, n, WAYS(n)) : LANES(sums_of)(b, i, false, n, WAYS(n)); \
        break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
#undef WAYS
    }
    return i + n - 1;
}

/* out[l] = op(x[l], y[l]) for a multiple of LANE_CHUNK numbers. */
LANES_TARGET static void LANES(apply)(int op, const double *x, const double *y, double *out, size_t numbers)
{
    const size_t n = whole_chunks(numbers);
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

#include "program/lane_rows.h"

/* Runs an instruction, with those after it that run as one. Returns the last. */
LANES_TARGET PGR_INLINE const instruction *LANES(step)(const block *b, const instruction *i, const instruction *end)
{
    switch (i->op) {
    case PROGRAM_LOAD: LANES(load)(b, i, LANES(lane)(b, i->out)); return i;
    case PROGRAM_STORE: LANES(store)(b, i); return i;
    case PROGRAM_CALL: b->evaluation->kernels.lane_call(b, i); return i;
    case PROGRAM_DOT: {
        const bool both = i + 1 < end && LANES(ends)(i, i + 1);
        LANES(dot)(b, i, both ? i + 1 : NULL, LANES(lane)(b, i->out));
        return i + both;
    }
    case PROGRAM_LANE_SUM:
    case PROGRAM_LANE_DOT: return LANES(sums)(b, i, end);
    default: return LANES(operation)(b, i, end);
    }
}

LANES_TARGET static void LANES(run_block)(const block *b)
{
    const instruction *const end = b->program->instructions + b->segment->first + b->segment->count;
    const instruction *i = b->program->instructions + b->segment->first;
    for (fetcher f = fetch_for_next_block(b); is_fetching(&f) && i < end; i++) {
        fetch_some(&f, b);
        i = LANES(step)(b, i, end);
    }
    for (; i < end; i++)
        i = LANES(step)(b, i, end);
}

#include "program/pack_lanes.h"
