// y = mean of each window, over the kernel's size or over the pixels inside the map; and the mean of a whole map.
//
// A range owns rows of the result, of y forward and of dx backward (where a pixel gathers from the windows that cover
// it). Vectors run along the channels; windows are added up row by row. The whole map is a sum over rows (column_sums.h).
#include "channels.h"
#include "column_sums.h"

namespace lacuna::cpu::LACUNA_ISA::avg_pool2d {

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

/** Elements of one axis of the map in window o: `begin` … `end` − 1. */
struct Span {
  size_t begin, end;
};
Span window(size_t o, size_t stride, size_t pad, size_t kernel, size_t size) {
  const size_t from = o * stride, to = from + kernel;  // in the padded map
  return {from > pad ? from - pad : 0, to - pad < size ? to - pad : size};
}
/** Windows of one axis that cover element i. */
Span covering(size_t i, size_t stride, size_t pad, size_t kernel, size_t out) {
  const size_t at = i + pad, last = at / stride + 1;
  return {at < kernel ? 0 : (at - kernel) / stride + 1, last < out ? last : out};
}

void forward(const Params& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  const size_t channels = p.channels, rows = size_t{p.images} * p.out_h, in_row = p.w * channels;
  parallel_for(rows, items_in_range(rows, p.out_w * channels), [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
      const float* image = x + row / p.out_h * p.h * in_row;
      const Span v = window(row % p.out_h, p.stride_h, p.pad_h, p.kernel_h, p.h);
      for (size_t ox = 0; ox < p.out_w; ox++) {
        const Span u = window(ox, p.stride_w, p.pad_w, p.kernel_w, p.w);
        const size_t pixels = (v.end - v.begin) * (u.end - u.begin);
        const float share =
            static_cast<float>(1.0 / static_cast<double>(p.count_pad ? size_t{p.kernel_h} * p.kernel_w : pixels));
        float* to = y + (row * p.out_w + ox) * channels;
        channels::each_vector(channels, [&](auto io, size_t c) {
          Vec sum{};
          for (size_t iy = v.begin; iy < v.end; iy++) {
            Vec part{};
            for (size_t ix = u.begin; ix < u.end; ix++) part += io.load(image + iy * in_row + ix * channels + c);
            sum += part;
          }
          io.store(to + c, sum * splat(share));
        });
      }
    }
  });
}

void grad_input(const Params& p, const Args& a) {
  const float* dy = a.in(0);
  float* dx = a.out(0);
  const size_t channels = p.channels, rows = size_t{p.images} * p.h, out_row = p.out_w * channels;
  // 1 / divisor is a product of one factor per axis.
  Scratch<float> across(p.out_w), down(p.out_h);
  const auto shares = [&](float* to, size_t out, size_t stride, size_t pad, size_t kernel, size_t size) {
    for (size_t o = 0; o < out; o++) {
      const Span s = window(o, stride, pad, kernel, size);
      to[o] = static_cast<float>(1.0 / static_cast<double>(p.count_pad ? kernel : s.end - s.begin));
    }
  };
  shares(across.data(), p.out_w, p.stride_w, p.pad_w, p.kernel_w, p.w);
  shares(down.data(), p.out_h, p.stride_h, p.pad_h, p.kernel_h, p.h);
  parallel_for(rows, items_in_range(rows, p.w * channels), [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
      const float* image = dy + row / p.h * p.out_h * out_row;
      const Span v = covering(row % p.h, p.stride_h, p.pad_h, p.kernel_h, p.out_h);
      for (size_t ix = 0; ix < p.w; ix++) {
        const Span u = covering(ix, p.stride_w, p.pad_w, p.kernel_w, p.out_w);
        float* to = dx + (row * p.w + ix) * channels;
        channels::each_vector(channels, [&](auto io, size_t c) {
          Vec sum{};
          for (size_t oy = v.begin; oy < v.end; oy++) {
            Vec part{};
            for (size_t ox = u.begin; ox < u.end; ox++) {
              part = fma(splat(across[ox]), io.load(image + oy * out_row + ox * channels + c), part);
            }
            sum = fma(splat(down[oy]), part, sum);
          }
          io.store(to + c, sum);
        });
      }
    }
  });
}

void sum_chunks(const Chunks& p, const Args& a) {
  const size_t channels = p.channels;
  for (size_t item = 0; item < size_t{p.images} * p.chunks; item++) {
    const size_t begin = item % p.chunks * p.chunk_rows;
    const size_t end = begin + p.chunk_rows < p.rows ? begin + p.chunk_rows : p.rows;
    const float* x = a.in(0) + (item / p.chunks * p.rows + begin) * channels;
    float* y = a.out(0) + item * channels;
    column_sums::compute<column_sums::Plain>(x, 1, (end - begin) * channels, channels,
                                             [y](size_t, size_t c, double sum) { y[c] = static_cast<float>(sum); });
  }
}

void finish_mean(const Finish& p, const Args& a) {
  const size_t channels = p.channels;
  for (size_t n = 0; n < p.images; n++) {
    for (size_t c = 0; c < channels; c++) {
      double sum = 0;
      for (size_t chunk = 0; chunk < p.chunks; chunk++) sum += a.in(0)[(n * p.chunks + chunk) * channels + c];
      a.out(0)[n * channels + c] = static_cast<float>(sum / p.rows);
    }
  }
}

void spread_mean(const Spread& p, const Args& a) {
  const size_t channels = p.channels;
  Scratch<float> share(channels);
  for (size_t n = 0; n < p.images; n++) {
    for (size_t c = 0; c < channels; c++) {
      share[c] = static_cast<float>(a.in(0)[n * channels + c] / static_cast<double>(p.rows));
    }
    float* dx = a.out(0) + n * p.rows * channels;
    channels::each(p.rows, channels, {share.data()},
                   [&](auto io, size_t i, const float* const* v) { io.store(dx + i, io.load(v[0])); });
  }
}

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

}  // namespace lacuna::cpu::LACUNA_ISA::avg_pool2d
