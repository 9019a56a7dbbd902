// Element loss max(z, 0) - t z + ln(1 + e^-|z|), weighted; dz = scale w (sigmoid(z) - t).
// Partial sum t owns a contiguous share of the elements: f32 lanes within 32 vectors, double above.
#include "tile.h"

namespace lacuna::cpu::LACUNA_ISA::binary_cross_entropy {

constexpr size_t BLOCK = 32 * LANES;

struct ForwardParams {
  uint32_t count, threads, block, given;
  float constant;
  uint32_t weighted;
};

void forward(const ForwardParams& p, const Args& a) {
  const float* logits = a.in(0);
  const float* targets = p.given ? a.in(1) : nullptr;
  const float* weights = p.weighted ? a.in(2) : nullptr;
  float* partials = a.out(0);
  const Shares shares(p.count, p.threads);
  parallel_for(p.threads, 16384 / shares.size + 1, [&](size_t first, size_t last) {
    for (size_t t = first; t < last; t++) {
      const size_t begin = shares.begin(t), end = shares.end(t);
      double total = 0;
      for (size_t block = begin; block < end; block += BLOCK) {
        const size_t stop = block + BLOCK < end ? block + BLOCK : end;
        Vec part = splat(0.0f);
        for (size_t i = block; i < stop; i += LANES) {
          const size_t n = stop - i < LANES ? stop - i : LANES;
          const Vec z = load_some(logits + i, n);
          const Vec target = targets ? load_some(targets + i, n) : splat(p.constant);
          Vec loss = (max(z, splat(0.0f)) - target * z) + log1p(exp(-abs(z)));
          if (weights) loss = loss * load_some(weights + i, n);
          if (n < LANES) {
            float lane[LANES] = {};
            store_part(lane, loss, n);
            loss = load(lane);
          }
          part += loss;
        }
        total += sum(part);
      }
      partials[t] = static_cast<float>(total);
    }
  });
}

struct CombineParams {
  uint32_t count, block;
  float scale;
};

void combine(const CombineParams& p, const Args& a) {
  const float* partials = a.in(0);
  double total = 0;
  for (size_t i = 0; i < p.count; i++) total += partials[i];
  a.out(0)[0] = static_cast<float>(p.scale * total);
}

struct GradParams {
  uint32_t count, given;
  float constant;
  uint32_t weighted;
  float scale;
};

void grad_logits(const GradParams& p, const Args& a) {
  const float* logits = a.in(0);
  const float* targets = p.given ? a.in(1) : nullptr;
  const float* weights = p.weighted ? a.in(2) : nullptr;
  const Vec scale = splat(p.scale * a.in(3)[0]);
  float* dlogits = a.out(0);
  parallel_for(p.count, 16384, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i += LANES) {
      const size_t n = end - i < LANES ? end - i : LANES;
      const Vec z = load_some(logits + i, n);
      const Vec target = targets ? load_some(targets + i, n) : splat(p.constant);
      // Where z > 0 as (1 - t) - (1 - sigmoid): for t = 1 it keeps its digits.
      const Vec e = exp(-abs(z));
      const Vec small = e / (splat(1.0f) + e);
      Vec d = scale * select(z > splat(0.0f), (splat(1.0f) - target) - small, small - target);
      if (weights) d = d * load_some(weights + i, n);
      store_some(dlogits + i, d, n);
    }
  });
}

const Register kernels[] = {
    {"binary_cross_entropy.forward", 3, 1, forward},
    {"binary_cross_entropy.combine", 1, 1, combine},
    {"binary_cross_entropy.grad_logits", 4, 1, grad_logits},
};

}  // namespace lacuna::cpu::LACUNA_ISA::binary_cross_entropy
