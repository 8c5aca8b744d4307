/* ops.c: the table of operations as data, for use at run time. */
#include "ops/ops.h"

/* Derivatives as text: their words, but for those of words.h, which stand for others. */
#define WORD_(number, nodes, text) text
#define SPELLED(words) #words

#define DB_UNARY(db)  "", PGR_KIND_UNARY, NAN
#define DB_BINARY(db) SPELLED(db), PGR_KIND_BINARY, NAN
#define DB_PARAM(db)  "", PGR_KIND_PARAM, (db)
#define DB_CUT(db)    "", PGR_KIND_CUT, NAN

static const pgr_op_info rows[PGR_OP_COUNT] = {
    [PGR_OP_LEAF] = {"leaf", "", "", "", "", "", "", PGR_KIND_OWN, NAN},
    [PGR_OP_CONST] = {"const", "", "", "", "", "", "", PGR_KIND_OWN, NAN},
    [PGR_OP_CUSTOM] = {"custom", "custom", "", "", "", "", "", PGR_KIND_OWN, NAN},
    [PGR_OP_PAIR] = {"pair", "", "", "", "", "", "", PGR_KIND_OWN, NAN},
    [PGR_OP_INPUT] = {"input", "", "", "", "", "", "", PGR_KIND_OWN, NAN},
    [PGR_OP_LANE] = {"lane", "", "", "", "", "", "", PGR_KIND_OWN, NAN},
    [PGR_OP_LANE_SUM] = {"lane_sum", "lane sum", "", "", "", "", "", PGR_KIND_OWN, NAN},
    [PGR_OP_LANE_PASS] = {"lane_pass", "lane pass", "", "", "", "", "", PGR_KIND_OWN, NAN},
    [PGR_OP_CALL] = {"call", "call", "", "", "", "", "", PGR_KIND_OWN, NAN},
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
    [PGR_OP_##ID] = {name, symbol, rule, doc, #value, SPELLED(da), DB_##KIND(db)},
    PGR_OPS(X)
#undef X
};

#define PGR_SPECIAL(name, ...) #__VA_ARGS__,
static const char *const special[] = {
#include "ops/special.h"
};
#undef PGR_SPECIAL

const char *pgr_op_special(int i)
{
    return i >= 0 && i < (int)(sizeof special / sizeof *special) ? special[i] : NULL;
}

const pgr_op_info *pgr_op_row(int op) { return op >= 0 && op < PGR_OP_COUNT ? &rows[op] : NULL; }

int pgr_op_count(void) { return PGR_OP_COUNT; }

pgr_status pgr_op_value(int op, double a, double b, double *out) { return ops_eval(op, a, b, out); }
