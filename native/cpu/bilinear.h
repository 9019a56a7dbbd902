// What bilinear kernels share: where outputs read, and who reads an input.
#pragma once
#include <cmath>

#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::bilinear {

/** The two inputs that an output lies between, and its weights on them. */
struct Between {
  uint32_t low, high;
  float first, second;
};

inline Between between(size_t i, size_t size, double step, double offset, double scale) {
  double at = (step * static_cast<double>(i) + offset) / scale;
  const double last = static_cast<double>(size - 1);
  at = at < 0 ? 0 : at > last ? last : at;
  const double low = std::floor(at);
  const uint32_t k = static_cast<uint32_t>(low);
  return {k, k + 1 < size ? k + 1 : k, static_cast<float>(1 - (at - low)), static_cast<float>(at - low)};
}

/** The outputs that read each input: neighbours, from first[i] on, with weights[start[i]] to weights[start[i + 1]]. */
struct Readers {
  Scratch<uint32_t> first, start;
  Scratch<float> weights;
  Readers(size_t size, size_t out_size, double step, double offset, double scale)
      : first(size), start(size + 1), weights(2 * out_size) {
    size_t entries = 0, o = 0;
    for (size_t i = 0; i < size; i++) {
      start[i] = static_cast<uint32_t>(entries);
      while (o < out_size && between(o, size, step, offset, scale).high < i) o++;
      first[i] = static_cast<uint32_t>(o);
      for (size_t k = o; k < out_size; k++) {
        const Between b = between(k, size, step, offset, scale);
        if (b.low > i) break;
        weights[entries++] = b.low == b.high ? 1 : b.low == i ? b.first : b.second;
      }
    }
    start[size] = static_cast<uint32_t>(entries);
  }
};

/** y[c …] = Σ weights[k] · x[k · stride + c …], V vectors. */
template <size_t V>
LACUNA_INLINE void gather(const float* x, size_t stride, const float* weights, size_t count, float* y) {
  Vec sum[V];
  for (size_t v = 0; v < V; v++) sum[v] = Vec{};
  for (size_t k = 0; k < count; k++) {
    const Vec w = splat(weights[k]);
    for (size_t v = 0; v < V; v++) sum[v] = fma(w, load(x + k * stride + v * LANES), sum[v]);
  }
  for (size_t v = 0; v < V; v++) store(y + v * LANES, sum[v]);
}

/** The same for all channels. Vectors may reach over their end, but not over `room` floats of y and of x's last row. */
LACUNA_INLINE void gather_all(const float* x, size_t channels, const float* weights, size_t count, size_t room,
                              float* y) {
  size_t c = 0;
  for (; c + 4 * LANES <= channels; c += 4 * LANES) gather<4>(x + c, channels, weights, count, y + c);
  for (; c < channels && c + LANES <= room; c += LANES) gather<1>(x + c, channels, weights, count, y + c);
  for (; c < channels; c++) {
    float sum = 0;
    for (size_t k = 0; k < count; k++) sum += weights[k] * x[k * channels + c];
    y[c] = sum;
  }
}

}  // namespace lacuna::cpu::LACUNA_ISA::bilinear
