// Reductions of x, seen as [outer, length, inner], over `length`: sum, maximum and its position; and their gradients,
// which repeat dy (expand) or send it to the maximum (route).
#include "divide.h"
#include "kernel.h"

namespace lacuna::cuda::reduce {

struct Splits {
  uint32_t outer, length, inner, splits;
};
struct Params {
  uint32_t outer, length, inner;
};

// Sum: y[o, j] = sum over r of x[o, r, j], where a row is width = splits * inner columns j (and the last row may be
// short): y[o, s, i] is the sum over l = s, s + splits, ... A thread adds terms in groups of GROUP, which are in flight
// together: in a tree in f32, and the groups in f64. What different threads have is added in f64, in a fixed order.
// Four ways, by shape; all read each element of x once:
//   rows     width 1 and many o: a few lanes of a warp own one o.
//   long     width 1 and few o: blocks own chunks of one o.
//   short    few rows, or many o and j: a thread owns [o, j], or V neighbours.
//   columns  else: a block owns a chunk of the rows and some columns, with C threads side by side and R rows of them.

constexpr unsigned GROUP = 8;

/** Where a group's terms come from: at[0], at[stride], ...; `count` of them, or more than a group has. */
template <int V>
__device__ __forceinline__ void add_group(const float* at, size_t stride, size_t count, double (&totals)[V]) {
  float terms[GROUP][V];
  if (count >= GROUP) {
#pragma unroll
    for (unsigned n = 0; n < GROUP; n++) load_floats<V>(at + n * stride, terms[n]);
  } else {
#pragma unroll
    for (unsigned n = 0; n < GROUP; n++) {
      if (n < count) {
        load_floats<V>(at + n * stride, terms[n]);
      } else {
#pragma unroll
        for (int v = 0; v < V; v++) terms[n][v] = 0.0f;
      }
    }
  }
#pragma unroll
  for (int v = 0; v < V; v++) {
#pragma unroll
    for (unsigned half = GROUP / 2; half > 0; half /= 2) {
#pragma unroll
      for (unsigned n = 0; n < half; n++) terms[n][v] += terms[n + half][v];
    }
    totals[v] += terms[0][v];
  }
}
/** Of `count` terms, `stride` elements apart. */
template <int V>
__device__ __forceinline__ void add_terms(const float* at, size_t stride, size_t count, double (&totals)[V]) {
  for (; count > 0; at += GROUP * stride) {
    add_group<V>(at, stride, count, totals);
    count -= count < GROUP ? count : GROUP;
  }
}
/** How many of first, first + step, ... are below `end`. */
__device__ __forceinline__ size_t steps(size_t first, size_t step, size_t end) {
  return first < end ? (end - first + step - 1) / step : 0;
}
template <int V>
__device__ __forceinline__ double side_by_side(const double (&totals)[V]) {
  double sum = totals[0];
#pragma unroll
  for (int v = 1; v < V; v++) sum += totals[v];
  return sum;
}

/** y[o], by `lanes` (a power of 2) lanes of a warp each. */
template <int V>
__global__ void __launch_bounds__(BLOCK) sum_rows(const float* x, float* y, size_t outer, size_t length,
                                                  unsigned lanes) {
  const size_t o = linear_thread() / lanes;
  const unsigned lane = threadIdx.x & (lanes - 1);
  double totals[V] = {};
  if (o < outer) {
    add_terms<V>(x + o * length + lane * V, lanes * V, steps(lane, lanes, length / V), totals);
  }
  double sum = side_by_side(totals);
  for (unsigned bits = lanes / 2; bits > 0; bits /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, bits);
  if (o < outer && lane == 0) y[o] = static_cast<float>(sum);
}

struct Warps {
  double sums[32];
};

/** partials[o, chunk]; a chunk is `share` vectors. */
template <int V>
__global__ void __launch_bounds__(BLOCK) sum_long(const float* x, double* partials, size_t length, unsigned chunks,
                                                  size_t share) {
  const size_t o = blockIdx.x / chunks, begin = blockIdx.x % chunks * share;
  const size_t end = begin + share < length / V ? begin + share : length / V;
  const size_t first = begin + threadIdx.x;
  double totals[V] = {};
  add_terms<V>(x + o * length + first * V, BLOCK * V, steps(first, BLOCK, end), totals);
  const double sum = block_sum(side_by_side(totals), shared<Warps>().sums);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/** y[o, j ... j + V]. */
template <int V>
struct Short {
  const float* x;
  float* y;
  size_t size;  // of one o: rows times width, but for what the last row lacks
  Divisor vectors;  // in a row
  __device__ void operator()(size_t i) const {
    uint32_t at;
    const size_t o = vectors.divide(static_cast<uint32_t>(i), at), column = static_cast<size_t>(at) * V;
    const size_t width = static_cast<size_t>(vectors.value()) * V;
    double totals[V] = {};
    add_terms<V>(x + o * size + column, width, steps(column, width, size), totals);
    float sums[V];
#pragma unroll
    for (int v = 0; v < V; v++) sums[v] = static_cast<float>(totals[v]);
    store_floats<V>(y + i * V, sums);
  }
};

template <int V>
struct Columns {
  double sums[V][BLOCK];
};

struct Tiles {
  size_t size;         // elements of one o
  unsigned width;      // in vectors
  unsigned threads;    // C: side by side, a vector each
  unsigned rows;       // R of them
  unsigned across;     // tiles of C vectors in a row
  unsigned chunks;     // of the rows
  size_t share;        // rows of a chunk
};

/** partials[o, chunk, j] */
template <int V>
__global__ void __launch_bounds__(BLOCK) sum_columns(const float* x, double* partials, Tiles t) {
  const unsigned tile = blockIdx.x % t.across, chunk = blockIdx.x / t.across % t.chunks;
  const size_t o = blockIdx.x / t.across / t.chunks;
  const unsigned row = threadIdx.x / t.threads, column = threadIdx.x % t.threads + tile * t.threads;
  const bool works = row < t.rows && column < t.width;
  const size_t width = static_cast<size_t>(t.width) * V;
  double totals[V] = {};
  if (works) {
    const size_t begin = chunk * t.share * width, past = begin + t.share * width;
    const size_t end = past < t.size ? past : t.size;
    const size_t first = begin + row * width + static_cast<size_t>(column) * V, step = t.rows * width;
    add_terms<V>(x + o * t.size + first, step, steps(first, step, end), totals);
  }
  auto& memory = shared<Columns<V>>();
#pragma unroll
  for (int v = 0; v < V; v++) memory.sums[v][threadIdx.x] = totals[v];
  unsigned half = 1;
  while (2 * half < t.rows) half *= 2;
  for (; half > 0; half /= 2) {
    __syncthreads();
    if (row < half && row + half < t.rows) {
#pragma unroll
      for (int v = 0; v < V; v++) memory.sums[v][threadIdx.x] += memory.sums[v][threadIdx.x + half * t.threads];
    }
  }
  if (works && row == 0) {
    double* to = partials + ((o * t.chunks + chunk) * t.width + column) * V;
#pragma unroll
    for (int v = 0; v < V; v++) to[v] = memory.sums[v][threadIdx.x];
  }
}

constexpr unsigned SIDE = 8;
struct Partials {
  double sums[BLOCK / SIDE][SIDE];
};
/** y[o, j] = sum over chunks of partials[o, chunk, j]: a block owns 8 of [o, j], with 32 threads for each. */
__global__ void __launch_bounds__(BLOCK) sum_partials(const double* partials, float* y, size_t outputs, unsigned width,
                                                      unsigned chunks) {
  const unsigned lane = threadIdx.x % SIDE, row = threadIdx.x / SIDE;
  const size_t i = static_cast<size_t>(blockIdx.x) * SIDE + lane;
  double sum = 0;
  if (i < outputs) {
    const double* from = partials + i / width * chunks * width + i % width;
#pragma unroll 4
    for (unsigned chunk = row; chunk < chunks; chunk += BLOCK / SIDE) sum += from[static_cast<size_t>(chunk) * width];
  }
  auto& memory = shared<Partials>();
  memory.sums[row][lane] = sum;
  for (unsigned half = BLOCK / SIDE / 2; half > 0; half /= 2) {
    __syncthreads();
    if (row < half) memory.sums[row][lane] += memory.sums[row + half][lane];
  }
  if (row == 0 && i < outputs) y[i] = static_cast<float>(memory.sums[0][lane]);
}

template <int V>
void sum_in(const Splits& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  const size_t outer = p.outer, size = static_cast<size_t>(p.length) * p.inner;
  const size_t width = static_cast<size_t>(p.splits) * p.inner, outputs = outer * width;
  const size_t blocks = static_cast<size_t>(a.multiprocessors()) * 4;  // that fill the card
  const auto add_partials = [&](const double* partials, unsigned chunks) {
    a.launch(sum_partials, dim3(ceil_div(outputs, SIDE)), dim3(BLOCK), sizeof(Partials), partials, y, outputs, width,
             chunks);
  };
  if (width == 1) {
    const size_t vectors = size / V;
    if (outer >= blocks * 4 || vectors < BLOCK) {
      unsigned lanes = 1;
      while (lanes < 32 && lanes * 2 < vectors) lanes *= 2;
      return a.launch(sum_rows<V>, dim3(ceil_div(outer * lanes, BLOCK)), dim3(BLOCK), 0, x, y, outer, size, lanes);
    }
    const size_t most = ceil_div(vectors, BLOCK * GROUP), wanted = ceil_div(blocks, outer);
    const size_t share = ceil_div(vectors, wanted < most ? wanted : most);
    const unsigned chunks = ceil_div(vectors, share);
    auto* partials = a.scratch<double>(outer * chunks);
    a.launch(sum_long<V>, dim3(static_cast<unsigned>(outer * chunks)), dim3(BLOCK), sizeof(Warps), x, partials, size,
             chunks, share);
    return add_partials(partials, chunks);
  }
  const size_t vectors = width / V, rows = ceil_div(size, width);
  if (rows <= 4 * GROUP || outer * vectors >= blocks * BLOCK) {
    return each(a, outer * vectors, Short<V>{x, y, size, Divisor(static_cast<uint32_t>(vectors))});
  }
  Tiles t{};
  t.size = size;
  t.width = static_cast<unsigned>(vectors);
  t.across = vectors <= BLOCK ? 1 : ceil_div(vectors, 64);
  t.threads = ceil_div(vectors, t.across);
  t.rows = BLOCK / t.threads;
  const size_t most = ceil_div(rows, t.rows * GROUP), wanted = ceil_div(blocks, outer * t.across);
  t.share = ceil_div(rows, wanted < most ? wanted : most);
  t.chunks = ceil_div(rows, t.share);
  auto* partials = a.scratch<double>(outputs * t.chunks);
  a.launch(sum_columns<V>, dim3(static_cast<unsigned>(outer * t.across * t.chunks)), dim3(BLOCK), sizeof(Columns<V>), x,
           partials, t);
  add_partials(partials, t.chunks);
}

void sum(const Splits& p, const Args& a) {
  const size_t size = static_cast<size_t>(p.length) * p.inner, width = static_cast<size_t>(p.splits) * p.inner;
  if (p.outer * width == 0) return;
  // Vectors lie inside a row of x; of a single column, they are the row.
  if (in_vectors<4>(width == 1 ? size : width, a.in(0), a.out(0)) && size % 4 == 0) {
    sum_in<4>(p, a);
  } else {
    sum_in<1>(p, a);
  }
}

/** dx[o, l, i] = dy[o, i] */
template <class T>
struct Repeat {
  const T* dy;
  __device__ __forceinline__ float one(size_t at, uint32_t) const { return to_float(dy[at]); }
  template <int N>
  __device__ __forceinline__ void several(size_t at, uint32_t, float (&to)[N]) const {
    load_floats<N>(dy + at, to);
  }
};
/** dx[o, l, i] = dy[o, i] where index[o, i] = l, else 0 */
template <class T>
struct Route {
  const T* dy;
  const uint32_t* index;
  __device__ __forceinline__ float one(size_t at, uint32_t l) const { return index[at] == l ? to_float(dy[at]) : 0.0f; }
  template <int N>
  __device__ __forceinline__ void several(size_t at, uint32_t l, float (&to)[N]) const {
    load_floats<N>(dy + at, to);
#pragma unroll
    for (int n = 0; n < N; n += 4) {
      const Vec<uint32_t, 4> four = *reinterpret_cast<const Vec<uint32_t, 4>*>(index + at + n);
#pragma unroll
      for (int k = 0; k < 4; k++) to[n + k] = four.v[k] == l ? to[n + k] : 0.0f;
    }
  }
};

/** A thread writes 16 bytes of dx: N neighbours of a row [o, l] where rows are whole vectors, else wherever they lie. */
template <class F, class T, bool rows>
struct SpreadOut {
  static constexpr int N = WIDE<T>;
  F from;
  T* dx;
  size_t count;
  Divisor inner, length;  // inner: in vectors where `rows`
  __device__ void operator()(size_t piece) const {
    if constexpr (rows) {
      uint32_t i, l;
      const uint32_t o = length.divide(inner.divide(static_cast<uint32_t>(piece), i), l);
      float values[N];
      from.template several<N>((static_cast<size_t>(o) * inner.value() + i) * N, l, values);
      store_floats<N>(dx + piece * N, values);
    } else {
      float values[N];
#pragma unroll
      for (int k = 0; k < N; k++) {
        const size_t at = piece * N + k;
        values[k] = at < count ? element(at) : 0.0f;
      }
      if (piece * N + N <= count) return store_floats<N>(dx + piece * N, values);
#pragma unroll
      for (int k = 0; k < N; k++) {
        if (piece * N + k < count) dx[piece * N + k] = from_float<T>(values[k]);
      }
    }
  }
  __device__ __forceinline__ float element(size_t at) const {
    uint32_t i, l;
    const uint32_t o = length.divide(inner.divide(static_cast<uint32_t>(at), i), l);
    return from.one(static_cast<size_t>(o) * inner.value() + i, l);
  }
};

template <class T, class F>
void spread_out(const Params& p, const Args& a, bool aligned, F from) {
  constexpr int N = WIDE<T>;
  const size_t count = static_cast<size_t>(p.outer) * p.length * p.inner;
  if (count == 0) return;
  if (aligned && p.inner % N == 0) {
    each(a, count / N, SpreadOut<F, T, true>{from, a.out<T>(0), count, Divisor(p.inner / N), Divisor(p.length)});
  } else {
    each(a, (count + N - 1) / N, SpreadOut<F, T, false>{from, a.out<T>(0), count, Divisor(p.inner), Divisor(p.length)});
  }
}

void expand(const Params& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    constexpr int N = WIDE<T>;
    spread_out<T>(p, a, in_vectors<N>(N, a.in<T>(0), a.out<T>(0)), Repeat<T>{a.in<T>(0)});
  });
}
void route(const Params& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    constexpr int N = WIDE<T>;
    spread_out<T>(p, a, in_vectors<N>(N, a.in<T>(0), a.out<T>(0)) && in_vectors<4>(4, a.in<uint32_t>(1)),
                  Route<T>{a.in<T>(0), a.in<uint32_t>(1)});
  });
}

