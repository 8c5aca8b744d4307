/* pack_order.c: the order of a stretch: by level, then by operation. Counting sorts, so linear. */
#include "program/packer.h"

enum { OPS = 256 };

/* A level is above those of the operands that the stretch computes. Returns the highest. */
static uint32_t find_levels(packer *k)
{
    uint32_t highest = 0;
    for (uint32_t i = 0; i < k->count; i++) {
        if (k->instructions[i].op == PROGRAM_RUN)
            continue;
        uint32_t below = 0;
#define ABOVE(operand) \
    do { \
        const uint32_t o_ = (operand); \
        if ((o_ & LOCAL) != 0 && k->level[o_ & ~LOCAL] > below) \
            below = k->level[o_ & ~LOCAL]; \
    } while (0)
        ABOVE(k->a[i]);
        if (k->instructions[i].op == PROGRAM_DOT) {
            const uint32_t *const terms = k->terms + k->b[i], count = 2 * terms_of(k, i);
            for (uint32_t t = 0; t < count; t++)
                ABOVE(terms[t]);
        } else {
            ABOVE(k->b[i]);
        }
#undef ABOVE
        k->level[i] = below + 1;
        highest = below + 1 > highest ? below + 1 : highest;
    }
    return highest;
}

/* The order by operation, to `by_op`; instructions that don't run are left out. */
static void order_by_op(packer *k, uint32_t *by_op)
{
    uint32_t starts[OPS + 1] = {0};
    for (uint32_t i = 0; i < k->count; i++)
        starts[k->instructions[i].op + 1] += k->level[i] > 0;
    for (uint32_t op = 0; op < OPS; op++)
        starts[op + 1] += starts[op];
    k->ordered = starts[OPS];
    for (uint32_t i = 0; i < k->count; i++)
        if (k->level[i] > 0)
            by_op[starts[k->instructions[i].op]++] = i;
}

/* What a group costs as packs, and one by one, in instructions or so. */
static void add_costs(const packer *k, const uint32_t *group, uint32_t n, uint64_t *packed, uint64_t *plain)
{
    uint64_t terms = 0;
    if (k->instructions[group[0]].op == PROGRAM_DOT)
        for (uint32_t i = 0; i < n; i++)
            terms += terms_of(k, group[i]);
    const uint64_t packs = (n + PACK - 1) / PACK;
    *plain += n + terms;
    if (n >= PACK / 2)
        *packed += terms > 0 ? packs * (4 + 5 * terms / (2 * n)) : 3 + packs + packs / 4;
    else
        *packed += n + (terms >= 16 * (uint64_t)n ? terms / 4 : terms);
}

bool pgr__packer_order(packer *k)
{
    const uint32_t highest = find_levels(k);
    uint32_t *const by_op = k->place; /* not needed yet */
    order_by_op(k, by_op);
    uint32_t *const starts = packer_grow(k, NULL, 0, (size_t)highest + 2, sizeof *starts);
    if (k->status != PGR_OK)
        return false;
    memset(starts, 0, ((size_t)highest + 2) * sizeof *starts);
    for (uint32_t i = 0; i < k->ordered; i++)
        starts[k->level[by_op[i]] + 1]++;
    for (uint32_t l = 0; l <= highest; l++)
        starts[l + 1] += starts[l];
    for (uint32_t i = 0; i < k->ordered; i++)
        k->order[starts[k->level[by_op[i]]]++] = by_op[i];
    packer_resize(k, starts, 0);

    uint64_t packed = 0, plain = 0;
    for (uint32_t i = 0, n; i < k->ordered; i += n) {
        n = group_from(k, i);
        add_costs(k, k->order + i, n, &packed, &plain);
    }
    return 20 * packed < 11 * plain; /* measured: near that, neither is faster */
}

enum { SHORT = 8 };

/* Sorts up to SHORT by counting what comes before each: without branches, which random keys would make slow. */
static void rank(const keyed *from, keyed *to, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t before = 0;
        for (uint32_t j = 0; j < n; j++)
            before += (uint32_t)(from[j].key < from[i].key) | ((uint32_t)(from[j].key == from[i].key) & (j < i));
        to[before] = from[i];
    }
}

/* Merges pairs of sorted runs, from `from` to `to`, of `width` each. */
static void merge(const keyed *from, keyed *to, uint32_t n, uint32_t width)
{
    for (uint32_t start = 0; start < n; start += 2 * width) {
        const uint32_t middle = n - start < width ? n : start + width;
        const uint32_t end = n - middle < width ? n : middle + width;
        uint32_t i = start, j = middle, at = start;
        while (i < middle && j < end) {
            const uint32_t is_later = from[j].key < from[i].key;
            to[at++] = from[i ^ ((i ^ j) & (0 - is_later))]; /* without a branch, too */
            j += is_later;
            i += 1 - is_later;
        }
        memcpy(to + at, from + i, (middle - i) * sizeof *to);
        at += middle - i;
        memcpy(to + at, from + j, (end - j) * sizeof *to);
    }
}

void pgr__packer_sort(keyed *keys, keyed *spare, uint32_t n)
{
    bool is_sorted = true, is_reversed = true;
    for (uint32_t i = 1; i < n; i++) {
        is_sorted &= keys[i - 1].key <= keys[i].key;
        is_reversed &= keys[i - 1].key > keys[i].key;
    }
    if (is_sorted)
        return;
    if (is_reversed) {
        for (uint32_t i = 0; i < n / 2; i++) {
            const keyed swap = keys[i];
            keys[i] = keys[n - 1 - i];
            keys[n - 1 - i] = swap;
        }
        return;
    }
    for (uint32_t start = 0; start < n; start += SHORT)
        rank(keys + start, spare + start, n - start < SHORT ? n - start : SHORT);
    keyed *from = spare, *to = keys;
    for (uint32_t width = SHORT; width < n; width *= 2) {
        merge(from, to, n, width);
        keyed *const swap = from;
        from = to;
        to = swap;
    }
    if (from != keys)
        memcpy(keys, from, n * sizeof *keys);
}
