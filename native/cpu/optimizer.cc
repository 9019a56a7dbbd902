// Updates of flat arenas in place, one pass over what they read and write; a range owns 16,384 neighbours.
//   sgd:  g = clip[1] dw + decay w;  m = momentum m + g;  w -= lr (nesterov ? g + momentum m : m)
//   adam: g as above;  m += rate1 (g - m);  v = beta2 v + rate2 g²;  w = keep w - lr m / (√v root + eps)
//   ema:  y += rate (w - y)
// and the norm of all gradients, in two stages: a lane owns a fixed share of an arena.
#include <cmath>

#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::optimizer {

inline constexpr size_t GRAIN = 16384;

struct SgdParams {
  uint32_t count;
  float lr, momentum, decay;
  uint32_t nesterov;
};

inline void sgd(const SgdParams& p, const Args& a) {
  const float* dw = a.in(0);
  const float factor = a.in(1)[1];
  float *w = a.out(0), *m = a.out(1);
  const float ahead = p.nesterov ? p.momentum : 0.0f;
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
      const float g = factor * dw[i] + p.decay * w[i];
      const float moment = p.momentum * m[i] + g;
      m[i] = moment;
      w[i] -= p.lr * (p.nesterov ? g + ahead * moment : moment);
    }
  });
}

struct AdamParams {
  uint32_t count;
  float lr, keep, decay, rate1, beta2, rate2, root, eps;
};

inline void adam(const AdamParams& p, const Args& a) {
  const float* dw = a.in(0);
  const float factor = a.in(1)[1];
  float *w = a.out(0), *m = a.out(1), *v = a.out(2);
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
      const float g = factor * dw[i] + p.decay * w[i];
      const float mean = m[i] + p.rate1 * (g - m[i]);
      const float square = p.beta2 * v[i] + p.rate2 * g * g;
      m[i] = mean;
      v[i] = square;
      w[i] = p.keep * w[i] - p.lr * mean / (std::sqrt(square) * p.root + p.eps);
    }
  });
}

struct EmaParams {
  uint32_t count;
  float rate;
};

inline void ema(const EmaParams& p, const Args& a) {
  const float* w = a.in(0);
  float* y = a.out(0);
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) y[i] += p.rate * (w[i] - y[i]);
  });
}

struct SquareSumParams {
  uint32_t count, lanes;
};

/** y[lane] = Σ x² over the lane's share, in blocks of vectors in f32 that are added in double. */
inline void square_sum(const SquareSumParams& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  const size_t count = p.count, lanes = p.lanes;
  parallel_for(lanes, GRAIN / (count / lanes + 1) + 1, [&](size_t begin, size_t end) {
    for (size_t lane = begin; lane < end; lane++) {
      size_t i = count * lane / lanes;
      const size_t last = count * (lane + 1) / lanes;
      double total = 0;
      while (i + LANES <= last) {
        Vec squares = {};
        for (size_t k = 0; k < 64 && i + LANES <= last; k++, i += LANES) {
          const Vec v = load(x + i);
          squares = fma(v, v, squares);
        }
        total += sum(squares);
      }
      for (; i < last; i++) total += static_cast<double>(x[i]) * x[i];
      y[lane] = static_cast<float>(total);
    }
  });
}

struct ClipParams {
  uint32_t count;
  float limit;
};

/** clip = [norm, min(1, limit / (norm + 1e-6))], as PyTorch's clip_grad_norm_; limit 0 means a factor of 1. */
inline void clip_factor(const ClipParams& p, const Args& a) {
  const float* partials = a.in(0);
  float* clip = a.out(0);
  double total = 0;
  for (size_t i = 0; i < p.count; i++) total += partials[i];
  const double norm = std::sqrt(total);
  const double factor = p.limit / (norm + 1e-6);
  clip[0] = static_cast<float>(norm);
  clip[1] = p.limit > 0 && !(factor > 1) ? static_cast<float>(factor) : 1.0f;
}

const Register kernels[] = {
    {"optimizer.sgd", 2, 2, sgd},
    {"optimizer.adam", 2, 3, adam},
    {"optimizer.ema", 1, 1, ema},
    {"optimizer.square_sum", 1, 1, square_sum},
    {"optimizer.clip_factor", 1, 1, clip_factor},
};

}  // namespace lacuna::cpu::LACUNA_ISA::optimizer