// Maximum: the first of the largest. All scans start from the first term, so that, as in the definition, a NaN is the
// maximum only where it comes first.

/** y[o] and index[o], by `lanes` lanes of a warp each: rows of neighbours (inner = 1). */
template <class T>
__global__ void __launch_bounds__(BLOCK) maximum_of_rows(const T* x, T* y, uint32_t* index, size_t outer,
                                                         uint32_t length, unsigned lanes) {
  const size_t o = linear_thread() / lanes;
  const unsigned lane = threadIdx.x & (lanes - 1);
  float best = 0;
  uint32_t first = 0;
  if (o < outer) {
    const T* row = x + o * length;
    best = to_float(row[0]);
#pragma unroll 4
    for (uint32_t l = lane; l < length; l += lanes) {
      const float value = to_float(row[l]);
      const bool more = value > best;
      best = more ? value : best;
      first = more ? l : first;
    }
  }
  for (unsigned bits = lanes / 2; bits > 0; bits /= 2) {
    const float other = __shfl_xor_sync(ALL_LANES, best, bits);
    const uint32_t at = __shfl_xor_sync(ALL_LANES, first, bits);
    const bool take = other > best || (other == best && at < first);
    best = take ? other : best;
    first = take ? at : first;
  }
  if (o < outer && lane == 0) {
    y[o] = from_float<T>(best);
    index[o] = first;
  }
}

