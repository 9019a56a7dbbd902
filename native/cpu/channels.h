// Passes over a matrix [rows, channels] in which every channel has sums or factors of its own: what the norms share.
//
// Few channels, or a number that vectors do not divide, would leave lanes idle. So `period` rows are seen as one row of
// period · channels columns, whose length is a multiple of LANES; what was gathered per column is folded afterwards,
// what is given per channel is repeated beforehand.
#pragma once
#include <type_traits>

#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::channels {

/** Loads and stores of whole vectors, or of the last few elements of a run. */
struct Whole {
  LACUNA_INLINE Vec load(const float* p) const { return LACUNA_ISA::load(p); }
  LACUNA_INLINE void store(float* p, Vec v) const { LACUNA_ISA::store(p, v); }
};
struct Part {
  size_t count;
  LACUNA_INLINE Vec load(const float* p) const { return load_part(p, count); }
  LACUNA_INLINE void store(float* p, Vec v) const { store_part(p, v, count); }
};

inline size_t period_of(size_t rows, size_t channels) {
  size_t period = 1;
  while (period < LANES && channels * period % LANES != 0) period *= 2;
  if (channels * period > 2048) return 1;  // the repeated factors would not stay in the cache; a tail costs less there
  while (channels * period < 64) period *= 2;
  while (period > 1 && period > rows) period /= 2;
  return period;
}

/**
 * Calls f(io, c) for the vectors of the channels of one pixel. The last one overlaps the one before it where it can: what
 * it writes again is the same.
 */
template <class F>
LACUNA_INLINE void each_vector(size_t channels, const F& f) {
  size_t c = 0;
  for (; c + LANES <= channels; c += LANES) f(Whole{}, c);
  if (c == channels) return;
  if (channels > LANES) {
    f(Whole{}, channels - LANES);
  } else {
    f(Part{channels}, size_t{0});
  }
}

/**
 * Calls f(io, i, v) for all elements i = 0 … of [rows, channels] a vector at a time; v[k] points to the values of
 * vectors[k] (`[channels]` each) for these elements.
 */
template <size_t N, class F>
void each(size_t rows, size_t channels, const float* const (&vectors)[N], const F& f) {
  const size_t period = period_of(rows, channels);
  const size_t width = period * channels;
  Scratch<float> repeated(period > 1 ? N * width : 0);
  const float* factors[N];
  for (size_t k = 0; k < N; k++) {
    factors[k] = vectors[k];
    if (period == 1) continue;
    float* to = repeated.data() + k * width;
    for (size_t i = 0; i < period; i++) std::memcpy(to + i * channels, vectors[k], channels * sizeof(float));
    factors[k] = to;
  }
  const size_t total = rows * channels;
  parallel_for((total + width - 1) / width, width < 32768 ? 32768 / width : 1, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
      const size_t first = row * width;
      const size_t count = first + width < total ? width : total - first;
      const float* v[N];
      size_t j = 0;
      for (; j + LANES <= count; j += LANES) {
        for (size_t k = 0; k < N; k++) v[k] = factors[k] + j;
        f(Whole{}, first + j, v);
      }
      if (j < count) {
        for (size_t k = 0; k < N; k++) v[k] = factors[k] + j;
        f(Part{count - j}, first + j, v);
      }
    }
  });
}

/** Rows that are added up in f32 before they go into a double: the error stays near one rounding. */
inline constexpr size_t BLOCK = 64;
/** Vectors of a row that are in hand at once: a run of cache lines, and as many independent sums. */
inline constexpr size_t TILE = 4;

template <size_t V>
using Vectors = std::integral_constant<size_t, V>;

struct Ranges {
  size_t rows, count;  // of one range (a multiple of BLOCK), and how many
  Ranges(size_t all, size_t width) {
    rows = (all + 63) / 64;
    const size_t least = 32768 / width + 1;
    if (rows < least) rows = least;
    rows = (rows + BLOCK - 1) / BLOCK * BLOCK;
    count = (all + rows - 1) / rows;
  }
};

