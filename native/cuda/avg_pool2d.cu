// y = mean of each window, over the kernel's size or over the pixels inside the map; a thread owns a piece of the channels of
// one output, and backward of one pixel of dx, which gathers from the windows that cover it. Windows are added up row by row.
//
// The mean of a whole map is a sum over its rows (pixels), which a grid shares: a block owns 32 pieces of channels and a share
// of the rows, with 8 threads to a piece, whose sums meet in a fixed order; so do the shares'.
#include "pixels.h"

namespace lacuna::cuda::avg_pool2d {

struct Params {
  uint32_t images, h, w, channels, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, count_pad;
};
struct Chunks {
  uint32_t images, rows, channels, chunks, chunk_rows;
};
struct Finish {
  uint32_t images, rows, channels, chunks;
};
struct Spread {
  uint32_t images, rows, channels;
};

struct Span {
  uint32_t begin, end;
};
/** Elements of one axis of the map in window o. */
__device__ __forceinline__ Span window(uint32_t o, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t size) {
  const uint32_t from = o * stride, to = from + kernel;  // in the padded map
  return {from > pad ? from - pad : 0, min(to - pad, size)};
}
/** Windows of one axis that cover element i. */
__device__ __forceinline__ Span covering(uint32_t i, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t out) {
  const uint32_t at = i + pad;
  return {at < kernel ? 0 : (at - kernel) / stride + 1, min(at / stride + 1, out)};
}

template <class T, int N>
struct Forward {
  Params p;
  const T* x;
  T* y;
  __device__ void operator()(uint32_t row, uint32_t ox, uint32_t piece) const {
    const Span v = window(row % p.out_h, p.stride_h, p.pad_h, p.kernel_h, p.h);
    const Span u = window(ox, p.stride_w, p.pad_w, p.kernel_w, p.w);
    const size_t image = static_cast<size_t>(row / p.out_h) * p.h;
    float sum[N] = {};
    for (uint32_t iy = v.begin; iy < v.end; iy++) {
      const T* from = x + ((image + iy) * p.w + u.begin) * p.channels + static_cast<size_t>(piece) * N;
      float part[N] = {};
      for (uint32_t ix = u.begin; ix < u.end; ix++, from += p.channels) {
        float value[N];
        load_floats<N>(from, value);
#pragma unroll
        for (int k = 0; k < N; k++) part[k] += value[k];
      }
#pragma unroll
      for (int k = 0; k < N; k++) sum[k] += part[k];
    }
    const uint32_t pixels = p.count_pad ? p.kernel_h * p.kernel_w : (v.end - v.begin) * (u.end - u.begin);
    const float share = 1.0f / static_cast<float>(pixels);
#pragma unroll
    for (int k = 0; k < N; k++) sum[k] *= share;
    store_floats<N>(y + (static_cast<size_t>(row) * p.out_w + ox) * p.channels + static_cast<size_t>(piece) * N, sum);
  }
};

template <class T, int N>
struct GradInput {
  Params p;
  const T* dy;
  T* dx;
  __device__ __forceinline__ float share(uint32_t o, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t size) const {
    const Span s = window(o, stride, pad, kernel, size);
    return 1.0f / static_cast<float>(p.count_pad ? kernel : s.end - s.begin);
  }
  __device__ void operator()(uint32_t row, uint32_t ix, uint32_t piece) const {
    const Span v = covering(row % p.h, p.stride_h, p.pad_h, p.kernel_h, p.out_h);
    const Span u = covering(ix, p.stride_w, p.pad_w, p.kernel_w, p.out_w);
    const size_t image = static_cast<size_t>(row / p.h) * p.out_h;
    float sum[N] = {};
    for (uint32_t oy = v.begin; oy < v.end; oy++) {
      const T* from = dy + ((image + oy) * p.out_w + u.begin) * p.channels + static_cast<size_t>(piece) * N;
      float part[N] = {};
#pragma unroll 2  // four at a time spill on sm_80
      for (uint32_t ox = u.begin; ox < u.end; ox++, from += p.channels) {
        const float across = share(ox, p.stride_w, p.pad_w, p.kernel_w, p.w);
        float value[N];
        load_floats<N>(from, value);
#pragma unroll
        for (int k = 0; k < N; k++) part[k] += across * value[k];
      }
      const float down = share(oy, p.stride_h, p.pad_h, p.kernel_h, p.h);
#pragma unroll
      for (int k = 0; k < N; k++) sum[k] += down * part[k];
    }
    store_floats<N>(dx + (static_cast<size_t>(row) * p.w + ix) * p.channels + static_cast<size_t>(piece) * N, sum);
  }
};

constexpr unsigned ACROSS = 32, DOWN = 8, GROUP = 8;
constexpr unsigned MOST_DEEP = 65535;  // blocks along the z axis of a grid

template <int N>
struct Meeting {
  float sums[DOWN][ACROSS][N];
};

/** partials[item, split, c]: the sum of a share of the rows of a chunk; item is image and chunk. */
template <class T, int N>
__global__ void __launch_bounds__(ACROSS* DOWN) sum_rows(Chunks p, const T* x, float* partials, uint32_t splits) {
  auto& memory = shared<Meeting<N>>();
  const uint32_t piece = blockIdx.x * ACROSS + threadIdx.x, split = blockIdx.y;
  const bool inside = piece * N < p.channels;
  const uint32_t share = (p.chunk_rows + splits - 1) / splits;
  for (uint32_t item = blockIdx.z; item < p.images * p.chunks; item += gridDim.z) {
    const uint32_t first = item % p.chunks * p.chunk_rows, last = min(first + p.chunk_rows, p.rows);
    const uint32_t begin = min(first + split * share, last), end = min(begin + share, last);
    float sum[N] = {};
    const T* from = x + static_cast<size_t>(item / p.chunks) * p.rows * p.channels + static_cast<size_t>(piece) * N;
    for (uint32_t row = begin + threadIdx.y; inside && row < end; row += GROUP * DOWN) {
      float group[N] = {};
#pragma unroll
      for (unsigned n = 0; n < GROUP; n++) {
        const uint32_t at = row + n * DOWN;
        if (at >= end) continue;
        float v[N];
        load_floats<N>(from + static_cast<size_t>(at) * p.channels, v);
#pragma unroll
        for (int k = 0; k < N; k++) group[k] += v[k];
      }
#pragma unroll
      for (int k = 0; k < N; k++) sum[k] += group[k];
    }
#pragma unroll
    for (int k = 0; k < N; k++) memory.sums[threadIdx.y][threadIdx.x][k] = sum[k];
    __syncthreads();
    if (threadIdx.y == 0 && inside) {
#pragma unroll
      for (unsigned other = 1; other < DOWN; other++) {
#pragma unroll
        for (int k = 0; k < N; k++) sum[k] += memory.sums[other][threadIdx.x][k];
      }
      float* to = partials + (static_cast<size_t>(item) * splits + split) * p.channels + piece * N;
#pragma unroll
      for (int k = 0; k < N; k++) to[k] = sum[k];
    }
    __syncthreads();  // the next item's sums come into the same place
  }
}

/** y[o, c] = factor * sum over i of x[o, i, c], in f64. */
template <class T>
struct Combine {
  const float* x;
  T* y;
  uint32_t terms, channels;
  double factor;
  __device__ void operator()(size_t i) const {
    const size_t o = i / channels, c = i % channels;
    double sum = 0;
    for (uint32_t k = 0; k < terms; k++) sum += x[(o * terms + k) * channels + c];
    y[i] = from_float<T>(static_cast<float>(sum * factor));
  }
};

template <class T, int N>
struct Repeat {
  Spread p;
  const T* dy;
  T* dx;
  __device__ void operator()(uint32_t image, uint32_t row, uint32_t piece) const {
    float v[N];
    load_floats<N>(dy + static_cast<size_t>(image) * p.channels + static_cast<size_t>(piece) * N, v);
#pragma unroll
    for (int k = 0; k < N; k++) v[k] /= static_cast<float>(p.rows);
    store_floats<N>(dx + (static_cast<size_t>(image) * p.rows + row) * p.channels + static_cast<size_t>(piece) * N, v);
  }
};

void forward(const Params& p, const Args& a) {
  map_pixels<Forward>(a, p, static_cast<size_t>(p.images) * p.out_h, p.out_w);
}
void grad_input(const Params& p, const Args& a) {
  map_pixels<GradInput>(a, p, static_cast<size_t>(p.images) * p.h, p.w);
}

void sum_chunks(const Chunks& p, const Args& a) {
  in_pieces(
      a.in_type(0), p.channels,
      [&](auto t, auto n) {
        using T = decltype(t);
        constexpr int N = decltype(n)::value;
        const uint32_t items = p.images * p.chunks, across = ceil_div(p.channels / N, ACROSS);
        // Enough blocks to fill the card twice, each with some rows for every thread.
        const uint32_t most = ceil_div(p.chunk_rows, DOWN * GROUP);
        const uint32_t wanted = ceil_div(static_cast<size_t>(a.multiprocessors()) * 2, static_cast<size_t>(items) * across);
        const uint32_t splits = wanted < most ? wanted : most;
        float* partials = splits > 1 ? a.scratch(static_cast<size_t>(items) * splits * p.channels) : a.out(0);
        a.launch(sum_rows<T, N>, dim3(across, splits, items < MOST_DEEP ? items : MOST_DEEP), dim3(ACROSS, DOWN),
                 sizeof(Meeting<N>), p, a.in<T>(0), partials, splits);
        if (splits > 1) {
          each(a, static_cast<size_t>(items) * p.channels, Combine<float>{partials, a.out(0), splits, p.channels, 1.0});
        }
      },
      a.in<void>(0));
}
void finish_mean(const Finish& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    each(a, static_cast<size_t>(p.images) * p.channels,
         Combine<T>{a.in(0), a.out<T>(0), p.chunks, p.channels, 1.0 / p.rows});
  });
}
void spread_mean(const Spread& p, const Args& a) { map_pixels<Repeat>(a, p, p.images, p.rows); }

const Register kernels[] = {
    {"avg_pool2d.forward", 1, 1, forward},
    {"avg_pool2d.forward_vec4", 1, 1, forward},
    {"avg_pool2d.grad_input", 1, 1, grad_input},
    {"avg_pool2d.grad_input_vec4", 1, 1, grad_input},
    {"avg_pool2d.sum_chunks", 1, 1, sum_chunks},
    {"avg_pool2d.sum_chunks_vec4", 1, 1, sum_chunks},
    {"avg_pool2d.finish_mean", 1, 1, finish_mean},
    {"avg_pool2d.spread_mean", 1, 1, spread_mean},
    {"avg_pool2d.spread_mean_vec4", 1, 1, spread_mean},
};

}  // namespace lacuna::cuda::avg_pool2d
