// y[n, oy, ox, c] = x[n, floor(oy h / outH), floor(ox w / outW), c], in whole numbers. A thread owns a piece of the channels
// of one pixel of y. Backward it owns one of dx, which gathers the rectangle of outputs that copied it: oy from
// ceil(iy outH / h) up to, not including, ceil((iy + 1) outH / h), and ox alike. Each element of dy is read once.
#include "pixels.h"

namespace lacuna::cuda::resize_nearest {

struct Params {
  uint32_t images, h, w, channels, out_h, out_w;
};

template <class T, int N>
struct Forward {
  Params p;
  const T* x;
  T* y;
  __device__ void operator()(uint32_t row, uint32_t ox, uint32_t piece) const {
    const uint32_t n = row / p.out_h, oy = row % p.out_h;
    const uint32_t iy = static_cast<uint32_t>(static_cast<uint64_t>(oy) * p.h / p.out_h);
    const uint32_t ix = static_cast<uint32_t>(static_cast<uint64_t>(ox) * p.w / p.out_w);
    const size_t from = (static_cast<size_t>(n) * p.h + iy) * p.w + ix, to = static_cast<size_t>(row) * p.out_w + ox;
    using V = Vec<T, N>;
    *reinterpret_cast<V*>(y + to * p.channels + piece * N) =
        *reinterpret_cast<const V*>(x + from * p.channels + piece * N);
  }
};

/** The first output that copies element i: ceil(i out / size). */
__device__ __forceinline__ uint32_t first_of(uint32_t i, uint32_t size, uint32_t out) {
  return static_cast<uint32_t>((static_cast<uint64_t>(i) * out + size - 1) / size);
}

template <class T, int N>
struct GradInput {
  Params p;
  const T* dy;
  T* dx;
  __device__ void operator()(uint32_t row, uint32_t ix, uint32_t piece) const {
    const uint32_t n = row / p.h, iy = row % p.h;
    const uint32_t bottom = first_of(iy + 1, p.h, p.out_h);
    const uint32_t left = first_of(ix, p.w, p.out_w), right = first_of(ix + 1, p.w, p.out_w);
    float sum[N] = {};
    for (uint32_t oy = first_of(iy, p.h, p.out_h); oy < bottom; oy++) {
      const T* from = dy + ((static_cast<size_t>(n) * p.out_h + oy) * p.out_w + left) * p.channels + piece * N;
      float part[N] = {};
      for (uint32_t ox = left; ox < right; ox++, from += p.channels) {
        float v[N];
        load_floats<N>(from, v);
#pragma unroll
        for (int k = 0; k < N; k++) part[k] += v[k];
      }
#pragma unroll
      for (int k = 0; k < N; k++) sum[k] += part[k];
    }
    store_floats<N>(dx + (static_cast<size_t>(row) * p.w + ix) * p.channels + piece * N, sum);
  }
};

void forward(const Params& p, const Args& a) {
  map_pixels<Forward>(a, p, static_cast<size_t>(p.images) * p.out_h, p.out_w);
}
void grad_input(const Params& p, const Args& a) {
  map_pixels<GradInput>(a, p, static_cast<size_t>(p.images) * p.h, p.w);
}

const Register kernels[] = {
    {"resize_nearest.forward", 1, 1, forward},
    {"resize_nearest.forward_vec4", 1, 1, forward},
    {"resize_nearest.grad_input", 1, 1, grad_input},
    {"resize_nearest.grad_input_vec4", 1, 1, grad_input},
};

}  // namespace lacuna::cuda::resize_nearest