/** Means and sums of squared deviations of V vectors of columns over one block of rows. */
template <size_t V, class IO>
LACUNA_INLINE void block_moments(const float* x, size_t rows, size_t width, IO io, Vec* mean, Vec* m2) {
  for (size_t v = 0; v < V; v++) mean[v] = m2[v] = Vec{};
  for (size_t row = 0; row < rows; row++) {
    for (size_t v = 0; v < V; v++) mean[v] += io.load(x + row * width + v * LANES);
  }
  const Vec share = splat(1.0f / static_cast<float>(rows));
  for (size_t v = 0; v < V; v++) mean[v] *= share;
  // A second pass while the block is in the cache: squares of deviations do not cancel.
  for (size_t row = 0; row < rows; row++) {
    for (size_t v = 0; v < V; v++) {
      const Vec d = io.load(x + row * width + v * LANES) - mean[v];
      m2[v] = fma(d, d, m2[v]);
    }
  }
}

/** Joins the moments of `count` values to those of `before` values (Chan, Golub & LeVeque). */
LACUNA_INLINE void join(double before, double& mean, double& m2, double count, double other, double other_m2) {
  const double d = other - mean;
  const double share = count / (before + count);
  mean += d * share;
  m2 += other_m2 + d * d * before * share;
}

/**
 * Mean and sum of squared deviations of each column, as [channels] doubles. Ranges of rows run in parallel, in blocks
 * that fit the cache; blocks and ranges are joined in order.
 */
inline void moments(const float* x, size_t rows, size_t channels, double* mean, double* m2) {
  const size_t period = period_of(rows, channels);
  const size_t width = period * channels;
  const size_t whole = rows / period;
  const Ranges ranges(whole, width);
  Scratch<double> partial(ranges.count * 2 * width);
  parallel_for(ranges.count, 1, [&](size_t first, size_t last) {
    for (size_t range = first; range < last; range++) {
      double* means = partial.data() + range * 2 * width;
      double* m2s = means + width;
      for (size_t j = 0; j < 2 * width; j++) means[j] = 0;
      const size_t begin = range * ranges.rows;
      const size_t end = begin + ranges.rows < whole ? begin + ranges.rows : whole;
      for (size_t row = begin; row < end; row += BLOCK) {
        const size_t count = row + BLOCK < end ? BLOCK : end - row;
        const float* from = x + row * width;
        const auto take = [&](size_t j, size_t n, const Vec* block_mean, const Vec* block_m2) {
          float a[TILE * LANES], b[TILE * LANES];
          std::memcpy(a, block_mean, n * sizeof(float));
          std::memcpy(b, block_m2, n * sizeof(float));
          const double before = static_cast<double>(row - begin), own = static_cast<double>(count);
          for (size_t k = 0; k < n; k++) join(before, means[j + k], m2s[j + k], own, a[k], b[k]);
        };
        Vec a[TILE], b[TILE];
        size_t j = 0;
        for (; j + TILE * LANES <= width; j += TILE * LANES) {
          block_moments<TILE>(from + j, count, width, Whole{}, a, b);
          take(j, TILE * LANES, a, b);
        }
        for (; j + LANES <= width; j += LANES) {
          block_moments<1>(from + j, count, width, Whole{}, a, b);
          take(j, LANES, a, b);
        }
        if (j < width) {
          block_moments<1>(from + j, count, width, Part{width - j}, a, b);
          take(j, width - j, a, b);
        }
      }
    }
  });
  for (size_t c = 0; c < channels; c++) {
    double before = 0, all_mean = 0, all_m2 = 0;
    for (size_t range = 0; range < ranges.count; range++) {
      const size_t begin = range * ranges.rows;
      const double count = static_cast<double>((begin + ranges.rows < whole ? begin + ranges.rows : whole) - begin);
      const double* means = partial.data() + range * 2 * width;
      for (size_t j = c; j < width; j += channels) {
        join(before, all_mean, all_m2, count, means[j], means[width + j]);
        before += count;
      }
    }
    for (size_t row = whole * period; row < rows; row++) {
      join(before, all_mean, all_m2, 1, x[row * channels + c], 0);
      before += 1;
    }
    mean[c] = all_mean;
    m2[c] = all_m2;
  }
}

