// What bilinear kernels share: where outputs read, one row of a resized map, and who reads an input.
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

/**
 * One row of the result, `[out_w, channels]`: rows `v.low` and `v.high` of a map, `in_row` floats each, become one in
 * `mixed` (in_row + LANES floats, of which the last LANES are not cleared here), which is spread over `to`.
 */
inline void resize_row(const float* map, size_t in_row, const Between& v, const Between* across, size_t out_w,
                       size_t channels, float* mixed, float* to) {
  const float *top = map + v.low * in_row, *bottom = map + v.high * in_row;
  const Vec first = splat(v.first), second = splat(v.second);
  size_t i = 0;
  for (; i + LANES <= in_row; i += LANES) store(mixed + i, first * load(top + i) + second * load(bottom + i));
  for (; i < in_row; i++) mixed[i] = v.first * top[i] + v.second * bottom[i];
  const size_t out_row = out_w * channels;
  // Whole vectors write over the end of a pixel: the next pixel puts that right. The last ones of a row may not.
  for (size_t ox = 0; ox < out_w; ox++) {
    const float *left = mixed + across[ox].low * channels, *right = mixed + across[ox].high * channels;
    const Vec f = splat(across[ox].first), s = splat(across[ox].second);
    float* pixel = to + ox * channels;
    const size_t room = out_row - ox * channels;
    size_t c = 0;
    for (; c < channels && c + LANES <= room; c += LANES) {
      store(pixel + c, f * load(left + c) + s * load(right + c));
    }
    for (; c < channels; c++) pixel[c] = across[ox].first * left[c] + across[ox].second * right[c];
  }
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
