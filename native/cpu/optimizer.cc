// Updates of flat arenas in place, and the norm of all gradients. A range owns 16,384 elements: each array is read and
// written once, at the speed of memory. Plain loops without branches, which compilers vectorise, roots included. The
// holes of an arena are zero and stay zero.
#include <cmath>

#include "column_sums.h"
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::optimizer {

constexpr size_t GRAIN = 16384;

struct Momentum {
  uint32_t count;
  float lr, momentum, decay;
  uint32_t nesterov;
};

/** g = clip[1] dw + decay w; m = momentum m + g; w -= lr m, or lr (g + momentum m) */
void sgd(const Momentum& p, const Args& args) {
  const float* all_dw = args.in(0);
  const float factor = args.in(1)[1];
  float* all_w = args.out(0);
  float* all_m = args.out(1);
  const float lr = p.lr, momentum = p.momentum, decay = p.decay;
  const float ahead = p.nesterov ? momentum : 1.0f, now = p.nesterov ? 1.0f : 0.0f;
  parallel_for(p.count, GRAIN, [=](size_t begin, size_t end) {
    const float* __restrict dw = all_dw + begin;
    float* __restrict w = all_w + begin;
    float* __restrict m = all_m + begin;
    for (size_t i = 0; i < end - begin; i++) {
      const float g = factor * dw[i] + decay * w[i];
      const float mean = momentum * m[i] + g;
      m[i] = mean;
      w[i] -= lr * (now * g + ahead * mean);
    }
  });
}

struct Moments {
  uint32_t count;
  float lr, keep, decay, rate1, beta2, rate2, root, eps;
};

/** g = clip[1] dw + decay w; m += rate1 (g - m); v = beta2 v + rate2 g²; w = keep w - lr m / (√v root + eps) */
void adam(const Moments& p, const Args& args) {
  const float* all_dw = args.in(0);
  const float factor = args.in(1)[1];
  float* all_w = args.out(0);
  float* all_m = args.out(1);
  float* all_v = args.out(2);
  const float lr = p.lr, keep = p.keep, decay = p.decay, rate1 = p.rate1;
  const float beta2 = p.beta2, rate2 = p.rate2, root = p.root, eps = p.eps;
  parallel_for(p.count, GRAIN, [=](size_t begin, size_t end) {
    const float* __restrict dw = all_dw + begin;
    float* __restrict w = all_w + begin;
    float* __restrict m = all_m + begin;
    float* __restrict v = all_v + begin;
    for (size_t i = 0; i < end - begin; i++) {
      const float g = factor * dw[i] + decay * w[i];
      const float mean = m[i] + rate1 * (g - m[i]);
      const float square = beta2 * v[i] + rate2 * g * g;
      m[i] = mean;
      v[i] = square;
      w[i] = keep * w[i] - lr * mean / (std::sqrt(square) * root + eps);
    }
  });
}

struct Average {
  uint32_t count;
  float rate;
};

/** y += rate (w - y) */
void ema(const Average& p, const Args& args) {
  const float* w = args.in(0);
  float* y = args.out(0);
  const Vec rate = splat(p.rate);
  parallel_for(p.count, 2 * GRAIN, [=](size_t begin, size_t end) {
    size_t i = begin;
    for (; i + LANES <= end; i += LANES) {
      const Vec before = load(y + i);
      store(y + i, fma(rate, load(w + i) - before, before));
    }
    for (; i < end; i++) y[i] += rate[0] * (w[i] - y[i]);
  });
}

struct Squares {
  uint32_t count, lanes;
};

/** y[j] = sum of squares of the fours j, j + lanes, …: columns of a matrix whose rows hold 4 · lanes elements. */
void square_sum(const Squares& p, const Args& args) {
  float* y = args.out(0);
  const size_t width = size_t{4} * p.lanes;
  Scratch<double> sums(width);
  column_sums::compute<column_sums::Square>(args.in(0), 1, p.count, width,
                                            [&](size_t, size_t j, double s) { sums[j] = s; });
  for (size_t j = 0; j < p.lanes; j++) {
    const double* four = sums.data() + 4 * j;
    y[j] = static_cast<float>((four[0] + four[1]) + (four[2] + four[3]));
  }
}

struct Limit {
  uint32_t count;
  float limit;
};

/** clip = [norm, min(1, limit / (norm + 1e-6))]; limit 0: the factor is 1. A few thousand terms: one thread. */
void clip_factor(const Limit& p, const Args& args) {
  const float* partials = args.in(0);
  float* clip = args.out(0);
  double squares = 0;
  for (size_t i = 0; i < p.count; i++) squares += partials[i];
  const double norm = std::sqrt(squares);
  clip[0] = static_cast<float>(norm);
  const float factor = static_cast<float>(p.limit / (norm + 1e-6));
  // NaN stays NaN: a step with such gradients must show
  clip[1] = p.limit > 0 ? (factor > 1 ? 1.0f : factor) : 1.0f;
}

const Register kernels[] = {
    {"optimizer.sgd", 2, 2, sgd},
    {"optimizer.adam", 2, 3, adam},
    {"optimizer.ema", 1, 1, ema},
    {"optimizer.square_sum", 1, 1, square_sum},
    {"optimizer.clip_factor", 1, 1, clip_factor},
};

}  // namespace lacuna::cpu::LACUNA_ISA::optimizer
