// y[n, i, j, o] = relu(residual[n, i, j, o] + bias[o]
//   + Σ x[n, i·stride + kh·dilation − top, j·stride + kw·dilation − left, o / m] · w[o, kh, kw]),
// m = cout / cin outputs per input channel.
//
// No channel meets another, so vectors run along the channels. A range owns rows of the result. A row of it is a sum of
// taps, each a row of the other map, an offset and a vector of weights; the gradient of the input is the same with the
// taps mirrored (one phase of the stride at a time). Where every tap lies inside the map, four pixels share the weights
// they load; near the borders, which with the dilations of an ASPP may be all of the map, each pixel first lists the
// taps that exist.
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::conv2d_depthwise {

struct Params {
  uint32_t n, height, width, cin, out_height, out_width, cout, kh, kw;
  uint32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w, groups;
};
struct Forward {
  Params g;
  uint32_t has_bias, has_residual, relu;
};
struct GradWeight {
  Params g;
  uint32_t rows_per_split, splits;
};

using Index = ptrdiff_t;

/** A result pixel p reads pixel p · step + offset of `row`. */
struct Tap {
  const float* row;
  Index offset;
  const float* w;  // [channels]
};
/** What happens to a sum: y = relu(sum + bias + residual); null, null and false: nothing. `residual` lies as y does. */
struct Epilogue {
  const float *bias, *residual;
  bool relu;
  /** For a result `elements` further on. */
  Epilogue from(size_t elements) const { return {bias, residual ? residual + elements : nullptr, relu}; }
};
struct Pair {
  const float *x, *w;
};

constexpr size_t PIXELS = 4;
constexpr size_t TILE = 2;  // vectors of channels

LACUNA_INLINE Index ceil_div(Index a, Index b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }
LACUNA_INLINE Index floor_div(Index a, Index b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

/** V vectors of channels of P neighbouring pixels. `x_step`, `y_step`: elements from one pixel to the next. */
template <size_t P, size_t V>
LACUNA_INLINE void inner(const Pair* pairs, size_t count, size_t x_step, const Epilogue& e, float* y, size_t y_step,
                         size_t c) {
  Vec sum[P][V];
  for (size_t p = 0; p < P; p++) {
    for (size_t v = 0; v < V; v++) sum[p][v] = e.bias ? load(e.bias + c + v * LANES) : Vec{};
  }
  for (size_t t = 0; t < count; t++) {
    Vec w[V];
    for (size_t v = 0; v < V; v++) w[v] = load(pairs[t].w + c + v * LANES);
    const float* x = pairs[t].x + c;
    for (size_t p = 0; p < P; p++) {
      for (size_t v = 0; v < V; v++) sum[p][v] = fma(load(x + p * x_step + v * LANES), w[v], sum[p][v]);
    }
  }
  for (size_t p = 0; p < P; p++) {
    for (size_t v = 0; v < V; v++) {
      const size_t at = p * y_step + c + v * LANES;
      if (e.residual) sum[p][v] += load(e.residual + at);
      store(y + at, e.relu ? select(sum[p][v] <= Vec{}, Vec{}, sum[p][v]) : sum[p][v]);
    }
  }
}

/** All channels of P pixels. The last vector may overlap the one before: it writes the same values again. */
template <size_t P, size_t V>
void pixels(const Pair* pairs, size_t count, size_t x_step, const Epilogue& e, float* y, size_t y_step,
            size_t channels) {
  if (channels < LANES) {
    for (size_t p = 0; p < P; p++) {
      for (size_t c = 0; c < channels; c++) {
        float sum = e.bias ? e.bias[c] : 0;
        for (size_t t = 0; t < count; t++) sum += pairs[t].x[p * x_step + c] * pairs[t].w[c];
        if (e.residual) sum += e.residual[p * y_step + c];
        y[p * y_step + c] = e.relu && sum <= 0 ? 0 : sum;
      }
    }
    return;
  }
  size_t c = 0;
  for (; c + V * LANES <= channels; c += V * LANES) inner<P, V>(pairs, count, x_step, e, y, y_step, c);
  for (; c + LANES <= channels; c += LANES) inner<P, 1>(pairs, count, x_step, e, y, y_step, c);
  if (c < channels) inner<P, 1>(pairs, count, x_step, e, y, y_step, channels - LANES);
}

/** One row: pixels 0 … count − 1 of y, `y_step` elements apart. `width` is that of the taps' rows. */
void row_of_taps(const Tap* taps, size_t tap_count, Pair* pairs, Index width, Index step, size_t channels,
                 const Epilogue& e, float* y, Index count, size_t y_step) {
  Index first = 0, end = count;  // where all taps are inside
  for (size_t t = 0; t < tap_count; t++) {
    const Index from = ceil_div(-taps[t].offset, step);
    const Index to = floor_div(width - 1 - taps[t].offset, step) + 1;
    if (from > first) first = from;
    if (to < end) end = to;
  }
  for (Index p = 0; p < count;) {
    if (p >= first && p + static_cast<Index>(PIXELS) <= end) {
      for (size_t t = 0; t < tap_count; t++) {
        pairs[t] = {taps[t].row + (p * step + taps[t].offset) * static_cast<Index>(channels), taps[t].w};
      }
      pixels<PIXELS, TILE>(pairs, tap_count, step * channels, e.from(p * y_step), y + p * y_step, y_step, channels);
      p += PIXELS;
      continue;
    }
    size_t n = 0;
    for (size_t t = 0; t < tap_count; t++) {
      const Index at = p * step + taps[t].offset;
      if (at >= 0 && at < width) pairs[n++] = {taps[t].row + at * static_cast<Index>(channels), taps[t].w};
    }
    pixels<1, 2 * TILE>(pairs, n, 0, e.from(p * y_step), y + p * y_step, y_step, channels);
    p++;
  }
}

void forward(const Forward& params, const Args& a) {
  const Params& p = params.g;
  const size_t m = p.cout / p.cin, taps_all = size_t{p.kh} * p.kw;
  const float *x = a.in(0), *w = a.in(1);
  const float* residual = params.has_residual ? a.in(3) : nullptr;
  const Epilogue epilogue{params.has_bias ? a.in(2) : nullptr, residual, params.relu != 0};
  float* y = a.out(0);
  Scratch<float> wt(taps_all * p.cout);  // [kh, kw, cout]
  for (size_t o = 0; o < p.cout; o++) {
    for (size_t t = 0; t < taps_all; t++) wt[t * p.cout + o] = w[o * taps_all + t];
  }
  const size_t rows = size_t{p.n} * p.out_height;
  parallel_for(rows, items_in_range(rows, size_t{p.out_width} * p.cout), [&](size_t begin, size_t end) {
    Scratch<Tap> taps(taps_all);
    Scratch<Pair> pairs(taps_all);
    Scratch<float> repeated(m > 1 ? size_t{p.kh} * p.width * p.cout : 0);  // rows of x, a channel for each output
    for (size_t row = begin; row < end; row++) {
      const size_t n = row / p.out_height, oh = row % p.out_height;
      size_t count = 0;
      for (size_t kh = 0; kh < p.kh; kh++) {
        const Index ih = static_cast<Index>(oh * p.stride_h + kh * p.dilation_h) - p.pad_top;
        if (ih < 0 || ih >= static_cast<Index>(p.height)) continue;
        const float* from = x + (n * p.height + ih) * p.width * p.cin;
        if (m > 1) {
          float* to = repeated.data() + kh * p.width * p.cout;
          for (size_t i = 0; i < size_t{p.width} * p.cin; i++) {
            for (size_t j = 0; j < m; j++) to[i * m + j] = from[i];
          }
          from = to;
        }
        for (size_t kw = 0; kw < p.kw; kw++) {
          taps[count++] = {from, static_cast<Index>(kw * p.dilation_w) - p.pad_left,
                           wt.data() + (kh * p.kw + kw) * p.cout};
        }
      }
      row_of_taps(taps.data(), count, pairs.data(), p.width, p.stride_w, p.cout,
                  epilogue.from(row * p.out_width * p.cout), y + row * p.out_width * p.cout, p.out_width, p.cout);
    }
  });
}

void grad_input(const Params& p, const Args& a) {
  const size_t m = p.cout / p.cin, taps_all = size_t{p.kh} * p.kw;
  const float *dy = a.in(0), *w = a.in(1);
  float* dx = a.out(0);
  Scratch<float> wt(taps_all * p.cout);  // [m, kh, kw, cin]
  for (size_t o = 0; o < p.cout; o++) {
    for (size_t t = 0; t < taps_all; t++) wt[(o % m * taps_all + t) * p.cin + o / m] = w[o * taps_all + t];
  }
  const size_t rows = size_t{p.n} * p.height;
  const size_t dy_row = size_t{p.out_width} * p.cin;  // of one of the m outputs of each channel
  parallel_for(rows, items_in_range(rows, size_t{p.width} * p.cin), [&](size_t begin, size_t end) {
    Scratch<Tap> taps(m * taps_all);
    Scratch<Pair> pairs(m * taps_all);
    Scratch<const float*> sources(m * p.kh);
    Scratch<float> planes(m > 1 ? p.kh * m * dy_row : 0);
    for (size_t row = begin; row < end; row++) {
      const size_t n = row / p.height, ih = row % p.height;
      for (size_t kh = 0; kh < p.kh; kh++) {
        const Index at = static_cast<Index>(ih + p.pad_top) - static_cast<Index>(kh * p.dilation_h);
        const Index oh = at / p.stride_h;
        const bool inside = at >= 0 && at % p.stride_h == 0 && oh < static_cast<Index>(p.out_height);
        const float* from = inside ? dy + (n * p.out_height + oh) * p.out_width * p.cout : nullptr;
        for (size_t j = 0; j < m; j++) {
          sources[kh * m + j] = from;
          if (m == 1 || !inside) continue;
          float* to = planes.data() + (kh * m + j) * dy_row;
          for (size_t i = 0; i < dy_row; i++) to[i] = from[i * m + j];
          sources[kh * m + j] = to;
        }
      }
      for (size_t phase = 0; phase < p.stride_w && phase < p.width; phase++) {
        size_t count = 0;
        for (size_t kh = 0; kh < p.kh; kh++) {
          for (size_t j = 0; j < m; j++) {
            if (!sources[kh * m + j]) continue;
            for (size_t kw = 0; kw < p.kw; kw++) {
              const Index at = static_cast<Index>(phase + p.pad_left) - static_cast<Index>(kw * p.dilation_w);
              if (at % static_cast<Index>(p.stride_w) != 0) continue;
              taps[count++] = {sources[kh * m + j], at / static_cast<Index>(p.stride_w),
                               wt.data() + (j * taps_all + kh * p.kw + kw) * p.cin};
            }
          }
        }
        const Index pixels = (p.width - phase + p.stride_w - 1) / p.stride_w;
        row_of_taps(taps.data(), count, pairs.data(), p.out_width, 1, p.cin, {nullptr, nullptr, false},
                    dx + (row * p.width + phase) * p.cin, pixels, size_t{p.stride_w} * p.cin);
      }
    }
  });
}

/** to[c …] += Σ x · dy over `count` pixels: sums of a row in f32, of rows in double. */
template <size_t V>
LACUNA_INLINE void row_product(const float* x, size_t x_step, const float* dy, size_t dy_step, size_t count,
                               double* to, size_t skip) {
  Vec sum[V];
  for (size_t v = 0; v < V; v++) sum[v] = Vec{};
  for (size_t p = 0; p < count; p++) {
    for (size_t v = 0; v < V; v++) {
      sum[v] = fma(load(x + p * x_step + v * LANES), load(dy + p * dy_step + v * LANES), sum[v]);
    }
  }
  float lane[V * LANES];
  std::memcpy(lane, sum, sizeof(lane));
  for (size_t i = skip; i < V * LANES; i++) to[i] += lane[i];
}

void grad_weight(const GradWeight& params, const Args& a) {
  const Params& p = params.g;
  const size_t m = p.cout / p.cin, taps_all = size_t{p.kh} * p.kw, count = taps_all * p.cout;
  const float *x = a.in(0), *dy = a.in(1);
  const size_t all_rows = size_t{p.n} * p.out_height;
  const size_t channels = p.cout;
  for (size_t split = 0; split < params.splits; split++) {
    const size_t from = split * params.rows_per_split;
    const size_t to = from + params.rows_per_split < all_rows ? from + params.rows_per_split : all_rows;
    const size_t rows = to > from ? to - from : 0;
    const size_t grain = items_in_range(rows, size_t{p.out_width} * p.cout);
    const size_t ranges = (rows + grain - 1) / grain;
    Scratch<double> partial(ranges * count);  // [ranges, kh, kw, cout]
    parallel_for(rows, grain, [&](size_t begin, size_t end) {
      double* sums = partial.data() + begin / grain * count;
      for (size_t i = 0; i < count; i++) sums[i] = 0;
      Scratch<float> repeated(m > 1 ? size_t{p.kh} * p.width * p.cout : 0);
      Scratch<const float*> sources(p.kh);
      for (size_t row = from + begin; row < from + end; row++) {
        const size_t n = row / p.out_height, oh = row % p.out_height;
        for (size_t kh = 0; kh < p.kh; kh++) {
          const Index ih = static_cast<Index>(oh * p.stride_h + kh * p.dilation_h) - p.pad_top;
          const bool inside = ih >= 0 && ih < static_cast<Index>(p.height);
          sources[kh] = inside ? x + (n * p.height + ih) * p.width * p.cin : nullptr;
          if (m == 1 || !inside) continue;
          float* copy = repeated.data() + kh * p.width * p.cout;
          for (size_t i = 0; i < size_t{p.width} * p.cin; i++) {
            for (size_t j = 0; j < m; j++) copy[i * m + j] = sources[kh][i];
          }
          sources[kh] = copy;
        }
        const float* dy_row = dy + row * p.out_width * channels;
        // A few vectors of channels at a time: their part of the rows stays in the first cache for all taps.
        const auto tile = [&](size_t c, auto product) {
          for (size_t kh = 0; kh < p.kh; kh++) {
            if (!sources[kh]) continue;
            for (size_t kw = 0; kw < p.kw; kw++) {
              const Index offset = static_cast<Index>(kw * p.dilation_w) - p.pad_left;
              const Index first = offset < 0 ? ceil_div(-offset, p.stride_w) : 0;
              Index last = floor_div(static_cast<Index>(p.width) - 1 - offset, p.stride_w) + 1;
              if (last > static_cast<Index>(p.out_width)) last = p.out_width;
              if (last <= first) continue;
              product(sources[kh] + (first * p.stride_w + offset) * channels + c, p.stride_w * channels,
                      dy_row + first * channels + c, static_cast<size_t>(last - first),
                      sums + (kh * p.kw + kw) * channels + c);
            }
          }
        };
        size_t c = 0;
        for (; c + 4 * LANES <= channels; c += 4 * LANES) {
          tile(c, [&](const float* xs, size_t step, const float* dys, size_t pixels, double* sum) {
            row_product<4>(xs, step, dys, channels, pixels, sum, 0);
          });
        }
        const auto single = [&](size_t at, size_t skip) {
          tile(at, [&](const float* xs, size_t step, const float* dys, size_t pixels, double* sum) {
            row_product<1>(xs, step, dys, channels, pixels, sum, skip);
          });
        };
        for (; c + LANES <= channels; c += LANES) single(c, 0);
        if (c < channels && channels >= LANES) {
          single(channels - LANES, LANES - (channels - c));
        } else if (c < channels) {
          tile(0, [&](const float* xs, size_t step, const float* dys, size_t pixels, double* sum) {
            for (size_t pixel = 0; pixel < pixels; pixel++) {
              for (size_t k = 0; k < channels; k++) sum[k] += xs[pixel * step + k] * dys[pixel * channels + k];
            }
          });
        }
      }
    });
    float* out = a.out(0) + split * count;
    for (size_t o = 0; o < channels; o++) {
      for (size_t t = 0; t < taps_all; t++) {
        double sum = 0;
        for (size_t range = 0; range < ranges; range++) sum += partial[range * count + t * channels + o];
        out[o * taps_all + t] = static_cast<float>(sum);
      }
    }
  }
}

const Register kernels[] = {
    {"conv2d.forward_depthwise", 4, 1, forward},
    {"conv2d.grad_input_depthwise", 2, 1, grad_input},
    {"conv2d.grad_weight_depthwise", 2, 1, grad_weight},
};

}  // namespace lacuna::cpu::LACUNA_ISA::conv2d_depthwise
