// y = (x − mean) · rstd · gamma + beta per channel, rstd = 1 / √(var + eps), over [rows, channels]; fused with a residual, ReLU.
//
// Passes over the map are those of channels.h: bytes moved are those of the map's operands, once. Of the batch's chunks each is
// reduced by the whole grid, so one is enough. What is left of [chunks, channels] is small: a thread per channel, in f64.
#include "channels.h"

namespace lacuna::cuda::batch_norm {

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

Segments segments(const Chunks& p) { return {1, p.rows, p.channels, p.chunks, p.chunk_rows}; }

struct WriteMoments {
  float *counts, *means, *m2s;
  size_t first, channels;
  __device__ void operator()(size_t chunk, size_t channel, float rows, double mean, double m2) const {
    const size_t to = (first + chunk) * channels + channel;
    if (channel == 0) counts[first + chunk] = rows;
    means[to] = static_cast<float>(mean);
    m2s[to] = static_cast<float>(m2);
  }
};
void reduce_moments(const Chunks& p, const Args& a) {
  moments(a, segments(p), WriteMoments{a.out(0), a.out(1), a.out(2), p.first, p.channels});
}

struct Found {
  const float *counts, *means, *m2s;
  size_t channels;
  /** The moments of chunks `from` ... `to` - 1 of a channel. */
  __device__ __forceinline__ void merge(size_t channel, size_t from, size_t to, double& count, double& mean, double& m2) const {
    count = mean = m2 = 0;
    for (size_t chunk = from; chunk < to; chunk++) {
      const double more = counts[chunk];
      Chan(count, more)(mean, m2, means[chunk * channels + channel], m2s[chunk * channels + channel]);
      count += more;
    }
  }
};
/** Chunks that part `part` merges: from part · fan_in. */
__device__ __forceinline__ size_t past(size_t part, size_t fan_in, size_t chunks) {
  return (part + 1) * fan_in < chunks ? (part + 1) * fan_in : chunks;
}

struct MergeMoments {
  Found found;
  size_t chunks, fan_in;
  float *counts, *means, *m2s;
  __device__ void operator()(size_t i) const {
    const size_t part = i / found.channels, channel = i % found.channels;
    double count, mean, m2;
    found.merge(channel, part * fan_in, past(part, fan_in, chunks), count, mean, m2);
    if (channel == 0) counts[part] = static_cast<float>(count);
    means[i] = static_cast<float>(mean);
    m2s[i] = static_cast<float>(m2);
  }
};
void merge_moments(const Merge& p, const Args& a) {
  each(a, static_cast<size_t>(ceil_div(p.chunks, p.fan_in)) * p.channels,
       MergeMoments{{a.in(0), a.in(1), a.in(2), p.channels}, p.chunks, p.fan_in, a.out(0), a.out(1), a.out(2)});
}

/** running += momentum (new - running), with the unbiased variance. */
struct FinishMoments {
  Found found;
  Finish p;
  float *mean, *rstd, *running_mean, *running_var;
  __device__ void operator()(size_t i) const {
    double count, centre, m2;
    found.merge(i, 0, p.chunks, count, centre, m2);
    const double momentum = p.momentum;
    mean[i] = static_cast<float>(centre);
    rstd[i] = static_cast<float>(1 / sqrt(m2 / count + p.eps));
    running_mean[i] = static_cast<float>((1 - momentum) * running_mean[i] + momentum * centre);
    running_var[i] = static_cast<float>((1 - momentum) * running_var[i] + momentum * m2 / (count - 1));
  }
};
void finish_moments(const Finish& p, const Args& a) {
  each(a, p.channels,
       FinishMoments{{a.in(0), a.in(1), a.in(2), p.channels}, p, a.out(0), a.out(1), a.out(2), a.out(3)});
}

struct FreezeMoments {
  const float *running_mean, *running_var;
  float *mean, *rstd;
  float eps;
  __device__ void operator()(size_t i) const {
    mean[i] = running_mean[i];
    rstd[i] = static_cast<float>(1 / sqrt(static_cast<double>(running_var[i]) + eps));
  }
};
void freeze_moments(const Freeze& p, const Args& a) {
  each(a, p.channels, FreezeMoments{a.in(0), a.in(1), a.out(0), a.out(1), p.eps});
}

template <bool ADD>
Normalize<ADD> normal_of(const Args& a, bool relu) {
  return {{{a.in(1), 0}, {a.in(2), 0}, {a.in(3), 0}, {a.in(4), 0}}, relu ? 0.0f : -INFINITY};
}
void normalize(const Map& p, const Args& a) { apply(a, 1, p.rows, p.channels, normal_of<false>(a, false), {0}); }
void normalize_fused(const Fused& p, const Args& a) {
  if (p.add) {
    apply(a, 1, p.rows, p.channels, normal_of<true>(a, p.relu), {0, 5});
  } else {
    apply(a, 1, p.rows, p.channels, normal_of<false>(a, p.relu), {0});
  }
}

/** dy where the norm's output, which a ReLU follows, is positive. `offset` is x − mean. */
__device__ __forceinline__ float through_relu(float dy, float offset, float scale, float shift) {
  return normal(offset, scale, shift) > 0.0f ? dy : 0.0f;
}
/** g is dy through a ReLU. */
struct Passed {
  static constexpr int VECTORS = 4, FACTORS = 3;
  Vector vectors[VECTORS];  // gamma, beta, mean, rstd
  __device__ __forceinline__ void prepare(const float (&of)[VECTORS], float (&to)[FACTORS]) const {
    to[0] = of[2];
    to[1] = of[0] * of[3];
    to[2] = of[1];
  }
  __device__ __forceinline__ float operator()(float offset, float dy, const float (&f)[FACTORS]) const {
    return through_relu(dy, offset, f[1], f[2]);
  }
};
/** dgammas = rstd · sum of g · (x − mean), dbetas = sum of g */
struct WriteGradient {
  const float* rstd;
  float *dgammas, *dbetas;
  size_t first, channels;
  __device__ void operator()(size_t chunk, size_t channel, float, double product, double total) const {
    const size_t to = (first + chunk) * channels + channel;
    dgammas[to] = static_cast<float>(product * rstd[channel]);
    dbetas[to] = static_cast<float>(total);
  }
};
void reduce_gradient(const Chunks& p, const Args& a) {
  gradient_sums(a, segments(p), All{{{a.in(2), 0}}}, WriteGradient{a.in(3), a.out(0), a.out(1), p.first, p.channels});
}
void reduce_gradient_relu(const Chunks& p, const Args& a) {
  gradient_sums(a, segments(p), Passed{{{a.in(2), 0}, {a.in(3), 0}, {a.in(4), 0}, {a.in(5), 0}}},
                WriteGradient{a.in(5), a.out(0), a.out(1), p.first, p.channels});
}

struct MergeGradient {
  const float *dgammas, *dbetas;
  float *dgamma, *dbeta;
  size_t channels, chunks, fan_in;
  __device__ void operator()(size_t i) const {
    const size_t part = i / channels, channel = i % channels;
    double gamma = 0, beta = 0;
    for (size_t chunk = part * fan_in; chunk < past(part, fan_in, chunks); chunk++) {
      gamma += dgammas[chunk * channels + channel];
      beta += dbetas[chunk * channels + channel];
    }
    dgamma[i] = static_cast<float>(gamma);
    dbeta[i] = static_cast<float>(beta);
  }
};
void merge_gradient(const Merge& p, const Args& a) {
  each(a, static_cast<size_t>(ceil_div(p.chunks, p.fan_in)) * p.channels,
       MergeGradient{a.in(0), a.in(1), a.out(0), a.out(1), p.channels, p.chunks, p.fan_in});
}

/** dx = scale · (dy − mean(dy) − (x − mean) · slope), scale = gamma · rstd, slope = rstd · mean(dy · x̂), x̂ = (x − mean) · rstd */
struct GradInput {
  static constexpr int INPUTS = 2, VECTORS = 5, FACTORS = 4;
  Vector vectors[VECTORS];  // gamma, mean, rstd, dgamma, dbeta
  float total;
  __device__ __forceinline__ void prepare(const float (&of)[VECTORS], float (&to)[FACTORS]) const {
    to[0] = of[1];
    to[1] = of[0] * of[2];
    to[2] = of[4] / total;
    to[3] = of[2] * of[3] / total;
  }
  __device__ __forceinline__ float operator()(const float (&x)[INPUTS], const float (&f)[FACTORS]) const {
    return f[1] * (x[1] - f[2] - (x[0] - f[0]) * f[3]);
  }
};
void grad_input(const MapOf& p, const Args& a) {
  const GradInput f{{{a.in(2), 0}, {a.in(3), 0}, {a.in(4), 0}, {a.in(5), 0}, {a.in(6), 0}}, static_cast<float>(p.total)};
  apply(a, 1, p.rows, p.channels, f, {0, 1});
}

/** dx = gamma · rstd · dy; where RELU, y comes first and tells where dy passes. */
template <bool RELU>
struct GradInputFixed {
  static constexpr int INPUTS = RELU ? 2 : 1, VECTORS = 2, FACTORS = 1;
  Vector vectors[VECTORS];  // gamma, rstd
  __device__ __forceinline__ void prepare(const float (&of)[VECTORS], float (&to)[FACTORS]) const { to[0] = of[0] * of[1]; }
  __device__ __forceinline__ float operator()(const float (&x)[INPUTS], const float (&f)[FACTORS]) const {
    const float dx = x[INPUTS - 1] * f[0];
    if constexpr (RELU) return x[0] > 0.0f ? dx : 0.0f;
    return dx;
  }
};
void grad_input_fixed(const Map& p, const Args& a) {
  apply(a, 1, p.rows, p.channels, GradInputFixed<false>{{{a.in(1), 0}, {a.in(2), 0}}}, {0});
}
void grad_input_fixed_relu(const Map& p, const Args& a) {
  apply(a, 1, p.rows, p.channels, GradInputFixed<true>{{{a.in(2), 0}, {a.in(3), 0}}}, {0, 1});
}

/** What grad_input_relu needs of each channel: mean, gamma · rstd, beta, mean(g), rstd · mean(g · x̂). */
struct PackFactors {
  const float *gamma, *beta, *mean, *rstd, *dgamma, *dbeta;
  float* factors;
  size_t channels;
  float total;
  __device__ void operator()(size_t i) const {
    factors[i] = mean[i];
    factors[channels + i] = gamma[i] * rstd[i];
    factors[2 * channels + i] = beta[i];
    factors[3 * channels + i] = dbeta[i] / total;
    factors[4 * channels + i] = rstd[i] * dgamma[i] / total;
  }
};
void pack_factors(const Pack& p, const Args& a) {
  each(a, p.channels, PackFactors{a.in(0), a.in(1), a.in(2), a.in(3), a.in(4), a.in(5), a.out(0), p.channels,
                                  static_cast<float>(p.total)});
}

/** As GradInput, of g for dy. */
struct GradInputRelu {
  static constexpr int INPUTS = 2, VECTORS = 5, FACTORS = 5;
  Vector vectors[VECTORS];  // the rows of PackFactors
  __device__ __forceinline__ void prepare(const float (&of)[VECTORS], float (&to)[FACTORS]) const {
#pragma unroll
    for (int k = 0; k < FACTORS; k++) to[k] = of[k];
  }
  __device__ __forceinline__ float operator()(const float (&x)[INPUTS], const float (&f)[FACTORS]) const {
    const float offset = x[0] - f[0];
    return f[1] * (through_relu(x[1], offset, f[1], f[2]) - f[3] - offset * f[4]);
  }
};
void grad_input_relu(const Map& p, const Args& a) {
  GradInputRelu f;
  for (size_t k = 0; k < 5; k++) f.vectors[k] = {a.in(2) + k * p.channels, 0};
  apply(a, 1, p.rows, p.channels, f, {0, 1});
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

}  // namespace lacuna::cuda::batch_norm
