// y[n, oy, ox, c] = x between row (step_h oy + offset_h) / scale_h and column (step_w ox + offset_w) / scale_w, clamped to the
// map. Quotients and remainders are exact in whole numbers, so that the gradient finds the same weights. A thread owns a piece
// of the channels of one output; the four inputs of its neighbours overlap, and come from the caches.
//
// Backward an axis at a time, as a gather: dx[n, s, c] = sum over i of weight(i, s) dy[n, i, c] over the outputs i that read s.
// Each element of dy is read twice an axis, the second time from the caches.
#include "pixels.h"

namespace lacuna::cuda::resize_bilinear {

struct Forward {
  uint32_t images, h, w, channels, out_h, out_w, step_h;
  int32_t offset_h;
  uint32_t scale_h, step_w;
  int32_t offset_w;
  uint32_t scale_w;
};
struct Axis {
  uint32_t outer, size, channels, out_size, step;
  int32_t offset;
  uint32_t scale;
};

/** The two inputs that an output lies between, and the weight of the second. */
struct Between {
  uint32_t low, high;
  float t;
};
__device__ __forceinline__ Between between(uint32_t i, uint32_t size, uint32_t step, int32_t offset, uint32_t scale) {
  const int32_t p = static_cast<int32_t>(step * i) + offset;
  const uint32_t at = min(static_cast<uint32_t>(max(p, 0)), (size - 1) * scale);
  const uint32_t low = at / scale;
  return {low, min(low + 1, size - 1), static_cast<float>(at - low * scale) / static_cast<float>(scale)};
}

template <class T, int N>
struct Interpolate {
  Forward p;
  const T* x;
  T* y;
  __device__ void operator()(uint32_t row, uint32_t ox, uint32_t piece) const {
    const Between v = between(row % p.out_h, p.h, p.step_h, p.offset_h, p.scale_h);
    const Between u = between(ox, p.w, p.step_w, p.offset_w, p.scale_w);
    const size_t image = static_cast<size_t>(row / p.out_h) * p.h;
    const size_t top = (image + v.low) * p.w, bottom = (image + v.high) * p.w, c = static_cast<size_t>(piece) * N;
    float a[N], b[N], d[N], e[N];
    load_floats<N>(x + (top + u.low) * p.channels + c, a);
    load_floats<N>(x + (top + u.high) * p.channels + c, b);
    load_floats<N>(x + (bottom + u.low) * p.channels + c, d);
    load_floats<N>(x + (bottom + u.high) * p.channels + c, e);
#pragma unroll
    for (int k = 0; k < N; k++) {
      const float above = (1.0f - u.t) * a[k] + u.t * b[k], below = (1.0f - u.t) * d[k] + u.t * e[k];
      a[k] = (1.0f - v.t) * above + v.t * below;
    }
    store_floats<N>(y + (static_cast<size_t>(row) * p.out_w + ox) * p.channels + c, a);
  }
};

template <class T, int N>
struct GradAxis {
  Axis p;
  const T* dy;
  T* dx;
  /** The first output i from 0 on with step i + offset > bound. */
  __device__ __forceinline__ uint32_t first_beyond(int32_t bound) const {
    return bound < p.offset ? 0 : static_cast<uint32_t>(bound - p.offset) / p.step + 1;
  }
  __device__ void operator()(uint32_t n, uint32_t s, uint32_t piece) const {
    const int32_t scale = static_cast<int32_t>(p.scale), own = static_cast<int32_t>(s) * scale;
    const int32_t last = static_cast<int32_t>(p.size - 1) * scale;
    // The first input takes all that lies before it, the last all that lies behind.
    const uint32_t start = s > 0 ? first_beyond(own - scale) : 0;
    const uint32_t end = s + 1 < p.size ? min(p.out_size, first_beyond(own + scale - 1)) : p.out_size;
    const T* from = dy + (static_cast<size_t>(n) * p.out_size + start) * p.channels + static_cast<size_t>(piece) * N;
    float sum[N] = {};
    for (uint32_t i = start; i < end; i++, from += p.channels) {
      const int32_t at = min(max(static_cast<int32_t>(p.step * i) + p.offset, 0), last);
      const float weight = static_cast<float>(scale - abs(at - own)) / static_cast<float>(scale);
      float v[N];
      load_floats<N>(from, v);
#pragma unroll
      for (int k = 0; k < N; k++) sum[k] += weight * v[k];
    }
    store_floats<N>(dx + (static_cast<size_t>(n) * p.size + s) * p.channels + static_cast<size_t>(piece) * N, sum);
  }
};

void forward(const Forward& p, const Args& a) {
  map_pixels<Interpolate>(a, p, static_cast<size_t>(p.images) * p.out_h, p.out_w);
}
void grad_axis(const Axis& p, const Args& a) { map_pixels<GradAxis>(a, p, p.outer, p.size); }

const Register kernels[] = {
    {"resize_bilinear.forward", 1, 1, forward},
    {"resize_bilinear.forward_vec4", 1, 1, forward},
    {"resize_bilinear.grad_axis", 1, 1, grad_axis},
    {"resize_bilinear.grad_axis_vec4", 1, 1, grad_axis},
};

}  // namespace lacuna::cuda::resize_bilinear
