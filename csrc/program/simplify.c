/* simplify.c: local simplification: value numbering, constant folding and algebraic identities.
 *
 * Values pass through here as they are made, so no later pass needs to look for equal ones. */
#include "program/simplify.h"

void program_make_values(builder *b, uint64_t most)
{
    if (most >= NONE / 2)
        b->status = PGR_ERR_FULL;
    uint32_t size = 16;
    while (size <= most && b->status == PGR_OK)
        size *= 2;
    b->table_mask = size - 1;
    b->table = grab(b, size, sizeof *b->table);
    b->values = grab_raw(b, (size_t)most, sizeof *b->values);
}

static uint32_t hash_of(uint32_t op, uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * UINT64_C(0x9e3779b97f4a7c15);
    h = (h ^ h >> 29 ^ op) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(h >> 32);
}

uint32_t program_new_value(builder *b, int op, uint32_t x, uint32_t y)
{
    const uint32_t id = b->value_count++;
    b->values[id] = (value){
        .op = (uint8_t)op, .a = x, .b = y, .dot = NONE, .reg = REGISTER_NONE, .output = NONE, .line = b->line};
    return id;
}

uint32_t program_share(builder *b, int op, uint32_t x, uint32_t y)
{
    if ((op == PGR_OP_ADD || op == PGR_OP_MUL) && x > y) {
        const uint32_t swap = x;
        x = y;
        y = swap;
    }
    /* Probe first near the later operand: the table is then read in the order of the nodes, which caches like. Then
     * probe by hash, since one operand may have many users. */
    const uint32_t hash = hash_of((uint32_t)op, x, y), later = y != NONE && y > x ? y : x;
    uint32_t at = (2 * later + (hash >> 31)) & b->table_mask;
    for (uint32_t probe = 0; b->table[at] != 0; probe++) {
        const value *const v = &b->values[b->table[at] - 1];
        if (v->op == op && v->a == x && v->b == y)
            return b->table[at] - 1;
        at = probe == 0 ? at ^ 1 : (probe == 1 ? hash : at + 1) & b->table_mask;
    }
    const uint32_t id = program_new_value(b, op, x, y);
    b->table[at] = id + 1;
    return id;
}

uint32_t program_constant(builder *b, double number)
{
    uint64_t bits; /* equal bits make equal constants */
    memcpy(&bits, &number, sizeof bits);
    return program_share(b, PGR_OP_CONST, (uint32_t)bits, (uint32_t)(bits >> 32));
}

bool program_constant_of(const builder *b, uint32_t id, double *number)
{
    const value *const v = &b->values[id];
    const uint64_t bits = (uint64_t)v->b << 32 | v->a;
    if (v->op != PGR_OP_CONST)
        return false;
    memcpy(number, &bits, sizeof *number);
    return true;
}

static bool is_minus_zero(double x) { return x == 0.0 && signbit(x); }

/* Whether a value is 1 where another is positive, else 0: relu's slope. */
static bool is_gate(const builder *b, uint32_t id)
{
    double zero;
    const value *const v = &b->values[id];
    return v->op == PGR_OP_LESS && program_constant_of(b, v->a, &zero) && zero == 0.0;
}

uint32_t program_simplify(builder *b, int op, uint32_t x, uint32_t y)
{
    double p = 0.0, q = 0.0, v;
    const bool known_x = program_constant_of(b, x, &p), known_y = y != NONE && program_constant_of(b, y, &q);
    if (known_x && (y == NONE || known_y) && ops_eval(op, p, q, &v) != PGR_ERR_OP)
        return program_constant(b, v);
    if (op == PGR_OP_DETACH)
        return x;
    if (op == PGR_OP_MUL && known_y && q == 1.0)
        return x;
    if (op == PGR_OP_MUL && known_x && p == 1.0)
        return y;
    if (op == PGR_OP_MUL && is_gate(b, y))
        return program_share(b, PGR_OP_GATE, x, b->values[y].b);
    if (op == PGR_OP_MUL && is_gate(b, x))
        return program_share(b, PGR_OP_GATE, y, b->values[x].b);
    if (op == PGR_OP_DIV && known_y && q == 1.0)
        return x;
    if (op == PGR_OP_ADD && known_y && is_minus_zero(q))
        return x;
    if (op == PGR_OP_ADD && known_x && is_minus_zero(p))
        return y;
    if (op == PGR_OP_SUB && known_y && q == 0.0 && !signbit(q))
        return x;
    if (op == PGR_OP_NEG && b->values[x].op == PGR_OP_NEG)
        return b->values[x].a;
    if (op == PGR_OP_POWC && known_y && q == 2.0)
        return program_share(b, PGR_OP_MUL, x, x);
    return program_share(b, op, x, y);
}
