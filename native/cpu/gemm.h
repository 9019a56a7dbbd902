// C[i, j] += Σ A[i, l] · B[l, j] on blocks that fit the caches: what matrix products and dense convolutions are made of.
//
// A tile of C, MR rows by NV vectors, stays in registers while one loop runs over l: two loads of B and MR broadcasts of
// A feed 2·MR multiply-adds, and the tile's accumulators (28 of 32 registers with AVX-512) cover the latency of the
// unit. l is cut at DEPTH, so that DEPTH rows of a panel of B (NV vectors wide) stay in the first cache while the tiles of
// a block of A go by, and a sum in f32 is never a longer chain than that. Rows of A and C need not be neighbours in the
// maps that they come from: A is copied to rows a constant distance apart, C is reached through a pointer per row. So
// a convolution gathers only those pixels that a tap really meets.
#pragma once
#include "kernel.h"
#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__clang__)
#define LACUNA_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define LACUNA_UNROLL _Pragma("GCC unroll 16")
#else
#define LACUNA_UNROLL
#endif
/** In a loop over a short run: keeps the compiler from calling memcpy or memset in its place. */
#if defined(__GNUC__) || defined(__clang__)
#define LACUNA_KEEP_LOOP asm volatile("")
#else
#define LACUNA_KEEP_LOOP
#endif

namespace lacuna::cpu::LACUNA_ISA::gemm {

/** Rows and vectors of a tile: the accumulators, NV vectors of B and a broadcast of A fit the registers. */
#if defined(__AVX512F__)
inline constexpr size_t MR = 14;
#elif defined(__AVX2__)
inline constexpr size_t MR = 6;
#elif defined(__aarch64__)
inline constexpr size_t MR = 8;
#else
inline constexpr size_t MR = 4;
#endif
inline constexpr size_t NV = 2;
inline constexpr size_t NR = NV * LANES;
/** Terms of one pass over a tile. */
inline constexpr size_t DEPTH = 256;
/** Distance of gathered rows of at most DEPTH elements: no power of two, or rows would share sets of the cache. */
inline constexpr size_t ROW = DEPTH + 16;
/** Rows of A that one block holds; with DEPTH terms each they take a part of the second cache. */
inline constexpr size_t BLOCK = MR * (196 / MR);
/** Independent items that work is cut into where its size allows, for the threads to share. */
inline constexpr size_t ITEMS = 12;

LACUNA_INLINE size_t least(size_t a, size_t b) { return a < b ? a : b; }
LACUNA_INLINE size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

/** As splat, in the form that GCC turns into one load that repeats its element. */
LACUNA_INLINE Vec repeat(float value) {
#if defined(__AVX512F__)
  return bits<Vec>(_mm512_set1_ps(value));
#else
  return splat(value);
#endif
}

/** For runs too short for memcpy's call. */
LACUNA_INLINE void copy_run(float* to, const float* from, size_t count) {
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    LACUNA_KEEP_LOOP;
    store(to + i, load(from + i));
  }
#if defined(__AVX512F__)
  if (i < count) {
    const __mmask16 rest = static_cast<__mmask16>((1u << (count - i)) - 1);
    _mm512_mask_storeu_ps(to + i, rest, _mm512_maskz_loadu_ps(rest, from + i));
  }
#else
  for (; i < count; i++) to[i] = from[i];
#endif
}
LACUNA_INLINE void zero_run(float* to, size_t count) {
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    LACUNA_KEEP_LOOP;
    store(to + i, Vec{});
  }
#if defined(__AVX512F__)
  if (i < count) {
    _mm512_mask_storeu_ps(to + i, static_cast<__mmask16>((1u << (count - i)) - 1), _mm512_setzero_ps());
  }
#else
  for (; i < count; i++) to[i] = 0;
#endif
}

/** p[i] = from[i] + v[i] for the first `count` lanes. */
LACUNA_INLINE void sum_part(float* p, const float* from, Vec v, size_t count) {
#if defined(__AVX512F__)
  const __mmask16 some = static_cast<__mmask16>((1u << count) - 1);
  const __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(some, from), bits<__m512>(v));
  _mm512_mask_storeu_ps(p, some, sum);
#else
  float lane[LANES];
  store(lane, v);
  for (size_t i = 0; i < count; i++) p[i] = from[i] + lane[i];
#endif
}

/** Distance of rows of A that is not known before the call: a_step says it, and terms lie side by side. */
inline constexpr size_t ANY = 0;

/**
 * C[i, column + j] += Σ a[i · STEP + l · a_step] · b[l · b_step + j] for M rows and the first `width` of V vectors; with
 * `start`, C[i, column + j] = start[column + j] + Σ: what C held is not read. b must be readable as whole vectors.
 */
