// y = max of each window, and where it stands in its image; of equal values the first in row-major order counts. A thread
// owns a piece of the channels of one output; windows overlap in the caches.
//
// Backward it owns a piece of one pixel of dx, which gathers from the windows that reach it, comparing their indices with its
// own place: in a fixed order, and nothing is written by two threads.
#include "pixels.h"

namespace lacuna::cuda::max_pool2d {

struct Params {
  uint32_t images, h, w, channels, out_h, out_w, kernel_h, kernel_w;
  uint32_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
};

template <int N>
__device__ __forceinline__ void move_indices(uint32_t* to, const uint32_t (&from)[N]) {
  constexpr int M = N < 4 ? N : 4;
#pragma unroll
  for (int k = 0; k < N; k += M) {
    Vec<uint32_t, M> part;
#pragma unroll
    for (int i = 0; i < M; i++) part.v[i] = from[k + i];
    *reinterpret_cast<Vec<uint32_t, M>*>(to + k) = part;
  }
}

template <class T, int N>
struct Forward {
  Params p;
  const T* x;
  T* y;
  uint32_t* index;
  __device__ void operator()(uint32_t row, uint32_t ox, uint32_t piece) const {
    const T* image = x + static_cast<size_t>(row / p.out_h) * p.h * p.w * p.channels + static_cast<size_t>(piece) * N;
    const int32_t top = static_cast<int32_t>(row % p.out_h * p.stride_h) - static_cast<int32_t>(p.pad_h);
    const int32_t left = static_cast<int32_t>(ox * p.stride_w) - static_cast<int32_t>(p.pad_w);
    float best[N] = {};
    uint32_t where[N] = {};
    bool first = true;
    for (uint32_t ky = 0; ky < p.kernel_h; ky++) {
      const int32_t iy = top + static_cast<int32_t>(ky * p.dilation_h);
      if (iy < 0 || iy >= static_cast<int32_t>(p.h)) continue;
      for (uint32_t kx = 0; kx < p.kernel_w; kx++) {
        const int32_t ix = left + static_cast<int32_t>(kx * p.dilation_w);
        if (ix < 0 || ix >= static_cast<int32_t>(p.w)) continue;
        const uint32_t at = static_cast<uint32_t>(iy) * p.w + static_cast<uint32_t>(ix);
        float v[N];
        load_floats<N>(image + static_cast<size_t>(at) * p.channels, v);
#pragma unroll
        for (int k = 0; k < N; k++) {
          if (first || v[k] > best[k]) {
            best[k] = v[k];
            where[k] = at;
          }
        }
        first = false;
      }
    }
    const size_t to = (static_cast<size_t>(row) * p.out_w + ox) * p.channels + static_cast<size_t>(piece) * N;
    store_floats<N>(y + to, best);
    move_indices<N>(index + to, where);
  }
};

/** The first window that reaches `at`, a coordinate with the padding counted. */
__device__ __forceinline__ uint32_t first_window(uint32_t at, uint32_t reach, uint32_t stride) {
  return at <= reach ? 0 : (at - reach + stride - 1) / stride;
}

template <class T, int N>
struct GradInput {
  Params p;
  const T* dy;
  const uint32_t* index;
  T* dx;
  __device__ void operator()(uint32_t row, uint32_t ix, uint32_t piece) const {
    const uint32_t n = row / p.h, iy = row % p.h, own = iy * p.w + ix;
    const uint32_t top = first_window(iy + p.pad_h, (p.kernel_h - 1) * p.dilation_h, p.stride_h);
    const uint32_t left = first_window(ix + p.pad_w, (p.kernel_w - 1) * p.dilation_w, p.stride_w);
    const uint32_t bottom = min((iy + p.pad_h) / p.stride_h + 1, p.out_h);
    const uint32_t right = min((ix + p.pad_w) / p.stride_w + 1, p.out_w);
    float sum[N] = {};
    for (uint32_t oy = top; oy < bottom; oy++) {
      for (uint32_t ox = left; ox < right; ox++) {
        const size_t at = ((static_cast<size_t>(n) * p.out_h + oy) * p.out_w + ox) * p.channels +
                          static_cast<size_t>(piece) * N;
        float v[N];
        load_floats<N>(dy + at, v);
        constexpr int M = N < 4 ? N : 4;
#pragma unroll
        for (int k = 0; k < N; k += M) {
          const Vec<uint32_t, M> where = *reinterpret_cast<const Vec<uint32_t, M>*>(index + at + k);
#pragma unroll
          for (int i = 0; i < M; i++) sum[k + i] += where.v[i] == own ? v[k + i] : 0.0f;
        }
      }
    }
    store_floats<N>(dx + (static_cast<size_t>(row) * p.w + ix) * p.channels + static_cast<size_t>(piece) * N, sum);
  }
};

void forward(const Params& p, const Args& a) {
  in_pieces(
      a.out_type(0), p.channels,
      [&](auto t, auto n) {
        using T = decltype(t);
        constexpr int N = decltype(n)::value;
        each_pixel(a, static_cast<size_t>(p.images) * p.out_h, p.out_w, p.channels / N,
                   Forward<T, N>{p, a.in<T>(0), a.out<T>(0), a.out<uint32_t>(1)});
      },
      a.in<void>(0), a.out<void>(0), a.out<void>(1));
}
void grad_input(const Params& p, const Args& a) {
  in_pieces(
      a.out_type(0), p.channels,
      [&](auto t, auto n) {
        using T = decltype(t);
        constexpr int N = decltype(n)::value;
        each_pixel(a, static_cast<size_t>(p.images) * p.h, p.w, p.channels / N,
                   GradInput<T, N>{p, a.in<T>(0), a.in<uint32_t>(1), a.out<T>(0)});
      },
      a.in<void>(0), a.in<void>(1), a.out<void>(0));
}

const Register kernels[] = {
    {"max_pool2d.forward", 1, 2, forward},
    {"max_pool2d.forward_vec4", 1, 2, forward},
    {"max_pool2d.grad_input", 2, 1, grad_input},
    {"max_pool2d.grad_input_vec4", 2, 1, grad_input},
};

}  // namespace lacuna::cuda::max_pool2d
