/* pack_emit.c: places for the results of a group, and its packs. */
#include "program/packer.h"

enum { SHORTEST_GROUP = 4, LONG_SUM = 256 };
/* Costs, in loads or so. */
static const uint32_t GATHER_COST = 7, TOTAL_COST = 12, PLAIN_COST = 2;

static uint32_t *add_code(packer *k, uint32_t count)
{
    program_packs *const packs = k->packs;
    packs->code = packer_grow(k, packs->code, packs->code_count, count, sizeof *packs->code);
    packs->code_count += k->status == PGR_OK ? count : 0;
    return k->status == PGR_OK ? packs->code + packs->code_count - count : NULL;
}

/* Adds to the last step if that is of this kind and its numbers go on here; otherwise starts one. */
static void add_to_step(packer *k, uint32_t op, uint32_t kinds, uint32_t first, bool goes_on)
{
    program_packs *const packs = k->packs;
    pack_step *const last = packs->step_count == k->first_step ? NULL : &packs->steps[packs->step_count - 1];
    if (goes_on && last != NULL && last->op == op && last->kinds == kinds) {
        last->count++;
        return;
    }
    packs->steps = packer_grow(k, packs->steps, packs->step_count, 1, sizeof *packs->steps);
    if (k->status == PGR_OK)
        packs->steps[packs->step_count++] = (pack_step){.op = op, .kinds = kinds, .count = 1, .first = first};
}

/* ---- Operands -------------------------------------------------------------------------------------- */

static uint32_t kind_of(const uint32_t *places)
{
    uint32_t unlike = 0, apart = 0;
    for (uint32_t l = 1; l < PACK; l++) {
        unlike |= places[l] ^ places[0];
        apart |= places[l] ^ (places[0] + l);
    }
    return apart == 0 ? IN_A_ROW : unlike == 0 ? THE_SAME : GATHERED;
}

/* What finds an operand of this kind. */
static uint32_t operand_at(packer *k, uint32_t kind, const uint32_t *places)
{
    program_packs *const packs = k->packs;
    if (kind != GATHERED)
        return places[0];
    packs->index = packer_grow(k, packs->index, packs->index_count, PACK, sizeof *packs->index);
    if (k->status != PGR_OK)
        return 0;
    memcpy(packs->index + packs->index_count, places, PACK * sizeof *places);
    packs->index_count += PACK;
    return packs->index_count - PACK;
}

/* ---- Operations ------------------------------------------------------------------------------------ */

static bool commutes(uint32_t op) { return op == PGR_OP_ADD || op == PGR_OP_MUL; }

/* A key: the places of both operands. */
static uint64_t key_of(const packer *k, uint32_t id)
{
    const uint64_t a = place_of(k, k->a[id]), b = k->b[id] == REGISTER_NONE ? 0 : place_of(k, k->b[id]);
    return commutes(k->instructions[id].op) && a > b ? b << 32 | a : a << 32 | b;
}

static void operand_places(const keyed *keys, uint32_t n, uint32_t *a, uint32_t *b)
{
    for (uint32_t l = 0; l < PACK; l++) {
        const uint64_t key = keys[l < n ? l : n - 1].key; /* the last one fills up */
        a[l] = (uint32_t)(key >> 32);
        b[l] = (uint32_t)key;
    }
}