template <size_t M, size_t V, size_t STEP>
void tile(size_t k, const float* a, size_t a_step, const float* b, size_t b_step, float* const* c, size_t column,
          size_t width, const float* start) {
  const size_t row = STEP == ANY ? a_step : STEP;
  if constexpr (STEP != 1) a_step = 1;
  Vec sums[M][V] = {};
  for (size_t l = 0; l < k; l++) {
    Vec right[V];
    LACUNA_UNROLL
    for (size_t v = 0; v < V; v++) right[v] = load(b + v * LANES);
    LACUNA_UNROLL
    for (size_t i = 0; i < M; i++) {
      const Vec left = repeat(a[i * row]);
      LACUNA_UNROLL
      for (size_t v = 0; v < V; v++) sums[i][v] = fma(left, right[v], sums[i][v]);
    }
    a += a_step;
    b += b_step;
  }
  const bool whole = width == V * LANES;
  LACUNA_UNROLL
  for (size_t i = 0; i < M; i++) {
    float* y = c[i] + column;
    const float* from = start ? start + column : y;
    LACUNA_UNROLL
    for (size_t v = 0; v + 1 < V; v++) store(y + v * LANES, load(from + v * LANES) + sums[i][v]);
    constexpr size_t LAST = (V - 1) * LANES;
    if (whole) {
      store(y + LAST, load(from + LAST) + sums[i][V - 1]);
    } else {
      sum_part(y + LAST, from + LAST, sums[i][V - 1], width - LAST);
    }
  }
}

using TileFunction = void (*)(size_t, const float*, size_t, const float*, size_t, float* const*, size_t, size_t,
                              const float*);

template <size_t V, size_t STEP, size_t M = MR>
struct TilesUpTo {
  static TileFunction of(size_t rows) {
    if constexpr (M == 1) {
      return tile<1, V, STEP>;
    } else {
      return rows == M ? tile<M, V, STEP> : TilesUpTo<V, STEP, M - 1>::of(rows);
    }
  }
};

/**
 * m rows by n columns of C. STEP: ROW where the rows of A lie at that distance and their terms side by side, ANY where
 * they lie a_step apart; 1 where its rows are side by side and its terms a_step apart. Panel j of B, NR columns wide,
 * starts at b + j · b_panel. C is added to, or is `start` plus the product.
 */
template <size_t STEP>
void block(size_t m, size_t n, size_t k, const float* a, size_t a_step, const float* b, size_t b_panel, size_t b_step,
           float* const* c, const float* start = nullptr) {
  const size_t tiles = ceil_div(m, MR);  // of equal heights, as a tile of few rows would wait for its own sums
  const size_t low = m / tiles;
  const size_t high_tiles = m - low * tiles;
  for (size_t j = 0; j < n; j += NR) {
    const size_t width = least(NR, n - j);
    const float* panel = b + j / NR * b_panel;
    const bool narrow = width <= LANES;
    const TileFunction high = narrow ? TilesUpTo<1, STEP>::of(low + 1 > MR ? MR : low + 1)
                                     : TilesUpTo<2, STEP>::of(low + 1 > MR ? MR : low + 1);
    const TileFunction rest = narrow ? TilesUpTo<1, STEP>::of(low) : TilesUpTo<2, STEP>::of(low);
    for (size_t t = 0, i = 0; t < tiles; t++) {
      const bool is_high = t < high_tiles;
      (is_high ? high : rest)(k, a + i * (STEP == ANY ? a_step : STEP), a_step, panel, b_step, c + i, j, width, start);
      i += is_high ? low + 1 : low;
    }
  }
}

/** y[i] += Σ parts[part, i], part after part. */
inline void add_parts(float* y, const float* parts, size_t size, size_t count) {
  if (count == 0) return;
  parallel_for(size, 16384, [&](size_t first, size_t last) {
    for (size_t part = 0; part < count; part++) {
      const float* from = parts + part * size;
      for (size_t i = first; i < last; i++) y[i] += from[i];
    }
  });
}

/** A cut of [0, count) into `parts` of nearly equal size: where part i begins. */
LACUNA_INLINE size_t cut(size_t count, size_t parts, size_t i) { return count * i / parts; }

/** Columns of a block where `blocks` of rows alone are too few items: a multiple of NR. */
LACUNA_INLINE size_t columns_of_block(size_t columns, size_t blocks) {
  const size_t panels = ceil_div(columns, NR);
  size_t splits = 1;
  while (blocks * splits < ITEMS && panels >= 4 * splits) splits *= 2;
  return ceil_div(panels, splits) * NR;
}

}  // namespace lacuna::cpu::LACUNA_ISA::gemm
