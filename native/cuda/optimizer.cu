// Updates of flat arenas in place, and the norm of all gradients. A thread owns four neighbours (arenas are multiples of 64
// elements): each array is read and written once in 16-byte pieces, at the speed of memory. The holes of an arena are zero
// and stay zero.
#include "sums.h"

namespace lacuna::cuda::optimizer {

struct Momentum {
  uint32_t count;
  float lr, momentum, decay;
  uint32_t nesterov;
};

/** g = clip[1] dw + decay w; m = momentum m + g; w -= lr m, or lr (g + momentum m) */
struct Sgd {
  Momentum p;
  const float *all_dw, *clip;
  float *all_w, *all_m;
  __device__ void operator()(size_t i) const {
    const float factor = clip[1];
    const float ahead = p.nesterov ? p.momentum : 1.0f, now = p.nesterov ? 1.0f : 0.0f;
    float dw[4], w[4], m[4];
    load_floats<4>(all_dw + 4 * i, dw);
    load_floats<4>(all_w + 4 * i, w);
    load_floats<4>(all_m + 4 * i, m);
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const float g = factor * dw[k] + p.decay * w[k];
      m[k] = p.momentum * m[k] + g;
      w[k] -= p.lr * (now * g + ahead * m[k]);
    }
    store_floats<4>(all_m + 4 * i, m);
    store_floats<4>(all_w + 4 * i, w);
  }
};
void sgd(const Momentum& p, const Args& a) { each(a, p.count / 4, Sgd{p, a.in(0), a.in(1), a.out(0), a.out(1)}); }

struct Moments {
  uint32_t count;
  float lr, keep, decay, rate1, beta2, rate2, root, eps;
};

/** g = clip[1] dw + decay w; m += rate1 (g - m); v = beta2 v + rate2 g^2; w = keep w - lr m / (sqrt(v) root + eps) */
struct Adam {
  Moments p;
  const float *all_dw, *clip;
  float *all_w, *all_m, *all_v;
  __device__ void operator()(size_t i) const {
    const float factor = clip[1];
    float dw[4], w[4], m[4], v[4];
    load_floats<4>(all_dw + 4 * i, dw);
    load_floats<4>(all_w + 4 * i, w);
    load_floats<4>(all_m + 4 * i, m);
    load_floats<4>(all_v + 4 * i, v);
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const float g = factor * dw[k] + p.decay * w[k];
      m[k] += p.rate1 * (g - m[k]);
      v[k] = p.beta2 * v[k] + p.rate2 * g * g;
      w[k] = p.keep * w[k] - p.lr * m[k] / (sqrtf(v[k]) * p.root + p.eps);
    }
    store_floats<4>(all_m + 4 * i, m);
    store_floats<4>(all_v + 4 * i, v);
    store_floats<4>(all_w + 4 * i, w);
  }
};
void adam(const Moments& p, const Args& a) {
  each(a, p.count / 4, Adam{p, a.in(0), a.in(1), a.out(0), a.out(1), a.out(2)});
}

struct Average {
  uint32_t count;
  float rate;
};

/** y += rate (w - y); counts of tensors outside arenas are any */
struct Ema {
  float rate;
  const float* w;
  float* y;
  size_t wide;
  __device__ void operator()(size_t i) const {
    if (i >= wide / 4) {
      const size_t at = wide + (i - wide / 4);
      y[at] += rate * (w[at] - y[at]);
      return;
    }
    float now[4], mean[4];
    load_floats<4>(w + 4 * i, now);
    load_floats<4>(y + 4 * i, mean);
#pragma unroll
    for (int k = 0; k < 4; k++) mean[k] += rate * (now[k] - mean[k]);
    store_floats<4>(y + 4 * i, mean);
  }
};
void ema(const Average& p, const Args& a) {
  const size_t wide = in_vectors<4>(4, a.in(0), a.out(0)) ? p.count / 4 * 4 : 0;
  each(a, wide / 4 + (p.count - wide), Ema{p.rate, a.in(0), a.out(0), wide});
}

struct Squares {
  uint32_t count, lanes;
};

struct SquareOfFour {
  const float* x;
  __device__ void operator()(size_t i, float (&terms)[1]) const {
    float v[4];
    load_floats<4>(x + 4 * i, v);
    terms[0] = (v[0] * v[0] + v[1] * v[1]) + (v[2] * v[2] + v[3] * v[3]);
  }
};
/** All in the first lane: what clip_factor adds up is the sum over the lanes. */
struct FirstLane {
  float* y;
  uint32_t lanes;
  __device__ void operator()(const double (&sums)[1]) const {
    y[0] = static_cast<float>(sums[0]);
    for (uint32_t i = 1; i < lanes; i++) y[i] = 0.0f;
  }
};
void square_sum(const Squares& p, const Args& a) {
  sum_all<1>(a, p.count / 4, SquareOfFour{a.in(0)}, FirstLane{a.out(0), p.lanes});
}

struct Limit {
  uint32_t count;
  float limit;
};

struct Lane {
  const float* partials;
  __device__ void operator()(size_t i, float (&terms)[1]) const { terms[0] = partials[i]; }
};
/** clip = [norm, min(1, limit / (norm + 1e-6))]; limit 0: the factor is 1. NaN stays NaN: such a step must show. */
struct Clip {
  float* clip;
  float limit;
  __device__ void operator()(const double (&sums)[1]) const {
    const double norm = sqrt(sums[0]);
    clip[0] = static_cast<float>(norm);
    const float factor = static_cast<float>(limit / (norm + 1e-6));
    clip[1] = limit > 0 ? (factor > 1 ? 1.0f : factor) : 1.0f;
  }
};
void clip_factor(const Limit& p, const Args& a) { sum_all<1>(a, p.count, Lane{a.in(0)}, Clip{a.out(0), p.limit}); }

const Register kernels[] = {
    {"optimizer.sgd", 2, 2, sgd},
    {"optimizer.adam", 2, 3, adam},
    {"optimizer.ema", 1, 1, ema},
    {"optimizer.square_sum", 1, 1, square_sum},
    {"optimizer.clip_factor", 1, 1, clip_factor},
};

}  // namespace lacuna::cuda::optimizer