/* Packs of equal kinds of operands follow one another. */
static void emit_operations(packer *k, uint32_t op, bool has_b, const keyed *keys, uint32_t n, uint32_t first)
{
    uint32_t a[PACK], b[PACK];
    for (uint32_t kinds = 0; kinds < OPERAND_KINDS * OPERAND_KINDS; kinds++)
        k->kinds[kinds] = 0;
    for (uint32_t from = 0; from < n; from += PACK) {
        operand_places(keys + from, n - from, a, b);
        k->kinds[k->kind[from / PACK] = (uint8_t)(kind_of(a) * OPERAND_KINDS + (has_b ? kind_of(b) : 0))]++;
    }
    for (uint32_t kinds = 0; kinds < OPERAND_KINDS * OPERAND_KINDS; kinds++) {
        if (k->kinds[kinds] == 0)
            continue;
        bool goes_on = false;
        for (uint32_t from = 0; from < n; from += PACK) {
            if (k->kind[from / PACK] != kinds)
                continue;
            operand_places(keys + from, n - from, a, b);
            const uint32_t x = operand_at(k, kinds / OPERAND_KINDS, a);
            const uint32_t y = has_b ? operand_at(k, kinds % OPERAND_KINDS, b) : 0;
            uint32_t *const code = add_code(k, 3);
            if (code == NULL)
                return;
            code[0] = first + from;
            code[1] = x;
            code[2] = y;
            add_to_step(k, op, kinds, k->packs->code_count - 3, goes_on);
            goes_on = true;
        }
    }
}

/* ---- Plain instructions ---------------------------------------------------------------------------- */

static uint32_t plain_dot(packer *k, uint32_t id)
{
    program_packs *const packs = k->packs;
    const uint32_t count = terms_of(k, id);
    packs->args = packer_grow(k, packs->args, packs->arg_count, 2 * (size_t)count, sizeof *packs->args);
    packs->dots = packer_grow(k, packs->dots, packs->dot_count, 1, sizeof *packs->dots);
    if (k->status != PGR_OK)
        return 0;
    packs->dots[packs->dot_count] = (program_dot){packs->arg_count, count};
    for (uint32_t t = 0; t < 2 * count; t++)
        packs->args[packs->arg_count++] = place_of(k, k->terms[k->b[id] + t]);
    return packs->dot_count++;
}

static void emit_plain(packer *k, uint32_t id)
{
    program_packs *const packs = k->packs;
    const uint32_t op = k->instructions[id].op;
    const uint32_t b = op == PROGRAM_DOT ? plain_dot(k, id) : place_of(k, k->b[id]);
    packs->plain = packer_grow(k, packs->plain, packs->plain_count, 1, sizeof *packs->plain);
    if (k->status != PGR_OK)
        return;
    packs->plain[packs->plain_count] = (instruction){op, k->place[id], place_of(k, k->a[id]), b};
    add_to_step(k, PACK_PLAIN, 0, packs->plain_count++, true);
}

/* ---- Sums ------------------------------------------------------------------------------------------ */

typedef struct {
    uint32_t x[PACK], y[PACK];
} eight_terms;

/* The t-th term of n dots, the last of which fill up. What is not there is -0 * 1. */
static void terms_across(const packer *k, const keyed *dots, uint32_t n, uint32_t t, eight_terms *out)
{
    for (uint32_t l = 0; l < PACK; l++) {
        const uint32_t id = dots[l < n ? l : n - 1].id;
        const bool is_there = t < terms_of(k, id);
        const uint32_t *const term = k->terms + k->b[id] + 2 * (size_t)t;
        const uint32_t x = is_there ? place_of(k, term[0]) : k->packs->first + 1;
        const uint32_t y = is_there && term[1] != REGISTER_NONE ? place_of(k, term[1]) : k->packs->first;
        out->x[l] = x < y ? x : y;
        out->y[l] = x < y ? y : x;
    }
}

/* Terms t .. t + 8 of the dot whose terms are sorted. */
static void terms_along(const packer *k, uint32_t t, eight_terms *out)
{
    for (uint32_t l = 0; l < PACK; l++) {
        const uint64_t key = t + l < k->sorted_terms ? k->term_keys[t + l].key
                                           : (uint64_t)k->packs->first << 32 | (k->packs->first + 1);
        out->x[l] = (uint32_t)(key >> 32);
        out->y[l] = (uint32_t)key;
    }
}

static uint64_t term_key(uint64_t x, uint64_t y) { return x < y ? x << 32 | y : y << 32 | x; }

