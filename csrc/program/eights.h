/* eights.h: eight numbers at once, for one instruction set: lanes.h includes it, so it has no guard, either.
 *
 * On every machine a sum has eight parts: those of packs are added in the same order everywhere. */

typedef struct {
    LANES(vector) part[PACK / LANES_VECTOR];
} LANES(eight);

LANES_TARGET PGR_INLINE LANES(eight) LANES(eight_at)(const double *from)
{
    LANES(eight) x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* The sum of each of eight times eight numbers, pair by pair. */
LANES_TARGET PGR_INLINE LANES(eight) LANES(totals)(const LANES(eight) *sum)
{
    LANES(eight) out;
#ifdef PACK_SHUFFLE
    typedef double all __attribute__((vector_size(PACK * sizeof(double))));
#define FOLD(step, even, odd) \
    for (int k = 0; k < PACK; k += 2 * (step)) \
        x[k] = PACK_SHUFFLE(x[k], x[k + (step)], even) + PACK_SHUFFLE(x[k], x[k + (step)], odd)
#define PLACES(...) __VA_ARGS__
    all x[PACK];
    memcpy(x, sum, sizeof x);
    FOLD(1, PLACES(0, 8, 2, 10, 4, 12, 6, 14), PLACES(1, 9, 3, 11, 5, 13, 7, 15));
    FOLD(2, PLACES(0, 1, 8, 9, 4, 5, 12, 13), PLACES(2, 3, 10, 11, 6, 7, 14, 15));
    FOLD(4, PLACES(0, 1, 2, 3, 8, 9, 10, 11), PLACES(4, 5, 6, 7, 12, 13, 14, 15));
#undef FOLD
#undef PLACES
    memcpy(&out, x, sizeof out);
#else
    double x[PACK][PACK], total[PACK];
    memcpy(x, sum, sizeof x);
    for (int k = 0; k < PACK; k++)
        total[k] = ((x[k][0] + x[k][1]) + (x[k][2] + x[k][3])) + ((x[k][4] + x[k][5]) + (x[k][6] + x[k][7]));
    memcpy(&out, total, sizeof out);
#endif
    return out;
}
