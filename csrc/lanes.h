/* lanes.h: a block of lanes through a segment, for one instruction set: run.c includes it for each, with
 * LANES(name) and LANES_TARGET. No guard: it is meant to be included more than once. */

/* The numbers of an operand: its block, or one number all over a spare block. */
LANES_TARGET static const double *LANES(operand)(const block *b, uint32_t slot, int spare)
{
    if (slot & SLOT_LANE)
        return b->lanes + (size_t)(slot & ~SLOT_LANE) * LANE_BLOCK;
    double *const x = b->spare + (size_t)spare * LANE_BLOCK;
    const double number = slot == SLOT_NONE ? 0.0 : b->uniform[slot];
    for (size_t l = 0; l < b->padded; l++)
        x[l] = number;
    return x;
}

LANES_TARGET static void LANES(load)(const block *b, const instruction *i, double *restrict out)
{
    const pgr_lane_input x = b->program->lane_inputs[b->program->group_first_input[b->segment->group] + i->a];
    const double *const from = b->in[x.array] + x.offset + b->first * x.stride;
    for (size_t l = 0; l < b->count; l++)
        out[l] = from[l * x.stride];
    for (size_t l = b->count; l < b->padded; l++)
        out[l] = out[b->count - 1]; /* lanes that nobody asked for, with numbers that do no harm */
}

LANES_TARGET static void LANES(store)(const block *b, const instruction *i)
{
    const pgr_output x = b->program->outputs[i->b];
    const double *const from = b->lanes + (size_t)(i->a & ~SLOT_LANE) * LANE_BLOCK;
    double *const to = b->out[x.array] + x.offset + b->first * x.stride;
    for (size_t l = 0; l < b->count; l++)
        to[l * x.stride] = from[l];
}

/* `width` lanes from `l` on are summed up in registers, term after term. Its number is a constant for the compiler. */
LANES_TARGET PGR_INLINE void LANES(dot_part)(const block *b, const instruction *i, double *out, size_t l, int width)
{
    const program_dot dot = b->program->dots[i->b];
    const uint32_t *const args = &b->program->args[dot.first];
    const double *const lanes = b->lanes + l;
    double sum[64];
    if (i->a & SLOT_LANE) {
        const double *const x = lanes + (size_t)(i->a & ~SLOT_LANE) * LANE_BLOCK;
        for (int k = 0; k < width; k++)
            sum[k] = x[k];
    } else {
        const double number = i->a == SLOT_NONE ? -0.0 : b->uniform[i->a];
        for (int k = 0; k < width; k++)
            sum[k] = number;
    }
    for (const uint32_t *arg = args; arg < args + 2 * dot.count; arg += 2) {
        const uint32_t s = arg[0], t = arg[1];
        if ((s & t & SLOT_LANE) != 0) {
            const double *const x = lanes + (size_t)(s & ~SLOT_LANE) * LANE_BLOCK;
            const double *const y = lanes + (size_t)(t & ~SLOT_LANE) * LANE_BLOCK;
            for (int k = 0; k < width; k++)
                sum[k] += x[k] * y[k];
        } else if (((s | t) & SLOT_LANE) != 0) {
            const uint32_t lane = s & SLOT_LANE ? s : t, other = s & SLOT_LANE ? t : s;
            const double *const x = lanes + (size_t)(lane & ~SLOT_LANE) * LANE_BLOCK;
            const double w = other == SLOT_NONE ? 1.0 : b->uniform[other];
            for (int k = 0; k < width; k++)
                sum[k] += w * x[k];
        } else {
            const double w = b->uniform[s] * (t == SLOT_NONE ? 1.0 : b->uniform[t]);
            for (int k = 0; k < width; k++)
                sum[k] += w;
        }
    }
    for (int k = 0; k < width; k++)
        out[l + (size_t)k] = sum[k];
}

LANES_TARGET static void LANES(dot)(const block *b, const instruction *i, double *out)
{
    size_t l = 0;
    for (; l + 64 <= b->padded; l += 64)
        LANES(dot_part)(b, i, out, l, 64);
    for (; l + 32 <= b->padded; l += 32)
        LANES(dot_part)(b, i, out, l, 32);
    for (; l < b->padded; l += LANE_CHUNK)
        LANES(dot_part)(b, i, out, l, LANE_CHUNK);
}

/* x[l] * y[l], or x[l] alone, summed over lanes: in thirty-two parts, for the latency of additions, that are added up in
 * a fixed order whatever the instruction set. */
LANES_TARGET PGR_INLINE double LANES(sum_of)(const double *restrict x, const double *restrict y, size_t count, bool products)
{
    double wide[32] = {0.0}, part[8];
    size_t l = 0;
    for (; l + 32 <= count; l += 32)
        for (size_t k = 0; k < 32; k++)
            wide[k] += products ? x[l + k] * y[l + k] : x[l + k];
    for (size_t k = 0; k < 8; k++)
        part[k] = (wide[k] + wide[k + 16]) + (wide[k + 8] + wide[k + 24]);
    for (; l + 8 <= count; l += 8)
        for (size_t k = 0; k < 8; k++)
            part[k] += products ? x[l + k] * y[l + k] : x[l + k];
    double rest = 0.0;
    for (; l < count; l++)
        rest += products ? x[l] * y[l] : x[l];
    return (((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]))) + rest;
}

/* The table's operations, and the commonest with an operand that is the same in all lanes. */
LANES_TARGET static void LANES(operation)(const block *b, const instruction *i, double *out)
{
    const size_t n = b->padded;
    /* The commonest with a number that is the same in all lanes, which else would be spread over a block. */
#define WITH_NUMBER(ID, expression) \
    case PGR_OP_##ID: \
        if ((i->a & i->b & SLOT_LANE) != 0) \
            break; \
        if ((i->a & SLOT_LANE) != 0) { \
            const double *const x = LANES(operand)(b, i->a, 0), c = b->uniform[i->b]; \
            LANES_IN_PLACE \
            for (size_t l = 0; l < n; l++) { \
                const double a = x[l]; \
                out[l] = expression; \
            } \
        } else { \
            const double *const y = LANES(operand)(b, i->b, 0), a = b->uniform[i->a]; \
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
    const double *const x = LANES(operand)(b, i->a, 0), *const y = i->b == SLOT_NONE ? x : LANES(operand)(b, i->b, 1);
    switch (i->op) {
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

LANES_TARGET static void LANES(run_block)(const block *b)
{
    const instruction *const end = b->program->instructions + b->segment->first + b->segment->count;
    for (const instruction *i = b->program->instructions + b->segment->first; i < end; i++) {
        double *const out = b->lanes + (size_t)(i->out & ~SLOT_LANE) * LANE_BLOCK;
        switch (i->op) {
        case PROGRAM_LOAD: LANES(load)(b, i, out); break;
        case PROGRAM_STORE: LANES(store)(b, i); break;
        case PROGRAM_DOT: LANES(dot)(b, i, out); break;
        case PROGRAM_LANE_SUM: b->uniform[i->out] += LANES(sum_of)(LANES(operand)(b, i->a, 0), NULL, b->count, false); break;
        case PROGRAM_LANE_DOT:
            b->uniform[i->out] += LANES(sum_of)(LANES(operand)(b, i->a, 0), LANES(operand)(b, i->b, 1), b->count, true);
            break;
        case PROGRAM_COUNT: break; /* worked out once */
        default: LANES(operation)(b, i, out);
        }
    }
}
