// y[i, j] = Σ a[i, l] · b[l, j], either operand in any order of its elements. b is packed once, into panels of NR
// columns; a range owns a block of y, for which it copies DEPTH terms of its rows of a at a time: rows of a as they are
// where their terms are neighbours, terms of a where their rows are. Where y is small and the sums are long, the sums
// are cut in parts that are added up in order.
#include "gemm.h"

namespace lacuna::cpu::LACUNA_ISA::matmul {

using gemm::ceil_div;
using gemm::cut;
using gemm::least;

struct Params {
  uint32_t m, n, k, a_row, a_column, b_row, b_column;
};
struct Vec4Params {
  uint32_t m, n, k;
};

/** Distance of terms of a, a block of rows each, where rows are neighbours. */
inline constexpr size_t TERM = gemm::BLOCK + 16;
/** Terms that a part adds up at least. */
inline constexpr size_t PART_TERMS = 2048;

inline void multiply(const Params& p, const Args& args) {
  const float* a = args.in(0);
  const float* b = args.in(1);
  const size_t m = p.m;
  const size_t n = p.n;
  const size_t k = p.k;
  const size_t a_row = p.a_row;
  const size_t a_column = p.a_column;
  const size_t b_row = p.b_row;
  const size_t b_column = p.b_column;
  const size_t panels = ceil_div(n, gemm::NR);
  Scratch<float> packed(panels * k * gemm::NR);
  const size_t strip = 64;  // terms that one range packs of a panel
  const size_t strips = ceil_div(k, strip);
  parallel_for(panels * strips, 16384 / (strip * gemm::NR), [&](size_t first, size_t last) {
    for (size_t item = first; item < last; item++) {
      const size_t column = item / strips * gemm::NR;
      const size_t width = least(gemm::NR, n - column);
      const size_t begin = item % strips * strip;
      const size_t end = least(k, begin + strip);
      float* panel = packed.data() + column * k;
      const float* from = b + column * b_column;
      for (size_t l = begin; l < end; l++) {
        float* row = panel + l * gemm::NR;
        if (b_column == 1) {
          gemm::copy_run(row, from + l * b_row, width);
        } else {
          for (size_t j = 0; j < width; j++) row[j] = from[l * b_row + j * b_column];
        }
        gemm::zero_run(row + width, gemm::NR - width);
      }
    }
  });

  const size_t blocks = ceil_div(m, gemm::BLOCK);
  const size_t columns = gemm::columns_of_block(n, blocks);
  const size_t splits = ceil_div(n, columns);
  const size_t tasks = blocks * splits;
  const size_t parts = least(ceil_div(k, PART_TERMS), ceil_div(gemm::ITEMS, tasks));
  float* y = args.out(0);
  Scratch<float> partial((parts - 1) * m * n + 1);
  parallel_for(tasks * parts, ceil_div(tasks * parts, 128), [&](size_t first, size_t last) {
    Scratch<float> left(gemm::BLOCK * gemm::ROW > gemm::DEPTH * TERM ? gemm::BLOCK * gemm::ROW : gemm::DEPTH * TERM);
    Scratch<float*> targets(gemm::BLOCK);
    for (size_t item = first; item < last; item++) {
      const size_t part = item / tasks;
      const size_t at = item % tasks / splits;
      const size_t column = item % splits * columns;
      const size_t width = least(columns, n - column);
      const size_t row = cut(m, blocks, at);
      const size_t rows = cut(m, blocks, at + 1) - row;
      float* corner = (part ? partial.data() + (part - 1) * m * n : y) + row * n + column;
      for (size_t i = 0; i < rows; i++) {
        targets[i] = corner + i * n;
        gemm::zero_run(targets[i], width);
      }
      const size_t begin = cut(k, parts, part);
      const size_t terms = cut(k, parts, part + 1) - begin;
      const size_t passes = ceil_div(terms, gemm::DEPTH);
      for (size_t pass = 0; pass < passes; pass++) {
        const size_t l = begin + cut(terms, passes, pass);
        const size_t depth = begin + cut(terms, passes, pass + 1) - l;
        const float* from = a + row * a_row + l * a_column;
        const float* right = packed.data() + column * k + l * gemm::NR;
        if (a_row == 1 && a_column != 1) {
          for (size_t t = 0; t < depth; t++) gemm::copy_run(left.data() + t * TERM, from + t * a_column, rows);
          gemm::block<1>(rows, width, depth, left.data(), TERM, right, k * gemm::NR, gemm::NR, targets.data());
          continue;
        }
        for (size_t i = 0; i < rows; i++) {
          float* to = left.data() + i * gemm::ROW;
          if (a_column == 1) {
            gemm::copy_run(to, from + i * a_row, depth);
          } else {
            for (size_t t = 0; t < depth; t++) to[t] = from[i * a_row + t * a_column];
          }
        }
        gemm::block<gemm::ROW>(rows, width, depth, left.data(), 1, right, k * gemm::NR, gemm::NR, targets.data());
      }
    }
  });
  gemm::add_parts(y, partial.data(), m * n, parts - 1);
}

inline void multiply_vec4(const Vec4Params& p, const Args& a) { multiply({p.m, p.n, p.k, p.k, 1, p.n, 1}, a); }

const Register kernels[] = {
    {"matmul.multiply", 2, 1, multiply},
    {"matmul.multiply_vec4", 2, 1, multiply_vec4},
};

}  // namespace lacuna::cpu::LACUNA_ISA::matmul
