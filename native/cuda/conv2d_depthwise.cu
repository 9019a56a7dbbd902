// The convolution in which no channel meets another: each input channel has m = cout / cin outputs of its own.
//
//   y[n, i, j, o]  = bias[o] + Σ over taps of x[n, i · stride + kh · dilation - top, j · stride + kw · dilation - left, o / m] w[o, tap]
//   dx[n, i, j, c] = Σ over taps and the m outputs o of c of dy[n, (i + top - kh · dilation) / stride, ..., o] w[o, tap]
//   dw[o, tap]     = Σ over pixels of x[pixel moved by tap, o / m] dy[pixel, o]
//
// All are bound by memory: each map should cross it once. Weights are first copied to [tap, o], so that a thread reads those
// of its neighbouring channels as vectors.
#include "conv2d.h"

namespace lacuna::cuda::conv2d::depthwise {
namespace {

/** wt[tap, o] = w[o, tap], or taps backwards */
template <class T>
struct Turn {
  const T* w;
  uint32_t cout, taps;
  bool mirrored;
  float* wt;
  __device__ void operator()(size_t i) const {
    const uint32_t tap = static_cast<uint32_t>(i / cout), o = static_cast<uint32_t>(i % cout);
    wt[i] = to_float(w[static_cast<size_t>(o) * taps + (mirrored ? taps - 1 - tap : tap)]);
  }
};
template <class T>
const float* turned(const Args& a, const Geometry& g, const T* w, bool mirrored) {
  const size_t count = static_cast<size_t>(g.cout) * g.kh * g.kw;
  float* wt = a.scratch(count);
  each(a, count, Turn<T>{w, g.cout, g.kh * g.kw, mirrored, wt});
  return wt;
}

/** y[i, ...] = Σ over parts of partials[part, tap, o], for dw[o, tap] */
struct AddParts {
  const float* partials;
  uint32_t cout, taps, parts;
  float* dw;
  __device__ void operator()(size_t i) const {
    const size_t count = static_cast<size_t>(cout) * taps;
    double total = 0;
    for (uint32_t first = 0; first < parts; first += 16) {
      float run = 0;
      for (uint32_t part = first; part < min(first + 16, parts); part++) run += partials[part * count + i];
      total += run;
    }
    dw[i % cout * taps + i / cout] = static_cast<float>(total);
  }
};

// Any shape: a thread owns V channels of one pixel of the result. V is more than 1 where each channel has one output.

template <class T, int V>
struct Forward {
  Geometry g;
  const T* x;
  const float* wt;
  const T* bias;
  T* y;
  __device__ void operator()(size_t item) const {
    const uint32_t vectors = g.cout / V, o = static_cast<uint32_t>(item % vectors) * V;
    const uint32_t c = V == 1 ? o / (g.cout / g.cin) : o;
    const size_t pixel = item / vectors, row = pixel / g.out_width;
    const int top = static_cast<int>(row % g.out_height * g.stride_h) - static_cast<int>(g.pad_top);
    const int left = static_cast<int>(pixel % g.out_width * g.stride_w) - static_cast<int>(g.pad_left);
    float sum[V] = {};
    if (bias) load_floats<V>(bias + o, sum);
    for (uint32_t kh = 0; kh < g.kh; kh++) {
      const int iy = top + static_cast<int>(kh * g.dilation_h);
      if (iy < 0 || iy >= static_cast<int>(g.height)) continue;
      const size_t line = (row / g.out_height * g.height + static_cast<size_t>(iy)) * g.width;
      for (uint32_t kw = 0; kw < g.kw; kw++) {
        const int ix = left + static_cast<int>(kw * g.dilation_w);
        if (ix < 0 || ix >= static_cast<int>(g.width)) continue;
        float v[V], w[V];
        load_floats<V>(x + (line + static_cast<size_t>(ix)) * g.cin + c, v);
        load_floats<V>(wt + static_cast<size_t>(kh * g.kw + kw) * g.cout + o, w);
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] += v[j] * w[j];
      }
    }
    store_floats<V>(y + pixel * g.cout + o, sum);
  }
};

template <class T, int V>
struct GradInput {
  Geometry g;
  const T* dy;
  const float* wt;
  T* dx;
  __device__ void operator()(size_t item) const {
    const uint32_t vectors = g.cin / V, c = static_cast<uint32_t>(item % vectors) * V, outputs = g.cout / g.cin;
    const size_t pixel = item / vectors, row = pixel / g.width;
    const int bottom = static_cast<int>(row % g.height + g.pad_top), right = static_cast<int>(pixel % g.width + g.pad_left);
    const int stride_h = static_cast<int>(g.stride_h), stride_w = static_cast<int>(g.stride_w);
    float sum[V] = {};
    for (uint32_t kh = 0; kh < g.kh; kh++) {
      const int from_y = bottom - static_cast<int>(kh * g.dilation_h);
      if (from_y < 0 || from_y % stride_h != 0 || from_y / stride_h >= static_cast<int>(g.out_height)) continue;
      const size_t line = (row / g.height * g.out_height + static_cast<size_t>(from_y / stride_h)) * g.out_width;
      for (uint32_t kw = 0; kw < g.kw; kw++) {
        const int from_x = right - static_cast<int>(kw * g.dilation_w);
        if (from_x < 0 || from_x % stride_w != 0 || from_x / stride_w >= static_cast<int>(g.out_width)) continue;
        const T* slopes = dy + (line + static_cast<size_t>(from_x / stride_w)) * g.cout + c * outputs;
        const float* weights = wt + static_cast<size_t>(kh * g.kw + kw) * g.cout + c * outputs;
        for (uint32_t k = 0; k < outputs; k++) {
          float v[V], w[V];
          load_floats<V>(slopes + k, v);
          load_floats<V>(weights + k, w);
#pragma unroll
          for (int j = 0; j < V; j++) sum[j] += v[j] * w[j];
        }
      }
    }
    store_floats<V>(dx + pixel * g.cin + c, sum);
  }
};

constexpr uint32_t LANES = 32, WARPS = BLOCK / LANES;

template <int V>
struct WeightMemory {
  float v[WARPS][LANES * V];
};
/** A block owns one tap of 32 V outputs and a share of the rows, of which each warp takes every eighth. */
template <class T, int V>
__global__ void __launch_bounds__(BLOCK)
    grad_weight_kernel(Geometry g, uint32_t column_blocks, uint32_t share, const T* x, const T* dy, float* partials) {
  auto& memory = shared<WeightMemory<V>>();
  const uint32_t taps = g.kh * g.kw, lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
  const uint32_t first = blockIdx.x % column_blocks * LANES * V, o = first + lane * V;
  const uint32_t tap = blockIdx.x / column_blocks % taps, part = blockIdx.x / column_blocks / taps;
  const uint32_t c = V == 1 ? o / (g.cout / g.cin) : o;
  const int down = static_cast<int>(tap / g.kw * g.dilation_h) - static_cast<int>(g.pad_top);
  const int across = static_cast<int>(tap % g.kw * g.dilation_w) - static_cast<int>(g.pad_left);
  const uint32_t end = min((part + 1) * share, g.n * g.out_height);
  float sum[V] = {};
  for (uint32_t row = part * share + warp; row < end; row += WARPS) {
    const int iy = static_cast<int>(row % g.out_height * g.stride_h) + down;
    if (o >= g.cout || iy < 0 || iy >= static_cast<int>(g.height)) continue;
    const T* line = x + (static_cast<size_t>(row / g.out_height) * g.height + static_cast<size_t>(iy)) * g.width * g.cin + c;
    const T* slopes = dy + static_cast<size_t>(row) * g.out_width * g.cout + o;
    float of_row[V] = {};
#pragma unroll 4
    for (uint32_t ow = 0; ow < g.out_width; ow++) {
      const int ix = static_cast<int>(ow * g.stride_w) + across;
      if (ix < 0 || ix >= static_cast<int>(g.width)) continue;
      float v[V], slope[V];
      load_floats<V>(line + static_cast<size_t>(ix) * g.cin, v);
      load_floats<V>(slopes + static_cast<size_t>(ow) * g.cout, slope);
#pragma unroll
      for (int j = 0; j < V; j++) of_row[j] += v[j] * slope[j];
    }
#pragma unroll
    for (int j = 0; j < V; j++) sum[j] += of_row[j];
  }
#pragma unroll
  for (int j = 0; j < V; j++) memory.v[warp][lane * V + j] = sum[j];
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < LANES * V; i += BLOCK) {
    if (first + i >= g.cout) continue;
    float total = 0;
#pragma unroll
    for (uint32_t k = 0; k < WARPS; k++) total += memory.v[k][i];
    partials[(static_cast<size_t>(part) * taps + tap) * g.cout + first + i] = total;
  }
}

