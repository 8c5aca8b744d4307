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

/* Chunks of lanes are summed up in registers, term after term. */
LANES_TARGET static void LANES(dot)(const block *b, const instruction *i, double *out)
{
    const pgr_program *const p = b->program;
    const program_dot dot = p->dots[i->b];
    const uint32_t *const args = &p->args[dot.first];
    for (size_t l = 0; l < b->padded; l += LANE_CHUNK) {
        double sum[LANE_CHUNK];
        if (i->a == SLOT_NONE || !(i->a & SLOT_LANE)) {
            const double number = i->a == SLOT_NONE ? -0.0 : b->uniform[i->a];
            for (int k = 0; k < LANE_CHUNK; k++)
                sum[k] = number;
        } else {
            const double *const x = b->lanes + (size_t)(i->a & ~SLOT_LANE) * LANE_BLOCK + l;
            for (int k = 0; k < LANE_CHUNK; k++)
                sum[k] = x[k];
        }
        for (const uint32_t *arg = args; arg < args + 2 * dot.count; arg += 2) {
            const uint32_t s = arg[0], t = arg[1];
            if ((s & SLOT_LANE) && (t & SLOT_LANE)) {
                const double *const x = b->lanes + (size_t)(s & ~SLOT_LANE) * LANE_BLOCK + l;
                const double *const y = b->lanes + (size_t)(t & ~SLOT_LANE) * LANE_BLOCK + l;
                for (int k = 0; k < LANE_CHUNK; k++)
                    sum[k] += x[k] * y[k];
            } else if ((s & SLOT_LANE) || (t & SLOT_LANE)) {
                const uint32_t lane = s & SLOT_LANE ? s : t, other = s & SLOT_LANE ? t : s;
                const double *const x = b->lanes + (size_t)(lane & ~SLOT_LANE) * LANE_BLOCK + l;
                const double w = other == SLOT_NONE ? 1.0 : b->uniform[other];
                for (int k = 0; k < LANE_CHUNK; k++)
                    sum[k] += w * x[k];
            } else {
                const double w = b->uniform[s] * (t == SLOT_NONE ? 1.0 : b->uniform[t]);
                for (int k = 0; k < LANE_CHUNK; k++)
                    sum[k] += w;
            }
        }
        for (int k = 0; k < LANE_CHUNK; k++)
            out[l + (size_t)k] = sum[k];
    }
}

/* Eight partial sums, added up in a fixed order: the result does not depend on the instruction set's width. */
LANES_TARGET static double LANES(total)(const double *restrict x, const double *restrict y, size_t count)
{
    double part[8] = {0.0};
    size_t l = 0;
    if (y != NULL) {
        for (; l + 8 <= count; l += 8)
            for (int k = 0; k < 8; k++)
                part[k] += x[l + (size_t)k] * y[l + (size_t)k];
        for (; l < count; l++)
            part[l % 8] += x[l] * y[l];
    } else {
        for (; l + 8 <= count; l += 8)
            for (int k = 0; k < 8; k++)
                part[k] += x[l + (size_t)k];
        for (; l < count; l++)
            part[l % 8] += x[l];
    }
    return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

/* The table's operations, and the commonest with an operand that is the same in all lanes. */
LANES_TARGET static void LANES(operation)(const block *b, const instruction *i, double *out)
{
    const size_t n = b->padded;
    if (i->op == PGR_OP_MUL && (!(i->a & SLOT_LANE) || !(i->b & SLOT_LANE))) {
        const double w = b->uniform[i->a & SLOT_LANE ? i->b : i->a];
        const double *const x = LANES(operand)(b, i->a & SLOT_LANE ? i->a : i->b, 0);
        LANES_IN_PLACE
        for (size_t l = 0; l < n; l++)
            out[l] = w * x[l];
        return;
    }
    const double *const x = LANES(operand)(b, i->a, 0), *const y = LANES(operand)(b, i->b == UINT32_MAX ? SLOT_NONE : i->b, 1);
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
        case PROGRAM_LANE_SUM: b->uniform[i->out] += LANES(total)(LANES(operand)(b, i->a, 0), NULL, b->count); break;
        case PROGRAM_LANE_DOT:
            b->uniform[i->out] += LANES(total)(LANES(operand)(b, i->a, 0), LANES(operand)(b, i->b, 1), b->count);
            break;
        case PROGRAM_COUNT: break; /* worked out once */
        default: LANES(operation)(b, i, out);
        }
    }
}