static bool is_very_long(const packer *k, uint32_t id) { return terms_of(k, id) >= SHORTEST_STRIP * PACK; }

/* Sorts a dot's terms by their places. What a very long one starts from is a term, too. */
static void sort_terms(packer *k, uint32_t id)
{
    const uint32_t count = terms_of(k, id);
    const uint32_t *const terms = k->terms + k->b[id];
    for (uint32_t t = 0; t < count; t++) {
        const uint64_t x = place_of(k, terms[2 * t]);
        const uint64_t y = terms[2 * t + 1] == REGISTER_NONE ? k->packs->first : place_of(k, terms[2 * t + 1]);
        k->term_keys[t] = (keyed){term_key(x, y), t};
    }
    k->sorted_terms = count;
    if (is_very_long(k, id) && k->a[id] != REGISTER_NONE)
        k->term_keys[k->sorted_terms++] = (keyed){term_key(place_of(k, k->a[id]), k->packs->first), count};
    pgr__packer_sort(k->term_keys, k->term_spare, k->sorted_terms);
}

static uint32_t cost_of(const eight_terms *terms)
{
    return 1 + (kind_of(terms->x) == GATHERED ? GATHER_COST : 1u) + (kind_of(terms->y) == GATHERED ? GATHER_COST : 1u);
}

/* A sum's numbers under way: where its present run began, and of what kind that is. */
typedef struct {
    uint32_t runs, run, kinds, terms;
} sum_code;

static void add_terms(packer *k, sum_code *s, eight_terms *terms)
{
    uint32_t kind_x = kind_of(terms->x), kind_y = kind_of(terms->y);
    if (kind_x > kind_y) {
        const eight_terms swapped = *terms;
        memcpy(terms->x, swapped.y, sizeof terms->x);
        memcpy(terms->y, swapped.x, sizeof terms->y);
        const uint32_t swap = kind_x;
        kind_x = kind_y;
        kind_y = swap;
    }
    const uint32_t kinds = kind_x * OPERAND_KINDS + kind_y;
    if (s->runs == 0 || s->kinds != kinds) {
        *s = (sum_code){s->runs + 1, k->packs->code_count, kinds, 0};
        add_code(k, 1);
    }
    const uint32_t x = operand_at(k, kind_x, terms->x), y = operand_at(k, kind_y, terms->y);
    uint32_t *const code = add_code(k, 2);
    if (code == NULL)
        return;
    code[0] = x;
    code[1] = y;
    k->packs->code[s->run] = ++s->terms * RUN_KINDS + kinds;
}

/* Begins the numbers of up to eight dots with one place, and ends those of a step. */
static uint32_t begin_sums(packer *k, const keyed *dots, uint32_t n)
{
    uint32_t starts[PACK];
    for (uint32_t l = 0; l < PACK; l++) {
        const uint32_t start = k->a[dots[l < n ? l : n - 1].id];
        starts[l] = start == REGISTER_NONE ? k->packs->first + 1 : place_of(k, start);
    }
    const uint32_t kind = kind_of(starts), start = operand_at(k, kind, starts);
    uint32_t *const code = add_code(k, 3);
    if (code == NULL)
        return 0;
    code[0] = k->place[dots[0].id];
    code[1] = kind;
    code[2] = start;
    return k->packs->code_count - 3;
}

static void end_sums(packer *k, uint32_t op, uint32_t at)
{
    add_to_step(k, op, 0, at, k->sum_end == at);
    k->sum_end = k->packs->code_count;
}

/* Adds the number of a sum's runs, and these: of dots side by side .. */
static void add_runs_across(packer *k, const keyed *dots, uint32_t n)
{
    const uint32_t at = k->packs->code_count, count = terms_of(k, dots[0].id);
    sum_code s = {0};
    add_code(k, 1);
    for (uint32_t t = 0; t < count && k->status == PGR_OK; t++) {
        eight_terms terms;
        terms_across(k, dots, n, t, &terms);
        add_terms(k, &s, &terms);
    }
    if (k->status == PGR_OK)
        k->packs->code[at] = s.runs;
}

