// y[oy, ox] = (1 − v) · ((1 − u) · x[top, left] + u · x[top, right]) + v · (the same of the row below).
//
// Coordinates and weights are found once per call for rows and columns, not per element. Forward, a range owns rows of
// y: it interpolates two rows of x into one (vectors run along all of the row), then spreads that. Backward, an axis at a
// time, a range owns elements of dx and gathers the outputs that read them, in order.
#include "bilinear.h"

namespace lacuna::cpu::LACUNA_ISA::resize_bilinear {

using namespace bilinear;

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

void forward(const Forward& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  const size_t channels = p.channels, in_row = p.w * channels, out_row = p.out_w * channels;
  Scratch<Between> across(p.out_w);
  for (size_t i = 0; i < p.out_w; i++) across[i] = between(i, p.w, p.step_w, p.offset_w, p.scale_w);
  const size_t rows = size_t{p.images} * p.out_h;
  parallel_for(rows, items_in_range(rows, out_row, 32768), [&](size_t begin, size_t end) {
    Scratch<float> between_rows(in_row + LANES);
    float* from = between_rows.data();
    for (size_t i = 0; i < LANES; i++) from[in_row + i] = 0;  // read by the last vector of a pixel, not used
    for (size_t row = begin; row < end; row++) {
      const Between v = between(row % p.out_h, p.h, p.step_h, p.offset_h, p.scale_h);
      const float* image = x + row / p.out_h * p.h * in_row;
      const float *top = image + v.low * in_row, *bottom = image + v.high * in_row;
      const Vec first = splat(v.first), second = splat(v.second);
      size_t i = 0;
      for (; i + LANES <= in_row; i += LANES) store(from + i, first * load(top + i) + second * load(bottom + i));
      for (; i < in_row; i++) from[i] = v.first * top[i] + v.second * bottom[i];
      float* to = y + row * out_row;
      // Whole vectors write over the end of a pixel: the next pixel puts that right. The last ones of a row may not.
      for (size_t ox = 0; ox < p.out_w; ox++) {
        const float *left = from + across[ox].low * channels, *right = from + across[ox].high * channels;
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
  });
}

void grad_axis(const Axis& p, const Args& a) {
  const float* dy = a.in(0);
  float* dx = a.out(0);
  const size_t channels = p.channels, size = p.size, out_size = p.out_size;
  const Readers readers(size, out_size, p.step, p.offset, p.scale);
  const size_t items = p.outer * size, total = p.outer * out_size * channels;
  parallel_for(items, items_in_range(items, channels), [&](size_t begin, size_t end) {
    size_t n = begin / size, i = begin % size;
    for (size_t item = begin; item < end; item++) {
      const size_t from = (n * out_size + readers.first[i]) * channels;
      const uint32_t start = readers.start[i];
      const size_t count = readers.start[i + 1] - start;
      // Not over the end of dy, nor into another range.
      size_t room = (end - item) * channels;
      const size_t left = count > 0 ? total - from - (count - 1) * channels : room;
      if (left < room) room = left;
      gather_all(dy + from, channels, readers.weights.data() + start, count, room, dx + item * channels);
      if (++i == size) {
        i = 0;
        n++;
      }
    }
  });
}

const Register kernels[] = {
    {"resize_bilinear.forward", 1, 1, forward},
    {"resize_bilinear.forward_vec4", 1, 1, forward},
    {"resize_bilinear.grad_axis", 1, 1, grad_axis},
    {"resize_bilinear.grad_axis_vec4", 1, 1, grad_axis},
};

}  // namespace lacuna::cpu::LACUNA_ISA::resize_bilinear
