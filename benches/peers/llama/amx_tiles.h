// Force-included into llama.cpp when a GCC before 13 builds it for a processor with AMX.
//
// Those compilers do not tell the optimiser what two tile intrinsics read: `_tile_loadconfig`
// declares 8 of its 64 bytes, `_tile_loadd` none. Stores to them are then dropped or moved, and
// the program crashes at its first prompt. Here both name what they read.
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#include <immintrin.h>

#undef _tile_loadconfig
#define _tile_loadconfig(config) \
    __asm__ volatile("ldtilecfg %0" : : "m"(*(const char(*)[64])(config)))

#undef _tile_loadd
#define _tile_loadd(tile, base, stride) PEER_TILE_LOADD(tile, base, stride)
#define PEER_TILE_LOADD(tile, base, stride)                   \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile       \
                     :                                        \
                     : "r"((const void *)(base)), "r"((long)(stride)) \
                     : "memory")
#endif
