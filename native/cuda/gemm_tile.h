// A block's tile of a matrix product in f32: sums[m, n] = Σ over k of a[m, k] · b[k, n], for the convolution and matmul.
//
// The block walks along k in steps of DEPTH terms. A step's slab of each operand lies in shared memory as [k, row of a or
// column of b]; there are two, and while the threads multiply one, the elements of the next are on their way in registers.
// A thread owns TM x TN sums, in runs of four whose neighbours belong to neighbouring lanes: all reads are of 16 bytes and
// without bank conflicts. Where the elements come from is the operands' affair (a matrix, pixels of a map): each fetches,
// into a Slab, what this thread brings.
#pragma once
#include "epilogue.h"

namespace lacuna::cuda::gemm {

constexpr int DEPTH = 8;

template <int ROWS, int COLUMNS, int THREAD_ROWS, int THREAD_COLUMNS>
struct Tile {
  static constexpr int M = ROWS, N = COLUMNS, TM = THREAD_ROWS, TN = THREAD_COLUMNS;
  static constexpr int THREADS = M * N / (TM * TN);
  static constexpr int BLOCKS = THREADS == 256 ? 2 : 384 / THREADS;  // on a multiprocessor, at least
};
using Large = Tile<128, 128, 8, 8>;
using Medium = Tile<128, 64, 8, 8>;
using Small = Tile<64, 32, 8, 4>;

template <class Tile>
struct Memory {
  alignas(16) float a[2][DEPTH][Tile::M];
  alignas(16) float b[2][DEPTH][Tile::N];
};

/** Row r of term k lies at r ^ swizzle(k): threads that write four terms of one row each do not meet in a bank. */
__device__ __forceinline__ constexpr int swizzle(int k) { return k / 4 * 16; }

/** What one of THREADS threads brings of [DEPTH, EXTENT] elements, in vectors of V: of neighbouring terms, or rows. */
template <class T, int EXTENT, int THREADS, bool ALONG_TERMS, int V>
struct Slab {
  static constexpr int ACROSS = (ALONG_TERMS ? DEPTH : EXTENT) / V;  // threads side by side
  static constexpr int PASS = THREADS / ACROSS;
  static constexpr int ITEMS = DEPTH * EXTENT / (THREADS * V);
  static_assert(THREADS % ACROSS == 0 && ITEMS > 0);
  Vec<T, V> items[ITEMS];

  __device__ __forceinline__ static int term(int item) {
    const int t = static_cast<int>(threadIdx.x);
    return ALONG_TERMS ? t % ACROSS * V : t / ACROSS + item * PASS;
  }
  __device__ __forceinline__ static int row(int item) {
    const int t = static_cast<int>(threadIdx.x);
    return ALONG_TERMS ? t / ACROSS + item * PASS : t % ACROSS * V;
  }
  __device__ __forceinline__ void set(int item, bool exists, const T* from) {
    if (exists) {
      items[item] = *reinterpret_cast<const Vec<T, V>*>(from);
    } else {
#pragma unroll
      for (int j = 0; j < V; j++) items[item].v[j] = from_float<T>(0.0f);
    }
  }
  __device__ __forceinline__ void store(float (&to)[DEPTH][EXTENT]) const {
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
      const int k = term(i), r = row(i);
      if constexpr (ALONG_TERMS) {
#pragma unroll
        for (int j = 0; j < V; j++) to[k + j][r ^ swizzle(k)] = to_float(items[i].v[j]);
      } else {
        float v[V];
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = to_float(items[i].v[j]);
        store_floats<V>(&to[k][r ^ swizzle(k)], v);
      }
    }
  }
};

/** The sums of one thread, and where in the tile they are. */
template <class Tile>
struct Sums {
  float v[Tile::TM][Tile::TN];

  __device__ __forceinline__ static int row(int i) {
    constexpr int ACROSS = Tile::N / Tile::TN / 8;  // warps, of 4 x 8 threads
    const int t = static_cast<int>(threadIdx.x);
    return i / 4 * (Tile::M * 4 / Tile::TM) + (t % 32 / 8 + t / 32 / ACROSS * 4) * 4 + i % 4;
  }
  __device__ __forceinline__ static int column(int j) {
    constexpr int ACROSS = Tile::N / Tile::TN / 8;
    const int t = static_cast<int>(threadIdx.x);
    return j / 4 * (Tile::N * 4 / Tile::TN) + (t % 8 + t / 32 % ACROSS * 8) * 4 + j % 4;
  }
};

/**
 * The product of `steps` slabs. Of both operands: `Slab`, the type of what a thread brings; prepare(step), which may write
 * shared memory that fetch of that step reads, two steps later at the soonest; and fetch(step, slab), in order.
 */
