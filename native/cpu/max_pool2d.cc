// y = max of each window, and where it stands in its image; of equal values the first in row-major order counts.
//
// Forward, a range owns rows of y, and vectors run along the channels with the index of the best in a second register.
// Backward, a range owns rows of dx: a pixel gathers from the windows that cover it, comparing their indices with its
// own, so nothing is written by two threads.
#include "channels.h"

namespace lacuna::cpu::LACUNA_ISA::max_pool2d {

struct Params {
  uint32_t images, h, w, channels, out_h, out_w, kernel_h, kernel_w;
  uint32_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
};
using Index = ptrdiff_t;

struct Tap {
  const float* x;
  int32_t where;
};

/** Indices move as the bits of floats: nothing is computed with them. */
template <class IO>
LACUNA_INLINE void best_of(IO io, const Tap* taps, size_t count, float* y, uint32_t* index, size_t c) {
  Vec best = io.load(taps[0].x + c);
  Vec where = bits<Vec>(splat_int(taps[0].where));
  for (size_t t = 1; t < count; t++) {
    const Vec value = io.load(taps[t].x + c);
    const Mask more = value > best;
    best = select(more, value, best);
    where = select(more, bits<Vec>(splat_int(taps[t].where)), where);
  }
  io.store(y + c, best);
  io.store(reinterpret_cast<float*>(index) + c, where);
}

void forward(const Params& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  uint32_t* index = a.out<uint32_t>(1);
  const size_t channels = p.channels, rows = size_t{p.images} * p.out_h;
  parallel_for(rows, items_in_range(rows, p.out_w * channels), [&](size_t begin, size_t end) {
    Scratch<Tap> taps(size_t{p.kernel_h} * p.kernel_w);
    for (size_t row = begin; row < end; row++) {
      const float* image = x + row / p.out_h * p.h * p.w * channels;
      const Index top = static_cast<Index>(row % p.out_h * p.stride_h) - p.pad_h;
      for (size_t ox = 0; ox < p.out_w; ox++) {
        const Index left = static_cast<Index>(ox * p.stride_w) - p.pad_w;
        size_t count = 0;
        for (size_t ky = 0; ky < p.kernel_h; ky++) {
          const Index iy = top + static_cast<Index>(ky * p.dilation_h);
          if (iy < 0 || iy >= static_cast<Index>(p.h)) continue;
          for (size_t kx = 0; kx < p.kernel_w; kx++) {
            const Index ix = left + static_cast<Index>(kx * p.dilation_w);
            if (ix < 0 || ix >= static_cast<Index>(p.w)) continue;
            const Index at = iy * p.w + ix;
            taps[count++] = {image + at * static_cast<Index>(channels), static_cast<int32_t>(at)};
          }
        }
        const size_t to = (row * p.out_w + ox) * channels;
        channels::each_vector(channels, [&](auto io, size_t c) {
          best_of(io, taps.data(), count, y + to, index + to, c);
        });
      }
    }
  });
}

void grad_input(const Params& p, const Args& a) {
  const float* dy = a.in(0);
  const uint32_t* index = a.in<uint32_t>(1);
  float* dx = a.out(0);
  const size_t channels = p.channels, rows = size_t{p.images} * p.h;
  // The windows of a row that cover a column, found once for all rows.
  Scratch<uint32_t> counts(p.w), columns(size_t{p.w} * p.kernel_w);
  for (size_t ix = 0; ix < p.w; ix++) {
    uint32_t count = 0;
    for (size_t kx = 0; kx < p.kernel_w; kx++) {
      const Index at = static_cast<Index>(ix + p.pad_w) - static_cast<Index>(kx * p.dilation_w);
      if (at < 0 || at % p.stride_w != 0 || at / p.stride_w >= p.out_w) continue;
      columns[ix * p.kernel_w + count++] = static_cast<uint32_t>(at / p.stride_w);
    }
    counts[ix] = count;
  }
  parallel_for(rows, items_in_range(rows, p.w * channels), [&](size_t begin, size_t end) {
    Scratch<size_t> windows(size_t{p.kernel_h} * p.kernel_w);
    Scratch<size_t> bands(p.kernel_h);
    for (size_t row = begin; row < end; row++) {
      const size_t n = row / p.h, iy = row % p.h;
      size_t band_count = 0;
      for (size_t ky = 0; ky < p.kernel_h; ky++) {
        const Index at = static_cast<Index>(iy + p.pad_h) - static_cast<Index>(ky * p.dilation_h);
        if (at < 0 || at % p.stride_h != 0 || at / p.stride_h >= p.out_h) continue;
        bands[band_count++] = (n * p.out_h + at / p.stride_h) * p.out_w;
      }
      for (size_t ix = 0; ix < p.w; ix++) {
        size_t count = 0;
        for (size_t b = 0; b < band_count; b++) {
          for (size_t k = 0; k < counts[ix]; k++) {
            windows[count++] = (bands[b] + columns[ix * p.kernel_w + k]) * channels;
          }
        }
        const int32_t own = static_cast<int32_t>(iy * p.w + ix);
        float* to = dx + (row * p.w + ix) * channels;
        channels::each_vector(channels, [&](auto io, size_t c) {
          Vec sum{};
          for (size_t k = 0; k < count; k++) {
            const Vec where = io.load(reinterpret_cast<const float*>(index) + windows[k] + c);
            sum += select(bits<IVec>(where) == splat_int(own), io.load(dy + windows[k] + c), Vec{});
          }
          io.store(to + c, sum);
        });
      }
    }
  });
}

const Register kernels[] = {
    {"max_pool2d.forward", 1, 2, forward},
    {"max_pool2d.forward_vec4", 1, 2, forward},
    {"max_pool2d.grad_input", 2, 1, grad_input},
    {"max_pool2d.grad_input_vec4", 2, 1, grad_input},
};

}  // namespace lacuna::cpu::LACUNA_ISA::max_pool2d
