// What one core computes at most: multiply-adds on registers only, in GFLOP/s, as one JSON line.
//
// Kernels stay below these rates; they tell which instructions are worth using on a processor.
// Rates are per second of CPU time, so that other work on the machine does not lower them.

#include <stdio.h>
#include <time.h>

enum { SUMS = 12, ROUNDS = 5, STEPS = 2000000 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

// The best of some rounds of `loop`, each with `flops` operations.
static double best(void (*loop)(void), double flops) {
    double rate = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        loop();
        double here = flops / (now() - start) / 1e9;
        rate = here > rate ? here : rate;
    }
    return rate;
}

#if defined(__x86_64__)
#include <immintrin.h>

// Twelve independent sums hide the latency of an addition; the empty assembly keeps the compiler
// from doing the sums itself.
#define LOOP(name, features, vector, operand, zero, one, add)                      \
    __attribute__((target(features))) static void name(void) {                     \
        vector sums[SUMS];                                                         \
        operand x = (operand)one;                                                  \
        for (int i = 0; i < SUMS; i++) sums[i] = zero();                           \
        for (long step = 0; step < STEPS; step++) {                                \
            for (int i = 0; i < SUMS; i++) sums[i] = add;                          \
            __asm__ volatile("" : "+v"(x));                                        \
        }                                                                          \
        for (int i = 0; i < SUMS; i++) __asm__ volatile("" : : "v"(sums[i]));      \
    }

LOOP(avx2_f32, "avx2,fma", __m256, __m256, _mm256_setzero_ps, _mm256_set1_ps(1), _mm256_fmadd_ps(x, x, sums[i]))
LOOP(avx512_f32, "avx512f", __m512, __m512, _mm512_setzero_ps, _mm512_set1_ps(1), _mm512_fmadd_ps(x, x, sums[i]))
LOOP(avx512_bf16, "avx512f,avx512bw,avx512bf16", __m512, __m512bh, _mm512_setzero_ps, _mm512_set1_epi16(0x3f80),
     _mm512_dpbf16_ps(sums[i], x, x))

static void report(const char *name, double rate) {
    static const char *separator = "";
    printf("%s\"%s\":%.0f", separator, name, rate);
    separator = ",";
}

int main(void) {
    double steps = (double)STEPS * SUMS;
    putchar('{');
    if (__builtin_cpu_supports("fma")) {
        report("avx2 f32", best(avx2_f32, steps * 16));
    }
    if (__builtin_cpu_supports("avx512f")) {
        report("avx512 f32", best(avx512_f32, steps * 32));
    }
    if (__builtin_cpu_supports("avx512bf16")) {
        report("avx512 bf16 dot", best(avx512_bf16, steps * 64));
    }
    puts("}");
}
#else
int main(void) {
    (void)best;
    puts("{}");
}
#endif