/** V neighbours of y, i ... i + V: walks down their columns. */
template <class T, int V>
struct MaximumOfColumns {
  const T* x;
  T* y;
  uint32_t* index;
  uint32_t length;
  Divisor vectors;  // in a row of `inner`
  __device__ void operator()(size_t piece) const {
    uint32_t i;
    const size_t o = vectors.divide(static_cast<uint32_t>(piece), i), inner = static_cast<size_t>(vectors.value()) * V;
    const T* from = x + o * length * inner + static_cast<size_t>(i) * V;
    float best[V];
    Vec<uint32_t, V> first = {};
    load_floats<V>(from, best);
#pragma unroll 4
    for (uint32_t l = 1; l < length; l++) {
      float values[V];
      load_floats<V>(from + l * inner, values);
#pragma unroll
      for (int v = 0; v < V; v++) {
        const bool more = values[v] > best[v];
        best[v] = more ? values[v] : best[v];
        first.v[v] = more ? l : first.v[v];
      }
    }
    store_floats<V>(y + piece * V, best);
    *reinterpret_cast<Vec<uint32_t, V>*>(index + piece * V) = first;
  }
};

void maximum(const Params& p, const Args& a) {
  const size_t outer = p.outer, outputs = outer * p.inner;
  if (outputs == 0) return;
  auto* index = a.out<uint32_t>(1);
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    const T* x = a.in<T>(0);
    T* y = a.out<T>(0);
    if (p.inner == 1) {
      unsigned lanes = 1;
      while (lanes < 32 && lanes * 4 < p.length) lanes *= 2;
      return a.launch(maximum_of_rows<T>, dim3(ceil_div(outer * lanes, BLOCK)), dim3(BLOCK), 0, x, y, index, outer,
                      p.length, lanes);
    }
    // Few threads would leave the card idle: then more of them are worth more than vectors.
    const bool many = outputs / 4 >= static_cast<size_t>(a.multiprocessors()) * 512;
    if (many && in_vectors<4>(p.inner, x, y, index)) {
      each(a, outputs / 4, MaximumOfColumns<T, 4>{x, y, index, p.length, Divisor(p.inner / 4)});
    } else {
      each(a, outputs, MaximumOfColumns<T, 1>{x, y, index, p.length, Divisor(p.inner)});
    }
  });
}

const Register kernels[] = {
    {"reduce.sum", 1, 1, sum},
    {"reduce.expand", 1, 1, expand},
    {"reduce.maximum", 1, 2, maximum},
    {"reduce.route", 2, 1, route},
};

}  // namespace lacuna::cuda::reduce
