// Tiles for kernels whose rows (pixels) have few classes: LANES rows are turned so that each class is one vector over
// the rows, and maxima and sums over classes need no work across lanes. Rows of four classes and more are turned in
// squares of 4 x 4; the last square overlaps the one before it, so that nothing outside the rows is read or written.
#pragma once
#include <utility>

#include "kernel.h"
#include "math.h"

namespace lacuna::cpu::LACUNA_ISA {

/** Rows of one parallel range: whole tiles. */
inline size_t rows_per_range(size_t rows, size_t classes) {
  return (items_in_range(rows, classes) + LANES - 1) / LANES * LANES;
}

/** `count` floats, LANES at most: the last vector of a range may be short. */
LACUNA_INLINE Vec load_some(const float* p, size_t count) { return count == LANES ? load(p) : load_part(p, count); }
LACUNA_INLINE void store_some(float* p, Vec v, size_t count) {
  if (count == LANES) {
    store(p, v);
  } else {
    store_part(p, v, count);
  }
}

#if LACUNA_SHUFFLE
using Quad = float __attribute__((vector_size(16)));
LACUNA_INLINE Quad load_quad(const float* p) {
  Quad q;
  std::memcpy(&q, p, sizeof(q));
  return q;
}
LACUNA_INLINE void store_quad(float* p, Quad q) { std::memcpy(p, &q, sizeof(q)); }

/** Four classes of rows 0, 4, 8, …; `stride` floats lie between rows. */
LACUNA_INLINE Vec load_quads(const float* p, size_t stride) {
  const Quad a = load_quad(p);
  if constexpr (LANES == 4) {
    return bits<Vec>(a);
  } else {
    const auto ab = __builtin_shufflevector(a, load_quad(p + 4 * stride), 0, 1, 2, 3, 4, 5, 6, 7);
    if constexpr (LANES == 8) {
      return bits<Vec>(ab);
    } else {
      const Quad c = load_quad(p + 8 * stride);
      const auto cd = __builtin_shufflevector(c, load_quad(p + 12 * stride), 0, 1, 2, 3, 4, 5, 6, 7);
      return bits<Vec>(__builtin_shufflevector(ab, cd, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    }
  }
}
LACUNA_INLINE void store_quads(float* p, size_t stride, Vec v) {
  store_quad(p, __builtin_shufflevector(v, v, 0, 1, 2, 3));
  if constexpr (LANES > 4) {
    store_quad(p + 4 * stride, __builtin_shufflevector(v, v, 4 % LANES, 5 % LANES, 6 % LANES, 7 % LANES));
  }
  if constexpr (LANES > 8) {
    store_quad(p + 8 * stride, __builtin_shufflevector(v, v, 8 % LANES, 9 % LANES, 10 % LANES, 11 % LANES));
    store_quad(p + 12 * stride, __builtin_shufflevector(v, v, 12 % LANES, 13 % LANES, 14 % LANES, 15 % LANES));
  }
}

/** In every four lanes: a0 b0 a1 b1 (first 0) or a2 b2 a3 b3 (first 2). */
template <size_t First, size_t... I>
LACUNA_INLINE Vec interleave(Vec a, Vec b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (I % 2 * LANES + I / 4 * 4 + First + I % 4 / 2)...);
}
/** In every four lanes: a0 a1 b0 b1 (first 0) or a2 a3 b2 b3 (first 2). */
template <size_t First, size_t... I>
LACUNA_INLINE Vec join(Vec a, Vec b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (I % 4 / 2 * LANES + I / 4 * 4 + First + I % 2)...);
}
/** Turns the 4 x 4 squares that lie side by side in v; its own inverse. */
LACUNA_INLINE void turn(Vec v[4]) {
  constexpr auto all = std::make_index_sequence<LANES>();
  const Vec ab_low = interleave<0>(v[0], v[1], all), ab_high = interleave<2>(v[0], v[1], all);
  const Vec cd_low = interleave<0>(v[2], v[3], all), cd_high = interleave<2>(v[2], v[3], all);
  v[0] = join<0>(ab_low, cd_low, all);
  v[1] = join<2>(ab_low, cd_low, all);
  v[2] = join<0>(ab_high, cd_high, all);
  v[3] = join<2>(ab_high, cd_high, all);
}
#endif

template <size_t Classes>
LACUNA_INLINE void load_narrow(const float* x, float* tile) {
  for (size_t l = 0; l < LANES; l++) {
    for (size_t k = 0; k < Classes; k++) tile[k * LANES + l] = x[l * Classes + k];
  }
}
template <size_t Classes>
LACUNA_INLINE void store_narrow(float* x, const float* tile) {
  for (size_t l = 0; l < LANES; l++) {
    for (size_t k = 0; k < Classes; k++) x[l * Classes + k] = tile[k * LANES + l];
  }
}

/** tile[k, l] = x[l, k] for `count` rows; 0 in the lanes past them. */
inline void load_tile(const float* x, size_t classes, size_t count, float* tile) {
  if (count == LANES) {
    if (classes == 1) return load_narrow<1>(x, tile);
    if (classes == 2) return load_narrow<2>(x, tile);
    if (classes == 3) return load_narrow<3>(x, tile);
#if LACUNA_SHUFFLE
    for (size_t k = 0;;) {
      Vec v[4];
      for (size_t i = 0; i < 4; i++) v[i] = load_quads(x + i * classes + k, classes);
      turn(v);
      for (size_t i = 0; i < 4; i++) store(tile + (k + i) * LANES, v[i]);
      if (k + 4 >= classes) return;
      k = k + 8 <= classes ? k + 4 : classes - 4;
    }
#endif
  }
  for (size_t k = 0; k < classes; k++) {
    for (size_t l = 0; l < LANES; l++) tile[k * LANES + l] = l < count ? x[l * classes + k] : 0.0f;
  }
}

/** x[l, k] = tile[k, l] for `count` rows. */
inline void store_tile(float* x, size_t classes, size_t count, const float* tile) {
  if (count == LANES) {
    if (classes == 1) return store_narrow<1>(x, tile);
    if (classes == 2) return store_narrow<2>(x, tile);
    if (classes == 3) return store_narrow<3>(x, tile);
#if LACUNA_SHUFFLE
    for (size_t k = 0;;) {
      Vec v[4];
      for (size_t i = 0; i < 4; i++) v[i] = load(tile + (k + i) * LANES);
      turn(v);
      for (size_t i = 0; i < 4; i++) store_quads(x + i * classes + k, classes, v[i]);
      if (k + 4 >= classes) return;
      k = k + 8 <= classes ? k + 4 : classes - 4;
    }
#endif
  }
  for (size_t l = 0; l < count; l++) {
    for (size_t k = 0; k < classes; k++) x[l * classes + k] = tile[k * LANES + l];
  }
}

/**
 * Calls f(row, count, tile) for tiles of x, `[rows, classes]`, in parallel: `count` rows from `row` on, and memory for
 * `tiles` tiles, of which the first holds those rows.
 */
template <class F>
void each_tile(const float* x, size_t rows, size_t classes, size_t tiles, const F& f) {
  parallel_for(rows, rows_per_range(rows, classes), [&](size_t begin, size_t end) {
    Scratch<float> tile(tiles * classes * LANES);
    for (size_t row = begin; row < end; row += LANES) {
      const size_t count = end - row < LANES ? end - row : LANES;
      load_tile(x + row * classes, classes, count, tile.data());
      f(row, count, tile.data());
    }
  });
}

/** What partial sum t of `parts` adds up: contiguous, of whole vectors but for the last. */
struct Shares {
  size_t items, size;
  Shares(size_t items, size_t parts) : items(items), size(((items + parts - 1) / parts + LANES - 1) / LANES * LANES) {
    if (size == 0) size = LANES;
  }
  size_t begin(size_t t) const { return t * size < items ? t * size : items; }
  size_t end(size_t t) const { return begin(t + 1); }
};

/** Labels of `count` rows; -1, which is no class, for those that are ignored and past the rows. */
LACUNA_INLINE IVec load_labels(const uint32_t* labels, size_t count, uint32_t ignore) {
  IVec y = splat_int(-1);
  if (count == LANES) {
    std::memcpy(&y, labels, sizeof(y));
  } else {
    std::memcpy(&y, labels, count * sizeof(uint32_t));
  }
  return bits<IVec>(select(y == splat_int(static_cast<int32_t>(ignore)), bits<Vec>(splat_int(-1)), bits<Vec>(y)));
}

LACUNA_INLINE Vec largest_of(const float* tile, size_t classes) {
  Vec largest = load(tile);
  for (size_t k = 1; k < classes; k++) largest = max(load(tile + k * LANES), largest);
  return largest;
}

/** The largest of each row, and ln of the sum of the exponentials of the distances to it. */
struct LogSum {
  Vec largest, log;
};
/** The largest's own exponential, 1, is left to log1p: small sums of the others beside it keep their digits. */
LACUNA_INLINE LogSum log_sum(const float* tile, size_t classes) {
  Vec largest = load(tile);
  Vec at = splat(0.0f);  // which class it is; exact below 2^24
  for (size_t k = 1; k < classes; k++) {
    const Vec z = load(tile + k * LANES);
    const Mask above = z > largest;
    at = select(above, splat(static_cast<float>(k)), at);
    largest = select(above, z, largest);
  }
  Vec others = splat(0.0f);
  for (size_t k = 0; k < classes; k++) {
    const Vec e = exp(load(tile + k * LANES) - largest);
    // a NaN is the largest of no comparison but must show: it is never left out, except where it comes first
    others += select((at == splat(static_cast<float>(k))) & (e == e), splat(0.0f), e);
  }
  return {largest, log1p(others)};
}

}  // namespace lacuna::cpu::LACUNA_ISA
