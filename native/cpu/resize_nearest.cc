// y[oy, ox] = x[⌊oy · h / outH⌋, ⌊ox · w / outW⌋], in whole numbers.
//
// Forward copies pixels, and whole rows where an output row repeats the one above. Backward, a range owns rows of dx;
// each element adds up the rectangle of outputs that copied it: a row of them, then the rows.
#include "channels.h"

namespace lacuna::cpu::LACUNA_ISA::resize_nearest {

struct Params {
  uint32_t images, h, w, channels, out_h, out_w;
};

void forward(const Params& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  const size_t channels = p.channels, in_row = p.w * channels, out_row = p.out_w * channels;
  Scratch<size_t> from(p.out_w);
  for (size_t ox = 0; ox < p.out_w; ox++) from[ox] = ox * p.w / p.out_w * channels;
  const size_t rows = size_t{p.images} * p.out_h;
  parallel_for(rows, items_in_range(rows, out_row, 32768), [&](size_t begin, size_t end) {
    size_t last = SIZE_MAX;
    for (size_t row = begin; row < end; row++) {
      const size_t source = row / p.out_h * p.h + row % p.out_h * p.h / p.out_h;
      float* to = y + row * out_row;
      if (source == last) {
        std::memcpy(to, to - out_row, out_row * sizeof(float));
        continue;
      }
      last = source;
      const float* pixels = x + source * in_row;
      for (size_t ox = 0; ox < p.out_w; ox++) {
        const float* pixel = pixels + from[ox];
        channels::each_vector(channels, [&](auto io, size_t c) { io.store(to + ox * channels + c, io.load(pixel + c)); });
      }
    }
  });
}

void grad_input(const Params& p, const Args& a) {
  const float* dy = a.in(0);
  float* dx = a.out(0);
  const size_t channels = p.channels, out_row = p.out_w * channels;
  // The first output that copies element i: ⌈i · out / in⌉.
  const auto first_of = [](size_t i, size_t in, size_t out) { return (i * out + in - 1) / in; };
  const size_t rows = size_t{p.images} * p.h;
  parallel_for(rows, items_in_range(rows, size_t{p.w} * channels, 32768), [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
      const size_t n = row / p.h, iy = row % p.h;
      const size_t oy = first_of(iy, p.h, p.out_h), oy_end = first_of(iy + 1, p.h, p.out_h);
      const float* top = dy + (n * p.out_h + oy) * out_row;
      for (size_t ix = 0; ix < p.w; ix++) {
        const size_t ox = first_of(ix, p.w, p.out_w), ox_end = first_of(ix + 1, p.w, p.out_w);
        float* to = dx + (row * p.w + ix) * channels;
        channels::each_vector(channels, [&](auto io, size_t c) {
          Vec sum{};
          for (size_t v = 0; v < oy_end - oy; v++) {
            Vec part{};
            for (size_t u = ox; u < ox_end; u++) part += io.load(top + v * out_row + u * channels + c);
            sum += part;
          }
          io.store(to + c, sum);
        });
      }
    }
  });
}

const Register kernels[] = {
    {"resize_nearest.forward", 1, 1, forward},
    {"resize_nearest.forward_vec4", 1, 1, forward},
    {"resize_nearest.grad_input", 1, 1, grad_input},
    {"resize_nearest.grad_input_vec4", 1, 1, grad_input},
};

}  // namespace lacuna::cpu::LACUNA_ISA::resize_nearest
