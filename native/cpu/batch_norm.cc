// y = (x − mean) / √(var + eps) · gamma + beta per channel, over [rows, channels].
//
// Bound by memory: each pass reads its operands once, a range of rows per thread (channels.h). Statistics are Chan's
// merged moments in double, for one chunk or many; their second pass over a block finds it in the cache.
#include <cmath>

#include "channels.h"
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::batch_norm {

struct Chunks {
  uint32_t rows, channels, chunks, chunk_rows, first;
};
struct Merge {
  uint32_t channels, chunks, fan_in;
};
struct Finish {
  uint32_t channels, chunks;
  float momentum, eps;
};
struct Freeze {
  uint32_t channels;
  float eps;
};
struct Map {
  uint32_t rows, channels;
};
struct Fused {
  uint32_t rows, channels, add, relu;
};
struct MapOf {
  uint32_t rows, channels, total;
};
struct Pack {
  uint32_t channels, total;
};

/** Calls f(chunk, first row, rows) for the chunks; each splits its rows over the threads. */
template <class F>
void each_chunk(const Chunks& p, const F& f) {
  for (size_t chunk = 0; chunk < p.chunks; chunk++) {
    const size_t begin = chunk * p.chunk_rows;
    const size_t end = begin + p.chunk_rows < p.rows ? begin + p.chunk_rows : p.rows;
    f(p.first + chunk, begin, end - begin);
  }
}

void reduce_moments(const Chunks& p, const Args& a) {
  const size_t channels = p.channels;
  Scratch<double> mean(channels), m2(channels);
  each_chunk(p, [&](size_t to, size_t row, size_t rows) {
    channels::moments(a.in(0) + row * channels, rows, channels, mean.data(), m2.data());
    a.out(0)[to] = static_cast<float>(rows);
    for (size_t c = 0; c < channels; c++) {
      a.out(1)[to * channels + c] = static_cast<float>(mean[c]);
      a.out(2)[to * channels + c] = static_cast<float>(m2[c]);
    }
  });
}

struct Moments {
  double count = 0, mean = 0, m2 = 0;
};
/** The moments of chunks `from` … `to` − 1 of channel `c` taken together. */
Moments merge(const Args& a, size_t channels, size_t c, size_t from, size_t to) {
  Moments all;
  for (size_t chunk = from; chunk < to; chunk++) {
    const double count = a.in(0)[chunk];
    channels::join(all.count, all.mean, all.m2, count, a.in(1)[chunk * channels + c], a.in(2)[chunk * channels + c]);
    all.count += count;
  }
  return all;
}

void merge_moments(const Merge& p, const Args& a) {
  const size_t channels = p.channels, fan_in = p.fan_in;
  for (size_t part = 0; part * fan_in < p.chunks; part++) {
    const size_t to = (part + 1) * fan_in < p.chunks ? (part + 1) * fan_in : p.chunks;
    for (size_t c = 0; c < channels; c++) {
      const Moments all = merge(a, channels, c, part * fan_in, to);
      a.out(0)[part] = static_cast<float>(all.count);
      a.out(1)[part * channels + c] = static_cast<float>(all.mean);
      a.out(2)[part * channels + c] = static_cast<float>(all.m2);
    }
  }
}

void finish_moments(const Finish& p, const Args& a) {
  const double momentum = p.momentum;
  for (size_t c = 0; c < p.channels; c++) {
    const Moments all = merge(a, p.channels, c, 0, p.chunks);
    float& running_mean = a.out(2)[c];
    float& running_var = a.out(3)[c];
    a.out(0)[c] = static_cast<float>(all.mean);
    a.out(1)[c] = static_cast<float>(1 / std::sqrt(all.m2 / all.count + p.eps));
    running_mean = static_cast<float>((1 - momentum) * running_mean + momentum * all.mean);
    running_var = static_cast<float>((1 - momentum) * running_var + momentum * all.m2 / (all.count - 1));
  }
}

void freeze_moments(const Freeze& p, const Args& a) {
  for (size_t c = 0; c < p.channels; c++) {
    a.out(0)[c] = a.in(0)[c];
    a.out(1)[c] = static_cast<float>(1 / std::sqrt(static_cast<double>(a.in(1)[c]) + p.eps));
  }
}

void normalize(const Map& p, const Args& a) {
  const float *x = a.in(0), *gamma = a.in(1), *beta = a.in(2), *mean = a.in(3), *rstd = a.in(4);
  float* y = a.out(0);
  Scratch<float> scale(p.channels);
  for (size_t c = 0; c < p.channels; c++) scale[c] = rstd[c] * gamma[c];
  // The mean is taken off first: x · scale + shift would cancel where it is large.
  channels::each(p.rows, p.channels, {mean, scale.data(), beta}, [&](auto io, size_t i, const float* const* v) {
    io.store(y + i, fma(io.load(x + i) - io.load(v[0]), io.load(v[1]), io.load(v[2])));
  });
}

template <bool Add, bool Relu>
void normalize_then(const Fused& p, const Args& a) {
  const float *x = a.in(0), *gamma = a.in(1), *beta = a.in(2), *mean = a.in(3), *rstd = a.in(4), *residual = a.in(5);
  float* y = a.out(0);
  Scratch<float> scale(p.channels);
  for (size_t c = 0; c < p.channels; c++) scale[c] = rstd[c] * gamma[c];
  channels::each(p.rows, p.channels, {mean, scale.data(), beta}, [&](auto io, size_t i, const float* const* v) {
    Vec value = fma(io.load(x + i) - io.load(v[0]), io.load(v[1]), io.load(v[2]));
    if constexpr (Add) value += io.load(residual + i);
    if constexpr (Relu) value = select(value <= splat(0), splat(0), value);
    io.store(y + i, value);
  });
}

void normalize_fused(const Fused& p, const Args& a) {
  if (p.add && p.relu) {
    normalize_then<true, true>(p, a);
  } else if (p.add) {
    normalize_then<true, false>(p, a);
  } else if (p.relu) {
    normalize_then<false, true>(p, a);
  } else {
    normalize_then<false, false>(p, a);
  }
}

void reduce_gradient(const Chunks& p, const Args& a) {
  const float *mean = a.in(2), *rstd = a.in(3);
  const size_t channels = p.channels;
  Scratch<double> result(2 * channels);
  each_chunk(p, [&](size_t to, size_t row, size_t rows) {
    const float* x = a.in(0) + row * channels;
    const float* dy = a.in(1) + row * channels;
    channels::sums<2>(rows, channels, {mean}, result.data(), [&](auto io, size_t i, const float* const* v, Vec* t) {
      t[1] = io.load(dy + i);
      t[0] = t[1] * (io.load(x + i) - io.load(v[0]));
    });
    for (size_t c = 0; c < channels; c++) {
      a.out(0)[to * channels + c] = static_cast<float>(result[c] * rstd[c]);
      a.out(1)[to * channels + c] = static_cast<float>(result[channels + c]);
    }
  });
}

/** dy where the norm's output, which a ReLU follows, is positive. `offset` is x − mean. */
LACUNA_INLINE Vec through_relu(Vec dy, Vec offset, Vec scale, Vec beta) {
  return select(fma(offset, scale, beta) > splat(0), dy, splat(0));
}

void reduce_gradient_relu(const Chunks& p, const Args& a) {
  const float *gamma = a.in(2), *beta = a.in(3), *mean = a.in(4), *rstd = a.in(5);
  const size_t channels = p.channels;
  Scratch<double> result(2 * channels);
  Scratch<float> scale(channels);
  for (size_t c = 0; c < channels; c++) scale[c] = rstd[c] * gamma[c];
  each_chunk(p, [&](size_t to, size_t row, size_t rows) {
    const float* x = a.in(0) + row * channels;
    const float* dy = a.in(1) + row * channels;
    channels::sums<2>(rows, channels, {mean, scale.data(), beta}, result.data(),
                      [&](auto io, size_t i, const float* const* v, Vec* t) {
                        const Vec offset = io.load(x + i) - io.load(v[0]);
                        t[1] = through_relu(io.load(dy + i), offset, io.load(v[1]), io.load(v[2]));
                        t[0] = t[1] * offset;
                      });
    for (size_t c = 0; c < channels; c++) {
      a.out(0)[to * channels + c] = static_cast<float>(result[c] * rstd[c]);
      a.out(1)[to * channels + c] = static_cast<float>(result[channels + c]);
    }
  });
}

void merge_gradient(const Merge& p, const Args& a) {
  const size_t channels = p.channels, fan_in = p.fan_in;
  for (size_t part = 0; part * fan_in < p.chunks; part++) {
    const size_t to = (part + 1) * fan_in < p.chunks ? (part + 1) * fan_in : p.chunks;
    for (size_t c = 0; c < channels; c++) {
      double gamma = 0, beta = 0;
      for (size_t chunk = part * fan_in; chunk < to; chunk++) {
        gamma += a.in(0)[chunk * channels + c];
        beta += a.in(1)[chunk * channels + c];
      }
      a.out(0)[part * channels + c] = static_cast<float>(gamma);
      a.out(1)[part * channels + c] = static_cast<float>(beta);
    }
  }
}

/** dx = gamma · rstd · (dy − mean(dy) − x̂ · mean(dy · x̂)), where x̂ = (x − mean) · rstd. */
void grad_input(const MapOf& p, const Args& a) {
  const float *x = a.in(0), *dy = a.in(1), *gamma = a.in(2), *mean = a.in(3), *rstd = a.in(4);
  float* dx = a.out(0);
  const size_t channels = p.channels;
  Scratch<float> factors(3 * channels);
  for (size_t c = 0; c < channels; c++) {
    factors[c] = gamma[c] * rstd[c];
    factors[channels + c] = static_cast<float>(a.in(6)[c] / static_cast<double>(p.total));
    factors[2 * channels + c] = static_cast<float>(rstd[c] * static_cast<double>(a.in(5)[c]) / p.total);
  }
  const float* f = factors.data();
  channels::each(p.rows, channels, {mean, f, f + channels, f + 2 * channels},
                 [&](auto io, size_t i, const float* const* v) {
                   const Vec slope = (io.load(x + i) - io.load(v[0])) * io.load(v[3]);
                   io.store(dx + i, io.load(v[1]) * (io.load(dy + i) - io.load(v[2]) - slope));
                 });
}

void grad_input_fixed(const Map& p, const Args& a) {
  const float* dy = a.in(0);
  float* dx = a.out(0);
  Scratch<float> scale(p.channels);
  for (size_t c = 0; c < p.channels; c++) scale[c] = a.in(1)[c] * a.in(2)[c];
  channels::each(p.rows, p.channels, {scale.data()}, [&](auto io, size_t i, const float* const* v) {
    io.store(dx + i, io.load(dy + i) * io.load(v[0]));
  });
}

/** What grad_input_relu needs of each channel: mean, gamma · rstd, beta, mean(dy), rstd · mean(dy · x̂). */
void pack_factors(const Pack& p, const Args& a) {
  const size_t channels = p.channels;
  const double total = p.total;
  float* factors = a.out(0);
  for (size_t c = 0; c < channels; c++) {
    factors[c] = a.in(2)[c];
    factors[channels + c] = a.in(0)[c] * a.in(3)[c];
    factors[2 * channels + c] = a.in(1)[c];
    factors[3 * channels + c] = static_cast<float>(a.in(5)[c] / total);
    factors[4 * channels + c] = static_cast<float>(a.in(3)[c] * static_cast<double>(a.in(4)[c]) / total);
  }
}

void grad_input_relu(const Map& p, const Args& a) {
  const float *x = a.in(0), *dy = a.in(1), *f = a.in(2);
  float* dx = a.out(0);
  const size_t n = p.channels;
  channels::each(p.rows, n, {f, f + n, f + 2 * n, f + 3 * n, f + 4 * n},
                 [&](auto io, size_t i, const float* const* v) {
                   const Vec offset = io.load(x + i) - io.load(v[0]);
                   const Vec scale = io.load(v[1]);
                   const Vec g = through_relu(io.load(dy + i), offset, scale, io.load(v[2]));
                   io.store(dx + i, scale * (g - io.load(v[3]) - offset * io.load(v[4])));
                 });
}

void grad_input_fixed_relu(const Map& p, const Args& a) {
  const float *y = a.in(0), *dy = a.in(1);
  float* dx = a.out(0);
  Scratch<float> scale(p.channels);
  for (size_t c = 0; c < p.channels; c++) scale[c] = a.in(2)[c] * a.in(3)[c];
  channels::each(p.rows, p.channels, {scale.data()}, [&](auto io, size_t i, const float* const* v) {
    io.store(dx + i, select(io.load(y + i) > splat(0), io.load(dy + i) * io.load(v[0]), splat(0)));
  });
}

const Register kernels[] = {
    {"batch_norm.reduce_moments", 1, 3, reduce_moments},
    {"batch_norm.reduce_moments_vec4", 1, 3, reduce_moments},
    {"batch_norm.merge_moments", 3, 3, merge_moments},
    {"batch_norm.finish_moments", 3, 4, finish_moments},
    {"batch_norm.freeze_moments", 2, 2, freeze_moments},
    {"batch_norm.normalize", 5, 1, normalize},
    {"batch_norm.normalize_vec4", 5, 1, normalize},
    {"batch_norm.normalize_fused", 6, 1, normalize_fused},
    {"batch_norm.normalize_fused_vec4", 6, 1, normalize_fused},
    {"batch_norm.reduce_gradient", 4, 2, reduce_gradient},
    {"batch_norm.reduce_gradient_vec4", 4, 2, reduce_gradient},
    {"batch_norm.reduce_gradient_relu", 6, 2, reduce_gradient_relu},
    {"batch_norm.reduce_gradient_relu_vec4", 6, 2, reduce_gradient_relu},
    {"batch_norm.merge_gradient", 2, 2, merge_gradient},
    {"batch_norm.grad_input", 7, 1, grad_input},
    {"batch_norm.grad_input_vec4", 7, 1, grad_input},
    {"batch_norm.grad_input_fixed", 3, 1, grad_input_fixed},
    {"batch_norm.grad_input_fixed_vec4", 3, 1, grad_input_fixed},
    {"batch_norm.pack_factors", 6, 1, pack_factors},
    {"batch_norm.grad_input_relu", 3, 1, grad_input_relu},
    {"batch_norm.grad_input_relu_vec4", 3, 1, grad_input_relu},
    {"batch_norm.grad_input_fixed_relu", 4, 1, grad_input_fixed_relu},
    {"batch_norm.grad_input_fixed_relu_vec4", 4, 1, grad_input_fixed_relu},
};

}  // namespace lacuna::cpu::LACUNA_ISA::batch_norm
