// Sums of columns: s[o, j] = sum over e = j, j + width, j + 2 width, … of f(x[o, e]), e < length. All reductions have
// this form: over the last axis (width 1), over leading axes (width = the rest), and partial sums of many lanes.
//
// Accuracy: at most BLOCK terms are added in f32, block sums in double. Order: fixed by the sizes alone.
// Shape: a narrow matrix is seen with `period` rows as one, so that TILE whole vectors are in hand at once and memory
// is read in order; the columns that were kept apart are folded at the end.
#pragma once
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::column_sums {

inline constexpr size_t BLOCK = 64;
/** Vectors of neighbouring columns with a sum each: enough to hide the time that an addition takes. */
inline constexpr size_t TILE = 8;
/** Terms that are worth a range of their own. */
inline constexpr size_t GRAIN = 32768;

struct Plain {
  template <class T>
  static LACUNA_INLINE T of(T x) { return x; }
};
struct Square {
  template <class T>
  static LACUNA_INLINE T of(T x) { return x * x; }
};

/** Adds columns [0, V · LANES) of `rows` full rows, `stride` apart, to sum: doubles, or floats for a single block. */
template <class F, size_t V, class Sum>
LACUNA_INLINE void add_rows(const float* x, size_t rows, size_t stride, Sum* sum) {
  for (size_t row = 0; row < rows; row += BLOCK) {
    const size_t end = row + BLOCK < rows ? row + BLOCK : rows;
    Vec s[V];
    for (size_t v = 0; v < V; v++) s[v] = Vec{};
    for (size_t r = row; r < end; r++) {
      for (size_t v = 0; v < V; v++) s[v] += F::of(load(x + r * stride + v * LANES));
    }
    float lane[V * LANES];
    std::memcpy(lane, s, sizeof(lane));
    for (size_t j = 0; j < V * LANES; j++) sum[j] += lane[j];
  }
}

/** Adds `columns` columns of `rows` full rows, `stride` apart, to sum; a last row of `rest` columns comes on top. */
template <class F, class Sum>
void add_matrix(const float* x, size_t rows, size_t stride, size_t columns, size_t rest, Sum* sum) {
  size_t j = 0;
  for (; j + TILE * LANES <= columns; j += TILE * LANES) add_rows<F, TILE>(x + j, rows, stride, sum + j);
  for (; j + LANES <= columns; j += LANES) add_rows<F, 1>(x + j, rows, stride, sum + j);
  if (j < columns) {
    for (size_t r = 0; r < rows; r++) {
      for (size_t k = j; k < columns; k++) sum[k] += F::of(x[r * stride + k]);
    }
  }
  for (size_t k = 0; k < rest; k++) sum[k] += F::of(x[rows * stride + k]);
}

/** The sum of one run that is not long. Its terms may cancel, so that fewer are added in f32. */
template <class F>
LACUNA_INLINE double row_sum(const float* x, size_t length) {
  constexpr size_t STEPS = 16;
  double total = 0;
  size_t i = 0;
  while (i + LANES <= length) {
    const size_t end = i + STEPS * LANES < length ? i + STEPS * LANES : length;
    Vec s{};
    for (; i + LANES <= end; i += LANES) s += F::of(load(x + i));
    total += sum(s);
  }
  for (; i < length; i++) total += F::of(x[i]);
  return total;
}

/** put(o, j, s) is called once for every sum. */
template <class F, class Put>
void compute(const float* x, size_t outer, size_t length, size_t width, const Put& put) {
  if (width == 1 && length <= 4096) {
    return parallel_for(outer, GRAIN / (length + 1) + 1, [&](size_t begin, size_t end) {
      for (size_t o = begin; o < end; o++) put(o, 0, row_sum<F>(x + o * length, length));
    });
  }
  const size_t rows = length / width;
  // Enough columns to give the threads work: each range has some of them, and all rows.
  constexpr size_t COLUMNS = 512;
  if (width >= LANES && (rows <= BLOCK || outer * width >= 32 * COLUMNS)) {
    const size_t blocks = (width + COLUMNS - 1) / COLUMNS;
    const size_t terms = (rows + 1) * (width < COLUMNS ? width : COLUMNS);
    const auto run = [&](auto zero, size_t begin, size_t end) {
      for (size_t i = begin; i < end; i++) {
        const size_t o = i / blocks, first = i % blocks * COLUMNS;
        const size_t columns = first + COLUMNS < width ? COLUMNS : width - first;
        const size_t left = length - rows * width;  // columns that have a term more
        const size_t rest = left <= first ? 0 : left - first < columns ? left - first : columns;
        decltype(zero) s[COLUMNS];
        for (size_t j = 0; j < columns; j++) s[j] = zero;
        add_matrix<F>(x + o * length + first, rows, width, columns, rest, s);
        for (size_t j = 0; j < columns; j++) put(o, first + j, s[j]);
      }
    };
    return parallel_for(outer * blocks, GRAIN / terms + 1, [&](size_t begin, size_t end) {
      if (rows <= BLOCK) run(0.0f, begin, end);
      else run(0.0, begin, end);
    });
  }
  if (length < 16 * LANES * TILE) {  // small and narrow: vectors would stay empty
    return parallel_for(outer, GRAIN / (length + 1) + 1, [&](size_t begin, size_t end) {
      for (size_t o = begin; o < end; o++) {
        for (size_t j = 0; j < width; j++) {
          double s = 0;
          for (size_t e = j; e < length; e += width) s += F::of(x[o * length + e]);
          put(o, j, s);
        }
      }
    });
  }
  size_t period = 1;
  while (width * period < TILE * LANES || (width * period % LANES != 0 && width * period < 1024)) period *= 2;
  const size_t wide = width * period;
  const size_t all = length / wide;
  // At most 64 ranges an item, each a whole number of blocks.
  size_t rows_of_range = (all + 63) / 64;
  if (rows_of_range * wide < GRAIN) rows_of_range = GRAIN / wide + 1;
  rows_of_range = (rows_of_range + BLOCK - 1) / BLOCK * BLOCK;
  const size_t ranges = all > rows_of_range ? (all + rows_of_range - 1) / rows_of_range : 1;
  Scratch<double> partial(outer * ranges * wide);
  parallel_for(outer * ranges, 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
      const size_t o = i / ranges, range = i % ranges, first = range * rows_of_range;
      const bool last = range == ranges - 1;
      double* s = partial.data() + i * wide;
      for (size_t j = 0; j < wide; j++) s[j] = 0;
      add_matrix<F>(x + o * length + first * wide, last ? all - first : rows_of_range, wide, wide,
                    last ? length - all * wide : 0, s);
    }
  });
  for (size_t o = 0; o < outer; o++) {
    double* s = partial.data() + o * ranges * wide;
    for (size_t i = width; i < ranges * wide; i++) s[i % width] += s[i];  // ranges in order, as wide is full of widths
    for (size_t j = 0; j < width; j++) put(o, j, s[j]);
  }
}

}  // namespace lacuna::cpu::LACUNA_ISA::column_sums