/* .. and of the one whose terms are sorted, along these, from term t on. */
static void add_runs_along(packer *k, uint32_t t)
{
    const uint32_t at = k->packs->code_count;
    sum_code s = {0};
    add_code(k, 1);
    for (; t < k->sorted_terms && k->status == PGR_OK; t += PACK) {
        eight_terms terms;
        terms_along(k, t, &terms);
        add_terms(k, &s, &terms);
    }
    if (k->status == PGR_OK)
        k->packs->code[at] = s.runs;
}

/* How many terms of the dot, from the first on, are of one kind that adds up. */
static uint32_t added_up(const packer *k, uint32_t *kinds)
{
    uint32_t t = 0;
    for (; t + PACK <= k->sorted_terms; t += PACK) {
        eight_terms terms;
        terms_along(k, t, &terms);
        const uint32_t x = kind_of(terms.x), y = kind_of(terms.y);
        const uint32_t here = x < y ? x * OPERAND_KINDS + y : y * OPERAND_KINDS + x;
        *kinds = t == 0 ? here : *kinds;
        if (here != *kinds || here > THE_SAME)
            break;
    }
    return t;
}

/* A step that adds up most terms of a very long dot. Returns how many; 0 if they are of several kinds. */
static uint32_t add_up(packer *k, uint32_t place)
{
    uint32_t kinds = 0;
    const uint32_t count = added_up(k, &kinds);
    if (count < SHORTEST_STRIP * PACK)
        return 0;
    uint32_t *code = add_code(k, 2 * (count / PACK));
    if (code == NULL)
        return 0;
    add_to_step(k, PACK_ADD_UP, kinds, k->packs->code_count - 2 * (count / PACK), false);
    for (uint32_t t = 0; t < count; t += PACK, code += 2) {
        eight_terms terms;
        terms_along(k, t, &terms);
        const bool is_reversed = kind_of(terms.x) > kind_of(terms.y);
        code[0] = (is_reversed ? terms.y : terms.x)[0];
        code[1] = (is_reversed ? terms.x : terms.y)[0];
    }
    if (k->status != PGR_OK)
        return 0;
    pack_step *const step = &k->packs->steps[k->packs->step_count - 1];
    step->count = count / PACK;
    step->place = place;
    return count;
}

/* Moves up to seven terms that are apart from the others, such as a constant, from the first to the last. */
static void turn_terms(packer *k)
{
    for (uint32_t first = 0; first < PACK; first++) {
        eight_terms terms;
        terms_along(k, first, &terms);
        if (cost_of(&terms) >= GATHER_COST)
            continue;
        memcpy(k->term_spare, k->term_keys, first * sizeof *k->term_keys);
        memmove(k->term_keys, k->term_keys + first, (k->sorted_terms - first) * sizeof *k->term_keys);
        memcpy(k->term_keys + k->sorted_terms - first, k->term_spare, first * sizeof *k->term_keys);
        return;
    }
}

static void emit_long_sum(packer *k, const keyed *dot)
{
    sort_terms(k, dot->id);
    uint32_t begun = 0;
    if (is_very_long(k, dot->id)) {
        turn_terms(k);
        const uint32_t place = k->top = (k->top + PACK - 1) / PACK * PACK;
        begun = add_up(k, place);
        k->top += begun > 0 ? SUMMANDS : 0;
    }
    const uint32_t at = begin_sums(k, dot, 1);
    if (k->status == PGR_OK && is_very_long(k, dot->id)) {
        k->packs->code[at + 1] = begun > 0 ? IN_A_ROW : THE_SAME;
        k->packs->code[at + 2] = begun > 0 ? k->top - SUMMANDS : k->packs->first + 1;
    }
    add_runs_along(k, begun);
    end_sums(k, PACK_LONG_SUM, at);
}

