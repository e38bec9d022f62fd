// How fast the processor reads memory: `bandwidth [THREADS] [GiB=1]` prints GB/s as one JSON line.
//
// Every thread sums its own share of a buffer that is far larger than the caches, backed by huge
// pages where the system grants them. `gb_per_s` is the median of the passes, `best_gb_per_s` the best.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PASSES = 9, LANES = 64, MAX_THREADS = 256 };

typedef struct {
    const uint64_t *from;
    size_t words;
    uint64_t sum;
} Share;

static pthread_barrier_t turn;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static uint64_t sum(const uint64_t *from, size_t words) {
    uint64_t lanes[LANES] = {0}; // independent sums, which the compiler keeps in vector registers
    for (size_t i = 0; i + LANES <= words; i += LANES) {
        __builtin_prefetch(from + i + 8 * LANES);
        for (int lane = 0; lane < LANES; lane++) {
            lanes[lane] += from[i + lane];
        }
    }
    for (int lane = 1; lane < LANES; lane++) {
        lanes[0] += lanes[lane];
    }
    return lanes[0];
}

static void *worker(void *argument) {
    Share *share = argument;
    for (int pass = 0; pass < PASSES; pass++) {
        pthread_barrier_wait(&turn);
        share->sum += sum(share->from, share->words);
        pthread_barrier_wait(&turn);
    }
    return NULL;
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    size_t bytes = (size_t)(argc > 2 ? atoi(argv[2]) : 1) << 30;
    if (threads < 1 || threads > MAX_THREADS || bytes == 0) {
        fputs("usage: bandwidth [THREADS] [GiB]\n", stderr);
        return 2;
    }
    uint64_t *buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    madvise(buffer, bytes, MADV_HUGEPAGE);
    memset(buffer, 1, bytes);

    pthread_t handles[MAX_THREADS];
    Share shares[MAX_THREADS];
    size_t words = bytes / sizeof(uint64_t) / threads;
    pthread_barrier_init(&turn, NULL, threads + 1);
    for (int i = 0; i < threads; i++) {
        shares[i] = (Share){buffer + words * i, words, 0};
        pthread_create(&handles[i], NULL, worker, &shares[i]);
    }
    double rates[PASSES];
    for (int pass = 0; pass < PASSES; pass++) {
        double start = now(); // before the workers may start: a late clock would flatter
        pthread_barrier_wait(&turn);
        pthread_barrier_wait(&turn);
        rates[pass] = (double)(words * threads * sizeof(uint64_t)) / (now() - start) / 1e9;
    }
    uint64_t check = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(handles[i], NULL);
        check += shares[i].sum;
    }
    qsort(rates, PASSES, sizeof rates[0], ascending);
    printf("{\"threads\":%d,\"gb_per_s\":%.2f,\"best_gb_per_s\":%.2f,\"check\":%llu}\n", threads,
           rates[PASSES / 2], rates[PASSES - 1], (unsigned long long)check);
    return 0;
}
