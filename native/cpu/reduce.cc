// Over the middle axis of [outer, length, inner]: sums, maxima and their gradients. Sums run over blocks of 64 rows in
// f32, which vectorises along inner (or, where inner is 1, along the rows), and add the blocks in double. Where there are
// few sums, ranges own fixed blocks of rows and their sums are added in order; else a range owns some of the sums.
#include <cstring>

#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::reduce {

inline constexpr size_t GRAIN = 32768;  // elements of a range
inline constexpr size_t BLOCK = 64;     // rows added in f32

struct SumParams {
  uint32_t outer, length, inner, splits;
};
struct Params {
  uint32_t outer, length, inner;
};

/** sums[i] += Σ over `rows` rows of `inner` elements, `stride` apart. `block` holds inner floats. */
inline void add_rows(const float* x, size_t rows, size_t stride, size_t inner, float* block, double* sums) {
  if (inner == 1 && stride == 1) {
    double total = 0;
    size_t l = 0;
    for (; l + 8 * LANES <= rows;) {
      Vec lanes[4] = {};
      for (size_t i = 0; i < BLOCK / 4 && l + 4 * LANES <= rows; i++, l += 4 * LANES) {
        for (size_t v = 0; v < 4; v++) lanes[v] = lanes[v] + load(x + l + v * LANES);
      }
      total += sum((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
    }
    for (; l < rows; l++) total += x[l];
    *sums += total;
    return;
  }
  for (size_t l = 0; l < rows; l += BLOCK) {
    const size_t end = l + BLOCK < rows ? l + BLOCK : rows;
    std::memcpy(block, x + l * stride, inner * sizeof(float));
    for (size_t r = l + 1; r < end; r++) {
      const float* row = x + r * stride;
      for (size_t i = 0; i < inner; i++) block[i] += row[i];
    }
    for (size_t i = 0; i < inner; i++) sums[i] += block[i];
  }
}

/** y[o, s, i] = Σ over l ≡ s (mod splits) of x[o, l, i] */
inline void sum_axis(const SumParams& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  const size_t length = p.length, inner = p.inner, splits = p.splits;
  const size_t lines = p.outer * splits;
  const size_t stride = splits * inner;
  const auto line_start = [&](size_t line) { return x + (line / splits * length + line % splits) * inner; };
  const auto rows_of = [&](size_t line) { return (length - line % splits + splits - 1) / splits; };
  const size_t rows = (length + splits - 1) / splits;  // of the longest line
  if (lines < 32 && rows * inner >= 2 * GRAIN) {
    const size_t step = ((GRAIN + inner - 1) / inner + BLOCK - 1) / BLOCK * BLOCK;
    const size_t blocks = (rows + step - 1) / step;
    Scratch<double> partial(lines * blocks * inner);
    parallel_for(lines * blocks, 1, [&](size_t begin, size_t end) {
      Scratch<float> block(inner);
      for (size_t item = begin; item < end; item++) {
        const size_t line = item / blocks, first = item % blocks * step;
        double* sums = partial.data() + item * inner;
        for (size_t i = 0; i < inner; i++) sums[i] = 0;
        const size_t own = rows_of(line);
        if (first >= own) continue;
        const size_t count = step < own - first ? step : own - first;
        add_rows(line_start(line) + first * stride, count, stride, inner, block.data(), sums);
      }
    });
    for (size_t line = 0; line < lines; line++) {
      for (size_t i = 0; i < inner; i++) {
        double total = 0;
        for (size_t block = 0; block < blocks; block++) total += partial[(line * blocks + block) * inner + i];
        y[line * inner + i] = static_cast<float>(total);
      }
    }
    return;
  }
  parallel_for(lines, GRAIN / (rows * inner + 1) + 1, [&](size_t begin, size_t end) {
    Scratch<float> block(inner);
    Scratch<double> sums(inner);
    for (size_t line = begin; line < end; line++) {
      for (size_t i = 0; i < inner; i++) sums[i] = 0;
      add_rows(line_start(line), rows_of(line), stride, inner, block.data(), sums.data());
      for (size_t i = 0; i < inner; i++) y[line * inner + i] = static_cast<float>(sums[i]);
    }
  });
}

/** dx[o, l, i] = dy[o, i] */
inline void expand(const Params& p, const Args& a) {
  const float* dy = a.in(0);
  float* dx = a.out(0);
  const size_t length = p.length, inner = p.inner;
  parallel_for(p.outer * length, GRAIN / inner + 1, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end;) {
      const size_t o = row / length;
      const size_t last = (o + 1) * length < end ? (o + 1) * length : end;
      if (inner == 1) {
        for (const float value = dy[o]; row < last; row++) dx[row] = value;
      } else {
        for (; row < last; row++) std::memcpy(dx + row * inner, dy + o * inner, inner * sizeof(float));
      }
    }
  });
}

/** y[o, i] = max over l of x[o, l, i], index[o, i] its first place. A range owns some columns of some o. */
inline void maximum(const Params& p, const Args& a) {
  constexpr size_t COLUMNS = 256;
  const float* x = a.in(0);
  float* y = a.out(0);
  uint32_t* index = a.out<uint32_t>(1);
  const size_t length = p.length, inner = p.inner;
  const size_t strips = (inner + COLUMNS - 1) / COLUMNS;
  const size_t width = inner < COLUMNS ? inner : COLUMNS;
  parallel_for(p.outer * strips, GRAIN / (length * width) + 1, [&](size_t begin, size_t end) {
    for (size_t item = begin; item < end; item++) {
      const size_t o = item / strips, first = item % strips * COLUMNS;
      const size_t count = inner - first < COLUMNS ? inner - first : COLUMNS;
      const float* from = x + o * length * inner + first;
      float* best = y + o * inner + first;
      uint32_t* place = index + o * inner + first;
      for (size_t i = 0; i < count; i++) {
        best[i] = from[i];
        place[i] = 0;
      }
      for (size_t l = 1; l < length; l++) {
        const float* row = from + l * inner;
        for (size_t i = 0; i < count; i++) {
          const bool larger = row[i] > best[i];
          place[i] = larger ? static_cast<uint32_t>(l) : place[i];
          best[i] = larger ? row[i] : best[i];
        }
      }
    }
  });
}

/** dx[o, l, i] = index[o, i] = l ? dy[o, i] : 0 */
inline void route(const Params& p, const Args& a) {
  const float* dy = a.in(0);
  const uint32_t* index = a.in<uint32_t>(1);
  float* dx = a.out(0);
  const size_t length = p.length, inner = p.inner;
  parallel_for(p.outer * length, GRAIN / inner + 1, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
      const size_t o = row / length, l = row - o * length;
      for (size_t i = 0; i < inner; i++) {
        dx[row * inner + i] = index[o * inner + i] == l ? dy[o * inner + i] : 0.0f;
      }
    }
  });
}

const Register kernels[] = {
    {"reduce.sum", 1, 1, sum_axis},
    {"reduce.expand", 1, 1, expand},
    {"reduce.maximum", 1, 2, maximum},
    {"reduce.route", 2, 1, route},
};

}  // namespace lacuna::cpu::LACUNA_ISA::reduce