/**
 * K sums over the rows for each channel, `[K, channels]` doubles: term(io, i, v, t) puts the K terms of the elements from
 * i on into t; v as in `each`.
 */
template <size_t K, size_t N, class F>
void sums(size_t rows, size_t channels, const float* const (&vectors)[N], double* result, const F& term) {
  const size_t period = period_of(rows, channels);
  const size_t width = period * channels;
  const size_t total = rows * channels;
  Scratch<float> repeated(N * width);
  for (size_t k = 0; k < N; k++) {
    for (size_t i = 0; i < period; i++) {
      std::memcpy(repeated.data() + k * width + i * channels, vectors[k], channels * sizeof(float));
    }
  }
  const size_t whole = rows / period;
  const Ranges ranges(whole, width);
  Scratch<double> partial(ranges.count * K * width);
  parallel_for(ranges.count, 1, [&](size_t first, size_t last) {
    for (size_t range = first; range < last; range++) {
      double* sum = partial.data() + range * K * width;
      for (size_t j = 0; j < K * width; j++) sum[j] = 0;
      const size_t begin = range * ranges.rows;
      const size_t end = begin + ranges.rows < whole ? begin + ranges.rows : whole;
      for (size_t row = begin; row < end; row += BLOCK) {
        const size_t count = row + BLOCK < end ? BLOCK : end - row;
        const auto block = [&](size_t j, auto io, auto tile, size_t n) {
          constexpr size_t V = decltype(tile)::value;
          Vec s[K][V];
          for (size_t k = 0; k < K; k++) {
            for (size_t v = 0; v < V; v++) s[k][v] = Vec{};
          }
          for (size_t r = 0; r < count; r++) {
            for (size_t v = 0; v < V; v++) {
              const float* at[N ? N : 1];
              for (size_t k = 0; k < N; k++) at[k] = repeated.data() + k * width + j + v * LANES;
              Vec t[K];
              term(io, (row + r) * width + j + v * LANES, at, t);
              for (size_t k = 0; k < K; k++) s[k][v] += t[k];
            }
          }
          for (size_t k = 0; k < K; k++) {
            float lane[V * LANES];
            std::memcpy(lane, s[k], sizeof(lane));
            for (size_t i = 0; i < n; i++) sum[k * width + j + i] += lane[i];
          }
        };
        size_t j = 0;
        for (; j + TILE * LANES <= width; j += TILE * LANES) block(j, Whole{}, Vectors<TILE>{}, TILE * LANES);
        for (; j + LANES <= width; j += LANES) block(j, Whole{}, Vectors<1>{}, LANES);
        if (j < width) block(j, Part{width - j}, Vectors<1>{}, width - j);
      }
    }
  });
  for (size_t c = 0; c < K * channels; c++) result[c] = 0;
  for (size_t range = 0; range < ranges.count; range++) {
    for (size_t k = 0; k < K; k++) {
      const double* sum = partial.data() + (range * K + k) * width;
      for (size_t j = 0; j < width; j += channels) {
        for (size_t c = 0; c < channels; c++) result[k * channels + c] += sum[j + c];
      }
    }
  }
  // The rows that are left are fewer than a period: one run of elements that starts a repetition.
  const size_t rest = whole * width;
  for (size_t j = 0; rest + j < total; j += LANES) {
    const size_t n = rest + j + LANES < total ? LANES : total - rest - j;
    const float* at[N ? N : 1];
    for (size_t k = 0; k < N; k++) at[k] = repeated.data() + k * width + j;
    Vec t[K];
    term(Part{n}, rest + j, at, t);
    for (size_t k = 0; k < K; k++) {
      for (size_t i = 0; i < n; i++) result[k * channels + (j + i) % channels] += t[k][i];
    }
  }
}

}  // namespace lacuna::cpu::LACUNA_ISA::channels
