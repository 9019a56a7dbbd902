// y = (x − mean) · rstd · gamma + beta, mean and rstd = 1 / √(var + eps) those of one image's group of channels.
//
// x is [images, rows, channels]. Passes over the map are per image and channel (channels.h) and move its operands' bytes once;
// groups are merged on [images, channels] alone, a warp to a group, in f64.
#include "channels.h"

namespace lacuna::cuda::group_norm {

struct Chunks {
  uint32_t images, rows, channels, chunks, chunk_rows;
};
struct Finish {
  uint32_t images, rows, channels, group_size;
  float eps;
};
struct Map {
  uint32_t images, rows, channels;
};
struct Merge {
  uint32_t outer, terms, channels;
};
struct Groups {
  uint32_t images, rows, channels, group_size;
};

Segments segments(const Chunks& p) { return {p.images, p.rows, p.channels, p.chunks, p.chunk_rows}; }

struct WriteMoments {
  float *means, *m2s;
  size_t channels;
  __device__ void operator()(size_t segment, size_t channel, float, double mean, double m2) const {
    means[segment * channels + channel] = static_cast<float>(mean);
    m2s[segment * channels + channel] = static_cast<float>(m2);
  }
};
void reduce_moments(const Chunks& p, const Args& a) {
  moments(a, segments(p), WriteMoments{a.out(0), a.out(1), p.channels});
}

/** Over the chunks of an image. */
struct MergeMoments {
  Chunks p;
  const float *means, *m2s;
  float *mean, *m2;
  __device__ void operator()(size_t i) const {
    const size_t image = i / p.channels, channel = i % p.channels;
    double count = 0, centre = 0, squares = 0;
    for (size_t chunk = 0; chunk < p.chunks; chunk++) {
      const size_t left = p.rows - chunk * p.chunk_rows, at = (image * p.chunks + chunk) * p.channels + channel;
      const double more = static_cast<double>(left < p.chunk_rows ? left : p.chunk_rows);
      Chan(count, more)(centre, squares, means[at], m2s[at]);
      count += more;
    }
    mean[i] = static_cast<float>(centre);
    m2[i] = static_cast<float>(squares);
  }
};
void merge_moments(const Chunks& p, const Args& a) {
  each(a, static_cast<size_t>(p.images) * p.channels, MergeMoments{p, a.in(0), a.in(1), a.out(0), a.out(1)});
}

/** f(first channel of all, lane) for every group, by the lanes of a warp. */
template <class F>
__global__ void __launch_bounds__(BLOCK) each_group_kernel(size_t groups, size_t group_size, F f) {
  const size_t warps = linear_stride() / 32;
  for (size_t group = linear_thread() / 32; group < groups; group += warps) f(group * group_size, threadIdx.x % 32);
}
template <class P, class F>
void each_group(const P& p, const Args& a, const F& f) {
  const size_t groups = static_cast<size_t>(p.images) * p.channels / p.group_size;
  if (groups == 0) return;
  a.launch(each_group_kernel<F>, dim3(linear_grid(a, groups * 32)), dim3(BLOCK), 0, groups, p.group_size, f);
}

/** Channels of a group have as many values each: so its mean is theirs, and m2 = sum of (m2s + rows · (means − mean)²). */
struct FinishMoments {
  Finish p;
  const float *means, *m2s;
  float *mean, *rstd;
  __device__ void operator()(size_t first, unsigned lane) const {
    double sum = 0, squares = 0;
    for (size_t k = lane; k < p.group_size; k += 32) sum += means[first + k];
    const double centre = warp_sum(sum) / p.group_size;
    for (size_t k = lane; k < p.group_size; k += 32) {
      const double offset = means[first + k] - centre;
      squares += m2s[first + k] + offset * offset * p.rows;
    }
    const double variance = warp_sum(squares) / (static_cast<double>(p.rows) * p.group_size);
    const double scale = 1 / sqrt(variance + p.eps);
    for (size_t k = lane; k < p.group_size; k += 32) {
      mean[first + k] = static_cast<float>(centre);
      rstd[first + k] = static_cast<float>(scale);
    }
  }
};
void finish_moments(const Finish& p, const Args& a) {
  each_group(p, a, FinishMoments{p, a.in(0), a.in(1), a.out(0), a.out(1)});
}

void normalize(const Map& p, const Args& a) {
  const Normalize<false> f{{{a.in(1), 0}, {a.in(2), 0}, {a.in(3), p.channels}, {a.in(4), p.channels}}, -INFINITY};
  apply(a, p.images, p.rows, p.channels, f, {0});
}

/** dgammas = rstd · sum of dy · (x − mean), dbetas = sum of dy */
struct WriteGradient {
  const float* rstd;
  float *dgammas, *dbetas;
  size_t channels, chunks;
  __device__ void operator()(size_t segment, size_t channel, float, double product, double total) const {
    const size_t to = segment * channels + channel;
    dgammas[to] = static_cast<float>(product * rstd[segment / chunks * channels + channel]);
    dbetas[to] = static_cast<float>(total);
  }
};
void reduce_gradient(const Chunks& p, const Args& a) {
  gradient_sums(a, segments(p), All{{{a.in(2), p.channels}}},
                WriteGradient{a.in(3), a.out(0), a.out(1), p.channels, p.chunks});
}

struct MergeGradient {
  const float *dgammas, *dbetas;
  float *dgamma, *dbeta;
  size_t terms, channels;
  __device__ void operator()(size_t i) const {
    const size_t first = i / channels * terms * channels + i % channels;
    double gamma = 0, beta = 0;
    for (size_t t = 0; t < terms; t++) {
      gamma += dgammas[first + t * channels];
      beta += dbetas[first + t * channels];
    }
    dgamma[i] = static_cast<float>(gamma);
    dbeta[i] = static_cast<float>(beta);
  }
};
void merge_gradient(const Merge& p, const Args& a) {
  each(a, static_cast<size_t>(p.outer) * p.channels,
       MergeGradient{a.in(0), a.in(1), a.out(0), a.out(1), p.terms, p.channels});
}

/** slope = mean over the group of gamma · dgammas, shift = that of gamma · dbetas */
struct GroupGradient {
  Groups p;
  const float *dgammas, *dbetas, *gamma;
  float *slope, *shift;
  __device__ void operator()(size_t first, unsigned lane) const {
    const float* of = gamma + first % p.channels;  // groups divide the channels, so they do not cross images
    double by_gamma = 0, by_beta = 0;
    for (size_t k = lane; k < p.group_size; k += 32) {
      by_gamma += static_cast<double>(of[k]) * dgammas[first + k];
      by_beta += static_cast<double>(of[k]) * dbetas[first + k];
    }
    const double values = static_cast<double>(p.rows) * p.group_size;
    by_gamma = warp_sum(by_gamma) / values;
    by_beta = warp_sum(by_beta) / values;
    for (size_t k = lane; k < p.group_size; k += 32) {
      slope[first + k] = static_cast<float>(by_gamma);
      shift[first + k] = static_cast<float>(by_beta);
    }
  }
};
void group_gradient(const Groups& p, const Args& a) {
  each_group(p, a, GroupGradient{p, a.in(0), a.in(1), a.in(2), a.out(0), a.out(1)});
}

/** dx = rstd · (gamma · dy − shift − x̂ · slope), x̂ = (x − mean) · rstd */
struct GradInput {
  static constexpr int INPUTS = 2, VECTORS = 5, FACTORS = 4;
  Vector vectors[VECTORS];  // gamma, mean, rstd, slope, shift
  __device__ __forceinline__ void prepare(const float (&of)[VECTORS], float (&to)[FACTORS]) const {
    to[0] = of[1];
    to[1] = of[2] * of[0];
    to[2] = of[2] * of[4];
    to[3] = of[2] * of[2] * of[3];
  }
  __device__ __forceinline__ float operator()(const float (&x)[INPUTS], const float (&f)[FACTORS]) const {
    return fmaf(f[1], x[1], -f[2]) - (x[0] - f[0]) * f[3];
  }
};
void grad_input(const Map& p, const Args& a) {
  const size_t n = p.channels;
  apply(a, p.images, p.rows, n, GradInput{{{a.in(2), 0}, {a.in(3), n}, {a.in(4), n}, {a.in(5), n}, {a.in(6), n}}}, {0, 1});
}

const Register kernels[] = {
    {"group_norm.reduce_moments", 1, 2, reduce_moments},
    {"group_norm.reduce_moments_vec4", 1, 2, reduce_moments},
    {"group_norm.merge_moments", 2, 2, merge_moments},
    {"group_norm.finish_moments", 2, 2, finish_moments},
    {"group_norm.normalize", 5, 1, normalize},
    {"group_norm.normalize_vec4", 5, 1, normalize},
    {"group_norm.reduce_gradient", 4, 2, reduce_gradient},
    {"group_norm.reduce_gradient_vec4", 4, 2, reduce_gradient},
    {"group_norm.merge_gradient", 2, 2, merge_gradient},
    {"group_norm.group_gradient", 3, 2, group_gradient},
    {"group_norm.grad_input", 7, 1, grad_input},
    {"group_norm.grad_input_vec4", 7, 1, grad_input},
};

}  // namespace lacuna::cuda::group_norm