template <class T, int V>
void grad_weight_in(const Args& a, const Geometry& g, const T* x, const T* dy, float* dw) {
  const uint32_t rows = g.n * g.out_height, taps = g.kh * g.kw, column_blocks = ceil_div(g.cout, LANES * V);
  const uint32_t busy = ceil_div(static_cast<size_t>(a.multiprocessors()) * 8, static_cast<size_t>(column_blocks) * taps);
  const uint32_t share = max(WARPS, static_cast<uint32_t>(ceil_div(rows, busy))), parts = ceil_div(rows, share);
  float* partials = a.scratch(static_cast<size_t>(parts) * taps * g.cout);
  a.launch(grad_weight_kernel<T, V>, dim3(column_blocks * taps * parts), dim3(BLOCK), sizeof(WeightMemory<V>), g,
           column_blocks, share, x, dy, partials);
  each(a, static_cast<size_t>(taps) * g.cout, AddParts{partials, g.cout, taps, parts, dw});
}

}  // namespace

void forward(const Args& a, const Geometry& g, const void* x, const void* w, const void* bias, void* y, Type type) {
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const auto *xs = static_cast<const T*>(x), *biases = static_cast<const T*>(bias);
    auto* ys = static_cast<T*>(y);
    const float* wt = turned(a, g, static_cast<const T*>(w), false);
    const size_t count = static_cast<size_t>(g.n) * g.out_height * g.out_width * g.cout;
    if (g.cout == g.cin && in_vectors<4>(g.cout, xs, biases, ys)) {
      each(a, count / 4, Forward<T, 4>{g, xs, wt, biases, ys});
    } else {
      each(a, count, Forward<T, 1>{g, xs, wt, biases, ys});
    }
  });
}

void grad_input(const Args& a, const Geometry& g, const void* dy, const void* w, void* dx, Type type) {
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const auto* dys = static_cast<const T*>(dy);
    auto* dxs = static_cast<T*>(dx);
    const float* wt = turned(a, g, static_cast<const T*>(w), false);
    const size_t count = static_cast<size_t>(g.n) * g.height * g.width * g.cin;
    if (g.cout == g.cin && in_vectors<4>(g.cin, dys, dxs)) {
      each(a, count / 4, GradInput<T, 4>{g, dys, wt, dxs});
    } else {
      each(a, count, GradInput<T, 1>{g, dys, wt, dxs});
    }
  });
}

void grad_weight(const Args& a, const Geometry& g, const void* x, const void* dy, float* dw, Type type) {
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const auto *xs = static_cast<const T*>(x), *dys = static_cast<const T*>(dy);
    if (g.cout == g.cin && in_vectors<4>(g.cout, xs, dys)) {
      grad_weight_in<T, 4>(a, g, xs, dys, dw);
    } else {
      grad_weight_in<T, 1>(a, g, xs, dys, dw);
    }
  });
}

}  // namespace lacuna::cuda::conv2d::depthwise
