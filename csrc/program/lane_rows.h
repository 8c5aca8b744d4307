/* lane_rows.h: the table's operations over a block of lanes, two at once where they can be, for one instruction set:
 * lanes.h includes it, so it has no guard, either. */

/* An operand, vector by vector: a lane register's block, or one vector with a uniform register's number. */
typedef struct {
    const double *at;
    size_t step;
} LANES(row);

LANES_TARGET PGR_INLINE LANES(row) LANES(row_of)(const block *b, uint32_t reg, double *vector)
{
    if (reg & REGISTER_LANE)
        return (LANES(row)){LANES(lane)(b, reg), LANES_VECTOR};
    const double number = reg == REGISTER_NONE ? 0.0 : b->uniform[reg];
    *(LANES(vector) *)vector = number - (LANES(vector)){0.0}; /* + would lose the sign of -0 */
    return (LANES(row)){vector, 0};
}

/* The commonest operations, whose operands may be numbers: F(ID, value). */
#define NO_PRODUCTS(F) F(ADD, a + b) F(SUB, a - b) F(DIV, a / b) F(LESS, LANES(less)(a, b)) F(NEG, -a)
#define COMMON_OPERATIONS(F) NO_PRODUCTS(F) F(MUL, a * b) F(GATE, LANES(gate)(a, b))

/* With result v, and another that takes v and c: F(ID, what follows, both). A product and a sum would be rounded once:
 * not what each does alone. */
#define TIMES(ID, v) THEN(ID, V_MUL, (v) * c) THEN(ID, V_DIV, (v) / c) THEN(ID, DIV_V, c / (v)) THEN(ID, V_NEG, -(v))
#define PLUS(ID, v) THEN(ID, V_ADD, (v) + c) THEN(ID, V_SUB, (v) - c) THEN(ID, SUB_V, c - (v))
#define PAIRS COMMON_OPERATIONS(TIMES) NO_PRODUCTS(PLUS) THEN(MUL, V_GATE, LANES(gate)(a * b, c))

/* A function for each loop: in one function, registers would not do for all, and loops would read addresses from the
 * stack. */
#define ROWS_LOOP(name, result) \
    LANES_TARGET PGR_NOINLINE static void LANES(name)(double *out, size_t n, LANES(row) x, LANES(row) y, LANES(row) z) \
    { \
        for (const double *const end = out + n; out < end; out += LANE_CHUNK) { \
            UNROLLED for (int k = 0; k < LANE_CHUNK / LANES_VECTOR; k++) { \
                const LANES(vector) a = *(const LANES(vector) *)x.at, b = *(const LANES(vector) *)y.at, \
                                    c = *(const LANES(vector) *)z.at; \
                (void)b; \
                (void)c; \
                ((LANES(vector) *)out)[k] = (result); \
                x.at += x.step; \
                y.at += y.step; \
                z.at += z.step; \
            } \
        } \
    }
#define ALONE(ID, value)          ROWS_LOOP(rows_##ID, value)
#define THEN(ID, second, result) ROWS_LOOP(rows_##ID##_##second, result)
COMMON_OPERATIONS(ALONE)
PAIRS
#undef ALONE
#undef THEN

/* One of them, and another that takes its result, and puts its own in the same place. False if the two are not such a
 * pair. */
LANES_TARGET static bool LANES(pair)(const block *b, const instruction *i, double *out)
{
    const uint32_t second = i[1].op, reg = i->out;
    double spare[3][LANES_VECTOR];
    const bool is_left = i[1].a == reg;
    const uint32_t other = is_left ? i[1].b : i[1].a;
    if (i[1].out != reg || (!is_left && i[1].b != reg) || other == reg)
        return false;
    enum { V_ADD, V_MUL, V_SUB, SUB_V, V_DIV, DIV_V, V_NEG, V_GATE, GATE_V, SECONDS };
    int which;
    switch (second) {
    case PGR_OP_ADD: which = V_ADD; break;
    case PGR_OP_MUL: which = V_MUL; break;
    case PGR_OP_SUB: which = is_left ? V_SUB : SUB_V; break;
    case PGR_OP_DIV: which = is_left ? V_DIV : DIV_V; break;
    case PGR_OP_NEG: which = V_NEG; break;
    case PGR_OP_GATE: which = is_left ? V_GATE : GATE_V; break;
    default: return false;
    }
    const LANES(row) x = LANES(row_of)(b, i->a, spare[0]), y = LANES(row_of)(b, i->b, spare[1]);
    const LANES(row) z = LANES(row_of)(b, other, spare[2]);
    const size_t n = whole_chunks(b->padded);
    switch (i->op * SECONDS + (uint32_t)which) {
#define THEN(ID, second, result) \
    case PGR_OP_##ID * SECONDS + second: \
        LANES(rows_##ID##_##second)(out, n, x, y, z); \
        return true;
        PAIRS
#undef THEN
    }
    return false;
}

/* A function that takes long, and a division that needs nothing of it: the divider works meanwhile. False if the
 * division does need it. */
LANES_TARGET PGR_NOINLINE static bool LANES(beside)(const block *b, const instruction *i, double *out)
{
    const instruction *const second = i + 1;
    if ((i->a & REGISTER_LANE) == 0 || second->out == i->out || second->a == i->out || second->b == i->out)
        return false;
    const double *const x = LANES(lane)(b, i->a), *const q = LANES(operand)(b, second->b, 0);
    double *const quotient = LANES(lane)(b, second->out);
    const size_t n = whole_chunks(b->padded);
    const double number = second->a & REGISTER_LANE ? 0.0 : b->uniform[second->a];
    const double *const p = second->a & REGISTER_LANE ? LANES(lane)(b, second->a) : NULL;
    switch (i->op) {
#define LOOP(dividend, function) \
    LANES_IN_PLACE \
    for (size_t l = 0; l < n; l++) { \
        const double v = (dividend) / q[l]; \
        out[l] = function(x[l]); \
        quotient[l] = v; \
    }
#define CASE(ID, function) \
    case PGR_OP_##ID: \
        if (p == NULL) { \
            LOOP(number, function) \
        } else { \
            LOOP(p[l], function) \
        } \
        break;
        LONG_FUNCTIONS(CASE)
#undef CASE
#undef LOOP
    }
    return true;
}

/* An operation of the table, and the next one, if both can run as one. Returns the last. */
LANES_TARGET static const instruction *LANES(operation)(const block *b, const instruction *i, const instruction *end)
{
    double *const out = LANES(lane)(b, i->out);
    if (i + 1 < end && (LANES(pair)(b, i, out) ||
                        (i[1].op == PGR_OP_DIV && takes_long((int)i->op) && LANES(beside)(b, i, out))))
        return i + 1;
    const size_t n = whole_chunks(b->padded);
    double spare[2][LANES_VECTOR];
    switch (i->op) {
#define CASE(ID, value) \
    case PGR_OP_##ID: { \
        const LANES(row) x = LANES(row_of)(b, i->a, spare[0]), y = LANES(row_of)(b, i->b, spare[1]); \
        LANES(rows_##ID)(out, n, x, y, x); \
        return i; \
    }
        COMMON_OPERATIONS(CASE)
#undef CASE
    }
    const double *const x = LANES(operand)(b, i->a, 0);
    const double *const y = i->b == REGISTER_NONE ? x : LANES(operand)(b, i->b, 1);
    LANES(apply)((int)i->op, x, y, out, n);
    return i;
}

#undef ROWS_LOOP
#undef PAIRS
#undef PLUS
#undef TIMES
#undef COMMON_OPERATIONS
#undef NO_PRODUCTS
