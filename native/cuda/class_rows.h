// Rows (pixels) of few classes, [rows, classes]. Up to 32 classes a thread has a row, its values in registers. As a row of,
// say, 21 floats starts at no 16-byte boundary, a block moves the rows of a tile together, which do: 16 bytes a thread and
// load, neighbours side by side, all loads under way before the first is used, through shared memory, where rows lie an
// odd number of floats apart, so that threads that read their rows meet in no bank. Above 32 classes a warp has a row,
// classes l, l + 32, ... on lane l, in shared memory or, above 1,024, in memory of the launch.
#pragma once
#include "sums.h"

namespace lacuna::cuda {

constexpr unsigned TILE = 128;            // rows of a block with a thread each; threads of every block here
constexpr uint32_t MOST_IN_REGISTERS = 32, MOST_SHARED = 1024;  // classes
constexpr unsigned WARPS = TILE / 32;

struct RowShape {
  size_t rows;
  uint32_t classes;
  uint32_t magic;  // rounded up 2^32 / classes where that is even, for divisions of numbers below 2^16; 0 where it is odd
  RowShape(size_t rows, uint32_t classes)
      : rows(rows), classes(classes), magic(classes % 2 == 0 ? static_cast<uint32_t>(((uint64_t{1} << 32) + classes - 1) / classes) : 0) {}
  /** Floats from row to row in shared memory. */
  __host__ __device__ uint32_t pitch() const { return classes | 1; }
  __host__ __device__ size_t tiles() const { return (rows + TILE - 1) / TILE; }
  /** Where element i of a tile is in shared memory. */
  __device__ __forceinline__ unsigned slot(unsigned i) const { return i + __umulhi(i, magic); }
  __device__ __forceinline__ unsigned rows_of(size_t tile) const {
    const size_t left = rows - tile * TILE;
    return left < TILE ? static_cast<unsigned>(left) : TILE;
  }
};

template <int K>
struct alignas(16) RowTile {
  float at[TILE * (K + 1)];
};

/** `count` neighbouring elements, of whole rows, into shared memory; one by one where x is no 16-byte boundary. */
template <int K, class T>
__device__ __forceinline__ void load_rows(const RowShape& shape, const T* x, unsigned count, RowTile<K>& tile) {
  constexpr int N = WIDE<T>, LOADS = (K + N - 1) / N;
  if (reinterpret_cast<uintptr_t>(x) % 16 != 0) {  // the second of several units of an odd size
    for (unsigned at = threadIdx.x; at < count; at += TILE) tile.at[shape.slot(at)] = to_float(x[at]);
    return;
  }
  Vec<T, N> loaded[LOADS] = {};
#pragma unroll
  for (int i = 0; i < LOADS; i++) {
    const unsigned at = (i * TILE + threadIdx.x) * N;
    if (at + N <= count) loaded[i] = *reinterpret_cast<const Vec<T, N>*>(x + at);
  }
#pragma unroll
  for (int i = 0; i < LOADS; i++) {
    const unsigned at = (i * TILE + threadIdx.x) * N;
    if (at + N > count) continue;
    float v[N];
#pragma unroll
    for (int j = 0; j < N; j++) v[j] = to_float(loaded[i].v[j]);
    if (shape.magic == 0) {
#pragma unroll
      for (int j = 0; j < N; j += 4) {
        *reinterpret_cast<float4*>(tile.at + at + j) = make_float4(v[j], v[j + 1], v[j + 2], v[j + 3]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < N; j++) tile.at[shape.slot(at + j)] = v[j];
    }
  }
  const unsigned rest = count / N * N + threadIdx.x;
  if (rest < count) tile.at[shape.slot(rest)] = to_float(x[rest]);
}

template <int K, class T>
__device__ __forceinline__ void store_rows(const RowShape& shape, const RowTile<K>& tile, unsigned count, T* y) {
  constexpr int N = WIDE<T>;
  const unsigned wide = count / N * N;
  for (unsigned at = threadIdx.x * N; at < wide; at += TILE * N) {
    float v[N];
    if (shape.magic == 0) {
#pragma unroll
      for (int j = 0; j < N; j += 4) {
        const float4 four = *reinterpret_cast<const float4*>(tile.at + at + j);
        v[j] = four.x, v[j + 1] = four.y, v[j + 2] = four.z, v[j + 3] = four.w;
      }
    } else {
#pragma unroll
      for (int j = 0; j < N; j++) v[j] = tile.at[shape.slot(at + j)];
    }
    store_floats<N>(y + at, v);
  }
  const unsigned rest = wide + threadIdx.x;
  if (rest < count) y[rest] = from_float<T>(tile.at[shape.slot(rest)]);
}

/**
 * The rows of N inputs that belong together, on one thread. Values past its classes are neutral: they cost less than
 * comparing each k.
 */
template <int K, int N>
struct ThreadRow {
  float x[N][K];
  uint32_t classes;
  /** f(k, value of the first input, ...) for this thread's classes and neutral values; values can be assigned. */
  template <class F>
  __device__ __forceinline__ void each(F f) {
#pragma unroll
    for (int k = 0; k < K; k++) {
      if constexpr (N == 1) {
        f(static_cast<uint32_t>(k), x[0][k]);
      } else {
        f(static_cast<uint32_t>(k), x[0][k], x[1][k]);
      }
    }
  }
  /** Of what the threads of the row have. */
  __device__ __forceinline__ float sum(float v) const { return v; }
  __device__ __forceinline__ float largest(float v) const { return v; }
  /** Is this the one thread that speaks for the row? */
  __device__ __forceinline__ bool speaks() const { return true; }
};
/** The same on a warp. */
template <int N>
struct WarpRow {
  float* x[N];
  uint32_t classes;
  template <class F>
  __device__ __forceinline__ void each(F f) {
    for (uint32_t k = threadIdx.x % 32; k < classes; k += 32) {
      if constexpr (N == 1) {
        f(k, x[0][k]);
      } else {
        f(k, x[0][k], x[1][k]);
      }
    }
  }
  __device__ __forceinline__ float sum(float v) const { return warp_sum(v); }
  __device__ __forceinline__ float largest(float v) const { return warp_max(v); }
  __device__ __forceinline__ bool speaks() const { return threadIdx.x % 32 == 0; }
};

/** exp(value - largest) in the place of each value; `total` is their sum. */
template <class Row>
__device__ __forceinline__ void exponentials(Row& row, float& largest, float& total) {
  largest = -INFINITY;
  row.each([&](uint32_t, float z) { largest = max(largest, z); });
  largest = row.largest(largest);
  total = 0;
  row.each([&](uint32_t, float& z) {
    z = expf(z - largest);
    total += z;
  });
  total = row.sum(total);
}

/** The largest of a row, and ln of the sum of the exponentials of the distances to it. */
struct LogSum {
  float largest, log;
};
/** The largest's own exponential, 1, is left to log1p: small sums of the others beside it keep their digits. */
template <class Row>
__device__ __forceinline__ LogSum log_sum(Row& row) {
  float largest = -INFINITY;
  row.each([&](uint32_t, float z) { largest = max(largest, z); });
  largest = row.largest(largest);
  float others = 0, ties = 0;
  row.each([&](uint32_t, float z) {
    if (z == largest) {
      ties += 1;
    } else {
      others += expf(z - largest);
    }
  });
  return {largest, log1pf(row.sum(others) + (row.sum(ties) - 1))};
}

// A row operation F is a struct with
//   INPUTS, 1 or 2; WRITES: is what it leaves in the first input the row of the output?
//   NEUTRAL: a value of the first input that changes nothing; of the second 0 does not
//   operator()(size_t row, Row&), called for the rows of a thread or warp, one after the other; it may add up in its members
//   end(double (*memory)[32]), called once by all threads of the block

/** For operations that add up nothing. */
struct RowMap {
  __device__ void end(double (*)[32]) {}
};

template <class T>
struct RowBuffers {
  const T* x[2];
  T* y;
};

template <int K, int N>
struct ThreadRowMemory {
  RowTile<K> tiles[N];
  double sums[2][32];
};

template <int K, class T, class F>
__global__ void __launch_bounds__(TILE, K <= 8 ? 8 : 4) thread_rows(RowShape shape, RowBuffers<T> buffers, F f) {
  auto& memory = shared<ThreadRowMemory<K, F::INPUTS>>();
  const uint32_t classes = shape.classes;
  const size_t tiles = shape.tiles();
  for (size_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const unsigned rows = shape.rows_of(tile);
    const size_t start = tile * TILE * classes;
#pragma unroll
    for (int n = 0; n < F::INPUTS; n++) load_rows(shape, buffers.x[n] + start, rows * classes, memory.tiles[n]);
    __syncthreads();
    if (threadIdx.x < rows) {
      ThreadRow<K, F::INPUTS> row;
      row.classes = classes;
      const unsigned at = threadIdx.x * shape.pitch();
#pragma unroll
      for (int n = 0; n < F::INPUTS; n++) {
#pragma unroll
        for (int k = 0; k < K; k++) {
          const float v = memory.tiles[n].at[at + k];
          row.x[n][k] = k < static_cast<int>(classes) ? v : n == 0 ? F::NEUTRAL : 0.0f;
        }
      }
      f(tile * TILE + threadIdx.x, row);
      if constexpr (F::WRITES) {
#pragma unroll
        for (int k = 0; k < K; k++) {
          if (k < static_cast<int>(classes)) memory.tiles[0].at[at + k] = row.x[0][k];
        }
      }
    }
    __syncthreads();
    if constexpr (F::WRITES) {
      store_rows(shape, memory.tiles[0], rows * classes, buffers.y + start);
      __syncthreads();
    }
  }
  f.end(memory.sums);
}

template <int N>
struct WarpRowMemory {
  float rows[WARPS][N][MOST_SHARED];
  double sums[2][32];
};

/** `spare`: N rows for each warp of the grid where shared memory is too small for them. */
template <class T, class F>
__global__ void __launch_bounds__(TILE, 4) warp_rows(RowShape shape, RowBuffers<T> buffers, float* spare, F f) {
  auto& memory = shared<WarpRowMemory<F::INPUTS>>();
  const uint32_t classes = shape.classes, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const size_t number = static_cast<size_t>(blockIdx.x) * WARPS + warp;
  for (size_t i = number; i < shape.rows; i += static_cast<size_t>(gridDim.x) * WARPS) {
    WarpRow<F::INPUTS> row;
    row.classes = classes;
#pragma unroll
    for (int n = 0; n < F::INPUTS; n++) {
      row.x[n] = spare ? spare + (number * F::INPUTS + n) * classes : memory.rows[warp][n];
      const T* x = buffers.x[n] + i * classes;
      for (uint32_t k = lane; k < classes; k += 32) row.x[n][k] = to_float(x[k]);  // a lane reads what it wrote
    }
    f(i, row);
    if constexpr (F::WRITES) {
      T* y = buffers.y + i * classes;
      for (uint32_t k = lane; k < classes; k += 32) y[k] = from_float<T>(row.x[0][k]);
    }
  }
  __syncthreads();
  f.end(memory.sums);
}

/** g(K) for the number of registers that hold a row of up to 32 classes. */
template <class G>
void with_registers(uint32_t classes, G&& g) {
  if (classes <= 2) {
    g(std::integral_constant<int, 2>{});
  } else if (classes <= 4) {
    g(std::integral_constant<int, 4>{});
  } else if (classes <= 8) {
    g(std::integral_constant<int, 8>{});
  } else if (classes <= 16) {
    g(std::integral_constant<int, 16>{});
  } else if (classes <= 24) {
    g(std::integral_constant<int, 24>{});
  } else {
    g(std::integral_constant<int, 32>{});
  }
}

/** The blocks that each_row launches: an operation that adds up has one partial sum of each. At least 1. */
inline unsigned row_blocks(const Args& a, size_t rows, uint32_t classes) {
  const size_t per_block = classes <= MOST_IN_REGISTERS ? TILE : WARPS;
  return linear_grid(a, (rows + per_block - 1) / per_block, 1);
}

/** Applies f to all rows; launches even where there are none, so that f can tell. */
template <class T, class F>
void each_row(const Args& a, size_t rows, uint32_t classes, const RowBuffers<T>& buffers, F f) {
  const RowShape shape(rows, classes);
  const dim3 grid(row_blocks(a, rows, classes)), block(TILE);
  if (classes <= MOST_IN_REGISTERS) {
    with_registers(classes, [&](auto k) {
      constexpr int K = decltype(k)::value;
      a.launch(thread_rows<K, T, F>, grid, block, sizeof(ThreadRowMemory<K, F::INPUTS>), shape, buffers, f);
    });
  } else {
    float* spare = nullptr;
    if (classes > MOST_SHARED) spare = a.scratch<float>(static_cast<size_t>(grid.x) * WARPS * F::INPUTS * classes);
    a.launch(warp_rows<T, F>, grid, block, sizeof(WarpRowMemory<F::INPUTS>), shape, buffers, spare, f);
  }
}

}  // namespace lacuna::cuda
