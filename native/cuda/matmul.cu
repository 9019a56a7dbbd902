// y[i, j] = Σ over l of a[i, l] · b[l, j], either operand in any order of its elements: tiles in f32 (gemm_tile.h). A slab
// is read in vectors of four along whichever axis has neighbours in memory, so a transposed operand costs nothing more;
// where sizes or addresses do not allow that, element by element. Where y is small and the sums are long, they are cut into
// splits that are added up in order.
#include "gemm_tile.h"

namespace lacuna::cuda::matmul {
namespace {

struct Params {
  uint32_t m, n, k, a_row, a_column, b_row, b_column;
};
struct Vec4Params {
  uint32_t m, n, k;
};
struct Grid {
  uint32_t tiles_n, steps;  // of DEPTH terms, in all splits
  uint32_t splits;
};

/** Rows of a, or columns of b, from the tile's first one. */
template <class T, int EXTENT, int THREADS, bool ALONG_TERMS, int V>
struct Operand {
  using Slab = gemm::Slab<T, EXTENT, THREADS, ALONG_TERMS, V>;
  const T* at;
  uint32_t rows, terms;  // that there are, from `at`
  uint32_t row_pitch, term_pitch;
  __device__ __forceinline__ void prepare(unsigned) {}
  __device__ __forceinline__ void fetch(unsigned step, Slab& slab) {
#pragma unroll
    for (int i = 0; i < Slab::ITEMS; i++) {
      const uint32_t row = static_cast<uint32_t>(Slab::row(i));
      const uint32_t term = step * gemm::DEPTH + static_cast<uint32_t>(Slab::term(i));
      const size_t offset = static_cast<size_t>(row) * row_pitch + static_cast<size_t>(term) * term_pitch;
      slab.set(i, row < rows && term < terms, at + offset);
    }
  }
};

/** A block owns a tile of y and a split; neighbouring blocks share rows of a. */
template <class T, class Tile, bool A_TERMS, bool B_TERMS, int V>
__global__ void __launch_bounds__(Tile::THREADS, Tile::BLOCKS)
    multiply_kernel(Params p, Grid grid, const T* a, const T* b, T* y, float* partials) {
  auto& memory = shared<gemm::Memory<Tile>>();
  const uint32_t column = blockIdx.x % grid.tiles_n * Tile::N, row = blockIdx.x / grid.tiles_n * Tile::M;
  const uint32_t split = blockIdx.y;
  const uint32_t step0 = gemm::cut(grid.steps, grid.splits, split);
  const uint32_t step1 = gemm::cut(grid.steps, grid.splits, split + 1);
  const size_t term = static_cast<size_t>(step0) * gemm::DEPTH;
  const uint32_t terms = p.k - min(p.k, step0 * gemm::DEPTH);
  const T* from_a = a + (static_cast<size_t>(row) * p.a_row + term * p.a_column);
  const T* from_b = b + (term * p.b_row + static_cast<size_t>(column) * p.b_column);
  Operand<T, Tile::M, Tile::THREADS, A_TERMS, V> left{from_a, p.m - row, terms, p.a_row, p.a_column};
  Operand<T, Tile::N, Tile::THREADS, B_TERMS, V> right{from_b, p.n - column, terms, p.b_column, p.b_row};
  gemm::Sums<Tile> sums;
  gemm::multiply<Tile>(memory, left, right, step1 - step0, sums);

  const bool vectors = p.n % 4 == 0;
#pragma unroll
  for (int i = 0; i < Tile::TM; i++) {
    const uint32_t to_row = row + static_cast<uint32_t>(gemm::Sums<Tile>::row(i));
    if (to_row >= p.m) continue;
#pragma unroll
    for (int j = 0; j < Tile::TN; j += 4) {
      const uint32_t to_column = column + static_cast<uint32_t>(gemm::Sums<Tile>::column(j));
      const uint32_t length = gemm::run_length(to_column, p.n);
      const float run[4] = {sums.v[i][j], sums.v[i][j + 1], sums.v[i][j + 2], sums.v[i][j + 3]};
      const size_t at = static_cast<size_t>(to_row) * p.n + to_column;
      if (partials) {
        float* to = partials + (static_cast<size_t>(split) * p.m * p.n + at);
        vectors ? gemm::store_run<4>(to, length, run) : gemm::store_run<1>(to, length, run);
      } else {
        vectors ? gemm::store_run<4>(y + at, length, run) : gemm::store_run<1>(y + at, length, run);
      }
    }
  }
}

template <class T, bool A_TERMS, bool B_TERMS, int V>
void multiply_in(const Params& p, const Args& args, const T* a, const T* b, T* y) {
  const auto plan = gemm::plan(args, p.m, p.n, p.k, 1, V > 1, true);
  const size_t count = static_cast<size_t>(p.m) * p.n;
  float* partials = plan.splits > 1 ? args.scratch(plan.splits * count) : nullptr;
  gemm::with_tile<V>(plan.size, [&](auto t) {
    using Tile = decltype(t);
    const Grid grid{ceil_div(p.n, Tile::N), ceil_div(p.k, gemm::DEPTH), plan.splits};
    args.launch(multiply_kernel<T, Tile, A_TERMS, B_TERMS, V>, dim3(grid.tiles_n * ceil_div(p.m, Tile::M), plan.splits),
                dim3(Tile::THREADS), sizeof(gemm::Memory<Tile>), p, grid, a, b, y, partials);
  });
  if (!partials) return;
  if (count % 4 == 0) {
    each(args, count / 4, gemm::AddSplits<T, 4>{partials, plan.splits, count, {}, 1, y});
  } else {
    each(args, count, gemm::AddSplits<T, 1>{partials, plan.splits, count, {}, 1, y});
  }
}

void multiply(const Params& p, const Args& args) {
  with_type(args.in_type(0), [&](auto t) {
    using T = decltype(t);
    const T *a = args.in<T>(0), *b = args.in<T>(1);
    T* y = args.out<T>(0);
    const bool aligned = in_vectors<4>(4, a, b, y);
    const bool a_terms = p.a_column == 1 && p.a_row % 4 == 0 && p.k % 4 == 0;
    const bool b_terms = p.b_row == 1 && p.b_column % 4 == 0 && p.k % 4 == 0;
    const bool a_rows = p.a_row == 1 && p.a_column % 4 == 0 && p.m % 4 == 0;
    const bool b_columns = p.b_column == 1 && p.b_row % 4 == 0 && p.n % 4 == 0;
    if (aligned && a_terms && b_columns) {
      multiply_in<T, true, false, 4>(p, args, a, b, y);
    } else if (aligned && a_terms && b_terms) {
      multiply_in<T, true, true, 4>(p, args, a, b, y);
    } else if (aligned && a_rows && b_columns) {
      multiply_in<T, false, false, 4>(p, args, a, b, y);
    } else if (aligned && a_rows && b_terms) {
      multiply_in<T, false, true, 4>(p, args, a, b, y);
    } else {
      multiply_in<T, true, false, 1>(p, args, a, b, y);
    }
  });
}
void multiply_vec4(const Vec4Params& p, const Args& args) { multiply({p.m, p.n, p.k, p.k, 1, p.n, 1}, args); }

const Register kernels[] = {
    {"matmul.multiply", 2, 1, multiply},
    {"matmul.multiply_vec4", 2, 1, multiply_vec4},
};

}  // namespace
}  // namespace lacuna::cuda::matmul
