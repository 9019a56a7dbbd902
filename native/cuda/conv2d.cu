// The convolution's kernels of the contract: which path runs (conv2d.h), and what all paths need beside them: the weights
// transposed, the gradient of the bias, and partial sums added up. The contract's splits are for devices that fill
// themselves with them; here a launcher splits its work itself, so the whole sum is the first split and the others are zero.
#include "conv2d.h"

namespace lacuna::cuda::conv2d {
namespace {

struct Path {
  decltype(&portable::forward) forward;
  decltype(&portable::grad_input) grad_input;
  decltype(&portable::grad_weight) grad_weight;
};
/** The fastest first; the last one takes everything. */
constexpr Path PATHS[] = {
    {hopper::forward, hopper::grad_input, hopper::grad_weight},
    {tensor::forward, tensor::grad_input, tensor::grad_weight},
    {portable::forward, portable::grad_input, portable::grad_weight},
};

struct Forward {
  Geometry g;
  uint32_t has_bias, has_residual, relu;
};
Epilogue<void> epilogue_of(const Forward& p, const Args& a) {
  return {p.has_bias ? a.in<void>(2) : nullptr, p.has_residual ? a.in<void>(3) : nullptr, p.relu != 0};
}
struct GradWeight {
  Geometry g;
  uint32_t rows_per_split, splits;
};

struct Zero {
  float* y;
  __device__ void operator()(size_t i) const { y[i] = 0.0f; }
};
/** Zeros in all splits but the first. */
void clear_splits(const Args& a, float* partials, size_t count, uint32_t splits) {
  if (splits > 1) each(a, count * (splits - 1), Zero{partials + count});
}
size_t weights(const Geometry& g) { return static_cast<size_t>(g.cout) * g.kh * g.kw * (g.cin / g.groups); }

void forward(const Forward& p, const Args& a) {
  const Epilogue<void> epilogue = epilogue_of(p, a);
  for (const Path& path : PATHS) {
    if (path.forward(a, p.g, a.in<void>(0), a.in<void>(1), epilogue, a.out<void>(0), a.in_type(0))) return;
  }
}
void grad_input(const Geometry& p, const Args& a) {
  for (const Path& path : PATHS) {
    if (path.grad_input(a, p, a.in<void>(0), a.in<void>(1), a.out<void>(0), a.in_type(0))) return;
  }
}
void grad_weight(const GradWeight& p, const Args& a) {
  clear_splits(a, a.out(0), weights(p.g), p.splits);
  for (const Path& path : PATHS) {
    if (path.grad_weight(a, p.g, a.in<void>(0), a.in<void>(1), a.out(0), a.in_type(0))) return;
  }
}

void forward_depthwise(const Forward& p, const Args& a) {
  depthwise::forward(a, p.g, a.in<void>(0), a.in<void>(1), epilogue_of(p, a), a.out<void>(0), a.in_type(0));
}
void grad_input_depthwise(const Geometry& p, const Args& a) {
  depthwise::grad_input(a, p, a.in<void>(0), a.in<void>(1), a.out<void>(0), a.in_type(0));
}
void grad_weight_depthwise(const GradWeight& p, const Args& a) {
  clear_splits(a, a.out(0), weights(p.g), p.splits);
  depthwise::grad_weight(a, p.g, a.in<void>(0), a.in<void>(1), a.out(0), a.in_type(0));
}

// wt[tap, o] = w[o, tap], taps being all of (kh, kw, c): through a square of shared memory, so that both sides are read
// and written in runs of 32.

constexpr unsigned SQUARE = 32, SQUARE_ROWS = BLOCK / SQUARE;
template <class T>
struct SquareMemory {
  T v[SQUARE][SQUARE + 1];
};
template <class T>
__global__ void __launch_bounds__(BLOCK) transpose_kernel(uint32_t cout, uint32_t taps, const T* w, T* wt) {
  auto& memory = shared<SquareMemory<T>>();
  const uint32_t across = (taps + SQUARE - 1) / SQUARE, lane = threadIdx.x % SQUARE, warp = threadIdx.x / SQUARE;
  const uint32_t o0 = blockIdx.x / across * SQUARE, tap0 = blockIdx.x % across * SQUARE;
#pragma unroll
  for (uint32_t i = warp; i < SQUARE; i += SQUARE_ROWS) {
    if (o0 + i < cout && tap0 + lane < taps) memory.v[i][lane] = w[static_cast<size_t>(o0 + i) * taps + tap0 + lane];
  }
  __syncthreads();
#pragma unroll
  for (uint32_t i = warp; i < SQUARE; i += SQUARE_ROWS) {
    if (tap0 + i < taps && o0 + lane < cout) wt[static_cast<size_t>(tap0 + i) * cout + o0 + lane] = memory.v[lane][i];
  }
}
struct Transpose {
  uint32_t cout, taps;
};
void transpose_weight(const Transpose& p, const Args& a) {
  with_type(a.in_type(0), [&](auto t) {
    using T = decltype(t);
    a.launch(transpose_kernel<T>, dim3(ceil_div(p.cout, SQUARE) * ceil_div(p.taps, SQUARE)), dim3(BLOCK),
             sizeof(SquareMemory<T>), p.cout, p.taps, a.in<T>(0), a.out<T>(0));
  });
}

// db[o] = Σ over pixels of dy[pixel, o]. A warp's lanes own 32 V neighbouring channels, its block's eight warps every
// eighth pixel of the block's share; then one thread a channel adds the shares in order.

constexpr unsigned LANES = 32, WARPS = BLOCK / LANES;
template <int V>
struct BiasMemory {
  float v[WARPS][LANES * V];
};
template <class T, int V>
__global__ void __launch_bounds__(BLOCK)
    grad_bias_kernel(uint32_t pixels, uint32_t cout, uint32_t column_blocks, uint32_t share, const T* dy,
                     float* partials) {
  auto& memory = shared<BiasMemory<V>>();
  const uint32_t lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, part = blockIdx.x / column_blocks;
  const uint32_t first = blockIdx.x % column_blocks * LANES * V, o = first + lane * V;
  const uint32_t begin = part * share, end = min(begin + share, pixels);
  float sum[V] = {};
  if (o < cout) {
#pragma unroll 4
    for (uint32_t pixel = begin + warp; pixel < end; pixel += WARPS) {
      float v[V];
      load_floats<V>(dy + static_cast<size_t>(pixel) * cout + o, v);
#pragma unroll
      for (int j = 0; j < V; j++) sum[j] += v[j];
    }
  }
#pragma unroll
  for (int j = 0; j < V; j++) memory.v[warp][lane * V + j] = sum[j];
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < LANES * V; i += BLOCK) {
    if (first + i >= cout) continue;
    float total = 0;
#pragma unroll
    for (uint32_t w = 0; w < WARPS; w++) total += memory.v[w][i];
    partials[static_cast<size_t>(part) * cout + first + i] = total;
  }
}

/** y[i] = Σ over splits of partials[split, i]: runs of 16 in f32, these in f64 */
template <class T>
struct AddPartials {
  const float* partials;
  uint32_t count, splits;
  T* y;
  __device__ void operator()(size_t i) const {
    double total = 0;
    for (uint32_t first = 0; first < splits; first += 16) {
      float run = 0;
      for (uint32_t s = first; s < min(first + 16, splits); s++) run += partials[static_cast<size_t>(s) * count + i];
      total += run;
    }
    y[i] = from_float<T>(static_cast<float>(total));
  }
};

struct GradBias {
  uint32_t pixels, cout, pixels_per_split, splits;
};
template <class T, int V>
void grad_bias_in(const GradBias& p, const Args& a) {
  constexpr uint32_t SHORTEST = WARPS * 8;  // pixels of a share
  const uint32_t column_blocks = ceil_div(p.cout, LANES * V);
  const uint32_t busy = ceil_div(static_cast<size_t>(a.multiprocessors()) * 8, column_blocks);
  const uint32_t share = max(SHORTEST, ceil_div(p.pixels, busy)), parts = ceil_div(p.pixels, share);
  float* to = parts > 1 ? a.scratch(static_cast<size_t>(parts) * p.cout) : a.out(0);
  a.launch(grad_bias_kernel<T, V>, dim3(column_blocks * parts), dim3(BLOCK), sizeof(BiasMemory<V>), p.pixels, p.cout,
           column_blocks, share, a.in<T>(0), to);
  if (parts > 1) each(a, p.cout, AddPartials<float>{to, p.cout, parts, a.out(0)});
}
void grad_bias(const GradBias& p, const Args& a) {
  clear_splits(a, a.out(0), p.cout, p.splits);
  with_type(a.in_type(0), [&](auto t) {
    using T = decltype(t);
    if (in_vectors<WIDE<T>>(p.cout, a.in<T>(0))) {
      grad_bias_in<T, WIDE<T>>(p, a);
    } else {
      grad_bias_in<T, 1>(p, a);
    }
  });
}

struct Reduce {
  uint32_t count, splits;
};
void reduce_partials(const Reduce& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    each(a, p.count, AddPartials<T>{a.in(0), p.count, p.splits, a.out<T>(0)});
  });
}

}  // namespace

const Register kernels[] = {
    {"conv2d.transpose_weight", 1, 1, transpose_weight},
    {"conv2d.forward", 4, 1, forward},
    {"conv2d.forward_vec4", 4, 1, forward},
    {"conv2d.forward_depthwise", 4, 1, forward_depthwise},
    {"conv2d.grad_input", 2, 1, grad_input},
    {"conv2d.grad_input_vec4", 2, 1, grad_input},
    {"conv2d.grad_input_depthwise", 2, 1, grad_input_depthwise},
    {"conv2d.grad_weight", 2, 1, grad_weight},
    {"conv2d.grad_weight_vec4", 2, 1, grad_weight},
    {"conv2d.grad_weight_depthwise", 2, 1, grad_weight_depthwise},
    {"conv2d.grad_bias", 1, 1, grad_bias},
    {"conv2d.reduce_partials", 1, 1, reduce_partials},
};

}  // namespace lacuna::cuda::conv2d
