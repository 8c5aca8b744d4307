/* eights.h: eight numbers at once, for one instruction set: lanes.h includes it, so it has no guard, either.
 *
 * On every machine a sum has eight parts: those of packs are added in the same order everywhere. */

typedef struct {
    LANES(vector) part[PACK / LANES_VECTOR];
} LANES(eight);

/* Part by part: a copy by memcpy would go through memory in other pieces, which the processor then waits for. */
LANES_TARGET PGR_INLINE LANES(eight) LANES(eight_at)(const double *from)
{
    LANES(eight) x;
    UNROLLED for (int p = 0; p < PACK / LANES_VECTOR; p++)
        x.part[p] = ((const LANES(vector) *)from)[p];
    return x;
}

LANES_TARGET PGR_INLINE void LANES(put_eight)(double *to, LANES(eight) x)
{
    UNROLLED for (int p = 0; p < PACK / LANES_VECTOR; p++)
        ((LANES(vector) *)to)[p] = x.part[p];
}

/* The sum of each of `n` times eight numbers, pair by pair; n is a constant for the compiler, the rest is 0. */
LANES_TARGET PGR_INLINE LANES(eight) LANES(totals)(const LANES(eight) *sum, int n)
{
    LANES(eight) out;
#if defined(PACK_SHUFFLE) && LANES_VECTOR > 1
#define FOLD(step, even, odd) \
    UNROLLED for (int k = 0; k < LANES_VECTOR; k += 2 * (step)) \
        x[k] = PACK_SHUFFLE(x[k], x[k + (step)], even) + PACK_SHUFFLE(x[k], x[k + (step)], odd)
#define PLACES(...) __VA_ARGS__
    UNROLLED for (int from = 0; from < PACK; from += LANES_VECTOR) {
        LANES(vector) each[PACK / LANES_VECTOR];
        UNROLLED for (int p = 0; p < PACK / LANES_VECTOR; p++) {
            LANES(vector) x[LANES_VECTOR];
            UNROLLED for (int k = 0; k < LANES_VECTOR; k++)
                x[k] = from + k < n ? sum[from + k].part[p] : (LANES(vector)){0.0};
#if LANES_VECTOR == 8
            FOLD(1, PLACES(0, 8, 2, 10, 4, 12, 6, 14), PLACES(1, 9, 3, 11, 5, 13, 7, 15));
            FOLD(2, PLACES(0, 1, 8, 9, 4, 5, 12, 13), PLACES(2, 3, 10, 11, 6, 7, 14, 15));
            FOLD(4, PLACES(0, 1, 2, 3, 8, 9, 10, 11), PLACES(4, 5, 6, 7, 12, 13, 14, 15));
#elif LANES_VECTOR == 4
            FOLD(1, PLACES(0, 4, 2, 6), PLACES(1, 5, 3, 7));
            FOLD(2, PLACES(0, 1, 4, 5), PLACES(2, 3, 6, 7));
#else
            FOLD(1, PLACES(0, 2), PLACES(1, 3));
#endif
            each[p] = x[0];
        }
        UNROLLED for (int step = 1; step < PACK / LANES_VECTOR; step *= 2)
            for (int p = 0; p < PACK / LANES_VECTOR; p += 2 * step)
                each[p] += each[p + step];
        out.part[from / LANES_VECTOR] = each[0];
    }
#undef FOLD
#undef PLACES
#else
    double total[PACK];
    for (int k = 0; k < PACK; k++) {
        double x[PACK] = {0.0};
        if (k < n)
            memcpy(x, &sum[k], sizeof x);
        total[k] = ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
    }
    memcpy(&out, total, sizeof out);
#endif
    return out;
}
