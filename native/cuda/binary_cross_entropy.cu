// Element loss max(z, 0) - t z + ln(1 + e^-|z|), weighted, its mean; dz = scale w (sigmoid(z) - t).
// A thread takes four neighbours in 16-byte pieces; what is left over, fewer than four, one each.
#include "sums.h"

namespace lacuna::cuda::binary_cross_entropy {

/** Logits with their targets, or one target for all, and weights, or 1. */
struct Operands {
  const float *logits, *targets, *weights;  // null: the constant, and 1
  float constant;
  size_t count;
  /** Items of four, then of one. */
  size_t items() const { return count / 4 + count % 4; }
  /** Calls f(i, n, z, t, w) for item i: n elements from the i-th on. */
  template <class F>
  __device__ __forceinline__ void at(size_t item, F f) const {
    if (item < count / 4) {
      float z[4], t[4] = {constant, constant, constant, constant}, w[4] = {1, 1, 1, 1};
      load_floats<4>(logits + 4 * item, z);
      if (targets) load_floats<4>(targets + 4 * item, t);
      if (weights) load_floats<4>(weights + 4 * item, w);
      f(4 * item, z, t, w);
    } else {
      const size_t i = count / 4 * 4 + (item - count / 4);
      const float z[1] = {logits[i]}, t[1] = {targets ? targets[i] : constant}, w[1] = {weights ? weights[i] : 1.0f};
      f(i, z, t, w);
    }
  }
};

struct ForwardParams {
  uint32_t count, threads, block, given;
  float constant;
  uint32_t weighted;
};

struct Loss {
  Operands x;
  __device__ void operator()(size_t item, float (&terms)[1]) const {
    float sum = 0;
    x.at(item, [&](size_t, const auto& z, const auto& t, const auto& w) {
#pragma unroll
      for (int k = 0; k < static_cast<int>(sizeof(z) / sizeof(z[0])); k++) {
        sum += w[k] * ((fmaxf(z[k], 0.0f) - t[k] * z[k]) + log1pf(expf(-fabsf(z[k]))));
      }
    });
    terms[0] = sum;
  }
};
/** All in the first; what combine adds up is the sum. */
struct First {
  float* y;
  uint32_t count;
  __device__ void operator()(const double (&sums)[1]) const {
    y[0] = static_cast<float>(sums[0]);
    for (uint32_t i = 1; i < count; i++) y[i] = 0.0f;
  }
};
void forward(const ForwardParams& p, const Args& a) {
  const Operands x{a.in(0), p.given ? a.in(1) : nullptr, p.weighted ? a.in(2) : nullptr, p.constant, p.count};
  sum_all<1>(a, x.items(), Loss{x}, First{a.out(0), p.threads});
}

struct CombineParams {
  uint32_t count, block;
  float scale;
};

struct Partial {
  const float* partials;
  __device__ void operator()(size_t i, float (&terms)[1]) const { terms[0] = partials[i]; }
};
struct Scaled {
  float* loss;
  float scale;
  __device__ void operator()(const double (&sums)[1]) const { *loss = static_cast<float>(scale * sums[0]); }
};
void combine(const CombineParams& p, const Args& a) {
  sum_all<1>(a, p.count, Partial{a.in(0)}, Scaled{a.out(0), p.scale});
}

struct GradParams {
  uint32_t count, given;
  float constant;
  uint32_t weighted;
  float scale;
};

struct Gradient {
  Operands x;
  const float* dy;
  float* dlogits;
  float scale;
  __device__ void operator()(size_t item) const {
    const float factor = scale * dy[0];
    x.at(item, [&](size_t i, const auto& z, const auto& t, const auto& w) {
      constexpr int N = sizeof(z) / sizeof(z[0]);
      float d[N];
#pragma unroll
      for (int k = 0; k < N; k++) {
        // Where z > 0 as (1 - t) - (1 - sigmoid): for t = 1 it keeps its digits.
        const float e = expf(-fabsf(z[k])), small = e / (1 + e);
        d[k] = factor * w[k] * (z[k] > 0 ? (1 - t[k]) - small : small - t[k]);
      }
      store_floats<N>(dlogits + i, d);
    });
  }
};
void grad_logits(const GradParams& p, const Args& a) {
  const Operands x{a.in(0), p.given ? a.in(1) : nullptr, p.weighted ? a.in(2) : nullptr, p.constant, p.count};
  each(a, x.items(), Gradient{x, a.in(3), a.out(0), p.scale});
}

const Register kernels[] = {
    {"binary_cross_entropy.forward", 3, 1, forward},
    {"binary_cross_entropy.combine", 1, 1, combine},
    {"binary_cross_entropy.grad_logits", 4, 1, grad_logits},
};

}  // namespace lacuna::cuda::binary_cross_entropy