template <class Tile, class A, class B>
__device__ __forceinline__ void multiply(Memory<Tile>& memory, A& a, B& b, unsigned steps, Sums<Tile>& sums) {
#pragma unroll
  for (int i = 0; i < Tile::TM; i++) {
#pragma unroll
    for (int j = 0; j < Tile::TN; j++) sums.v[i][j] = 0.0f;
  }
  if (steps == 0) return;
  typename A::Slab left;
  typename B::Slab right;
  a.prepare(0);
  b.prepare(0);
  a.prepare(1);
  b.prepare(1);
  __syncthreads();
  a.fetch(0, left);
  b.fetch(0, right);
  left.store(memory.a[0]);
  right.store(memory.b[0]);
  __syncthreads();
  for (unsigned step = 0; step < steps; step++) {
    const bool more = step + 1 < steps;
    if (more) {
      a.prepare(step + 2);
      b.prepare(step + 2);
      a.fetch(step + 1, left);
      b.fetch(step + 1, right);
    }
    const float(&as)[DEPTH][Tile::M] = memory.a[step % 2];
    const float(&bs)[DEPTH][Tile::N] = memory.b[step % 2];
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
      float av[Tile::TM], bv[Tile::TN];
#pragma unroll
      for (int i = 0; i < Tile::TM; i += 4) {
        const auto four = *reinterpret_cast<const Vec<float, 4>*>(&as[k][Sums<Tile>::row(i) ^ swizzle(k)]);
#pragma unroll
        for (int l = 0; l < 4; l++) av[i + l] = four.v[l];
      }
#pragma unroll
      for (int j = 0; j < Tile::TN; j += 4) {
        const auto four = *reinterpret_cast<const Vec<float, 4>*>(&bs[k][Sums<Tile>::column(j) ^ swizzle(k)]);
#pragma unroll
        for (int l = 0; l < 4; l++) bv[j + l] = four.v[l];
      }
#pragma unroll
      for (int i = 0; i < Tile::TM; i++) {
#pragma unroll
        for (int j = 0; j < Tile::TN; j++) sums.v[i][j] += av[i] * bv[j];
      }
    }
    if (more) {
      left.store(memory.a[(step + 1) % 2]);
      right.store(memory.b[(step + 1) % 2]);
    }
    __syncthreads();
  }
}

/** Stores `count` of up to four neighbours. V is 4 where all counts are multiples of four and addresses aligned, or 1. */
template <int V, class T>
__device__ __forceinline__ void store_run(T* at, uint32_t count, const float (&run)[4]) {
  if constexpr (V == 4) {
    if (count > 0) store_floats<4>(at, run);
  } else {
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
      if (j < count) at[j] = from_float<T>(run[j]);
    }
  }
}
/** How many of the four from `first` lie below `end`. */
__device__ __forceinline__ uint32_t run_length(uint32_t first, uint32_t end) {
  return first >= end ? 0 : min(end - first, 4u);
}

// Sums are cut into splits where tiles alone would leave multiprocessors idle, or one sum would be too long for f32; the
// splits' results are added in order.

/** A split's first step of `steps`; splits differ by one step at most. */
__device__ __forceinline__ uint32_t cut(uint32_t steps, uint32_t splits, uint32_t split) {
  return steps / splits * split + min(split, steps % splits);
}

struct Plan {
  int size;  // of tiles: 0 Small, 1 Medium, 2 Large
  uint32_t splits;
};
/** Terms that are added up in sequence at most. */
constexpr size_t LONGEST = 32768;

/** For `products` products of m x n sums of k terms each. `can_split`: splits may be more than one. */
inline Plan plan(const Args& a, size_t m, size_t n, size_t k, size_t products, bool vectors, bool can_split) {
  constexpr size_t M[] = {Small::M, Medium::M, Large::M}, N[] = {Small::N, Medium::N, Large::N};
  constexpr size_t SHORTEST = 8 * DEPTH;  // of a split
  const size_t busy = static_cast<size_t>(a.multiprocessors());
  can_split = can_split && m * n * products < size_t{1} << 31;
  const size_t most = can_split ? (k + SHORTEST - 1) / SHORTEST : 1;
  for (int size = vectors ? 2 : 1;; size--) {
    const size_t tiles = ceil_div(m, M[size]) * size_t{ceil_div(n, N[size])} * products;
    const bool fits = m > M[size] / 2 && n > N[size] / 2;
    if (size > 0 && !(fits && tiles * most >= busy)) continue;
    size_t splits = can_split ? (k + LONGEST - 1) / LONGEST : 1;
    if (tiles < 2 * busy) splits = max(splits, min(most, 2 * busy / tiles));
    return {size, static_cast<uint32_t>(max(splits, size_t{1}))};
  }
}

/** f(Tile{}) with the plan's tile; Large is only there for vectors. */
template <int V, class F>
void with_tile(int size, F&& f) {
  if constexpr (V > 1) {
    if (size == 2) return f(Large{});
  }
  if (size == 0) return f(Small{});
  f(Medium{});
}

/** y[i] = Σ over splits of partials[split, i], and the epilogue, whose bias is that of column i % columns; count < 2^32. */
template <class T, int V>
struct AddSplits {
  const float* partials;
  uint32_t splits;
  size_t count;
  Epilogue<T> epilogue;
  uint32_t columns;
  T* y;
  __device__ void operator()(size_t item) const {
    const size_t i = item * V;
    float sum[V] = {};
    if (epilogue.bias) load_floats<V>(epilogue.bias + static_cast<uint32_t>(i) % columns, sum);
    float total[V] = {};
    for (uint32_t s = 0; s < splits; s++) {
      float part[V];
      load_floats<V>(partials + s * count + i, part);
#pragma unroll
      for (int j = 0; j < V; j++) total[j] += part[j];
    }
#pragma unroll
    for (int j = 0; j < V; j++) sum[j] += total[j];
    epilogue.template finish<V>(i, sum);
    store_floats<V>(y + i, sum);
  }
};

}  // namespace lacuna::cuda::gemm