/* Whether dots are better summed side by side, along their terms, or by plain instructions. */
static uint32_t best_way(packer *k, const keyed *dots, uint32_t n)
{
    const uint32_t most = terms_of(k, dots[0].id), way = n == PACK && most < LONG_SUM ? PACK_ROWS : PACK_LONG_SUM;
    uint64_t across = 0, along = 0, plain = 0;
    for (uint32_t t = 0; t < most; t++) {
        eight_terms terms;
        terms_across(k, dots, n, t, &terms);
        across += cost_of(&terms);
    }
    for (uint32_t l = 0; l < n; l++)
        plain += (terms_of(k, dots[l].id) + 1) * PLAIN_COST;
    if (across <= plain && across <= 3 * (uint64_t)most)
        return PACK_SUMS;
    for (uint32_t l = 0; l < n; l++) {
        const uint32_t count = terms_of(k, dots[l].id);
        sort_terms(k, dots[l].id);
        along += way == PACK_ROWS ? TOTAL_COST / 4 : TOTAL_COST;
        for (uint32_t t = 0; t < count; t += PACK) {
            eight_terms terms;
            terms_along(k, t, &terms);
            along += cost_of(&terms);
        }
    }
    return plain <= across && plain <= along ? PACK_PLAIN : along < across ? way : PACK_SUMS;
}

/* Up to eight dots. */
static void emit_few_dots(packer *k, const keyed *dots, uint32_t n)
{
    const uint32_t way = best_way(k, dots, n);
    if (way == PACK_SUMS || way == PACK_ROWS) {
        const uint32_t at = begin_sums(k, dots, n);
        if (way == PACK_SUMS)
            add_runs_across(k, dots, n);
        for (uint32_t l = 0; l < n && way == PACK_ROWS; l++) {
            sort_terms(k, dots[l].id);
            add_runs_along(k, 0);
        }
        end_sums(k, way, at);
        return;
    }
    for (uint32_t l = 0; l < n; l++) {
        if (way == PACK_PLAIN)
            emit_plain(k, dots[l].id);
        else
            emit_long_sum(k, &dots[l]);
    }
}

/* ---- Groups ---------------------------------------------------------------------------------------- */

/* The longest first, so that those side by side are about equally long. */
static uint64_t dot_key(const packer *k, uint32_t id)
{
    const uint32_t count = terms_of(k, id);
    return (uint64_t)(UINT32_MAX - count) << 32 | (count == 0 ? 0 : place_of(k, k->terms[k->b[id]]));
}

void pgr__packer_emit(packer *k, const uint32_t *group, uint32_t n)
{
    const instruction *const first = &k->instructions[group[0]];
    const bool are_dots = first->op == PROGRAM_DOT, are_few = n < SHORTEST_GROUP;
    for (uint32_t i = 0; i < n; i++)
        k->keys[i] = (keyed){are_dots ? dot_key(k, group[i]) : key_of(k, group[i]), group[i]};
    pgr__packer_sort(k->keys, k->spare, n);
    if (!are_few)
        k->top = (k->top + PACK - 1) / PACK * PACK;
    const uint32_t place = k->top;
    for (uint32_t i = 0; i < n; i++)
        k->place[k->keys[i].id] = place + i;
    k->top += are_dots || !are_few ? (n + PACK - 1) / PACK * PACK : n;
    if (are_dots)
        for (uint32_t from = 0; from < n && k->status == PGR_OK; from += PACK)
            emit_few_dots(k, k->keys + from, n - from < PACK ? n - from : PACK);
    else if (!are_few)
        emit_operations(k, first->op, first->b != REGISTER_NONE, k->keys, n, place);
    else
        for (uint32_t i = 0; i < n; i++)
            emit_plain(k, k->keys[i].id);
}
