// Row loss (1 - s) w[y] (lse - z[y]) + s / classes · sum_k w[k] (lse - z[k]), its weighted mean over rows, and
//   dz[k] = scale ((1 - s) w[y] (p[k] - [k = y]) + s / classes (p[k] sum w - w[k])).
// Partial sum t owns a contiguous share of the rows, in tiles of LANES rows (tile.h): f32 within 32 of them, then double.
#include "tile.h"

namespace lacuna::cpu::LACUNA_ISA::cross_entropy {

constexpr size_t BLOCK = 32 * LANES;

struct ForwardParams {
  uint32_t rows, classes, threads, block, ignore;
  float smoothing;
};

void forward(const ForwardParams& p, const Args& a) {
  const float* logits = a.in(0);
  const uint32_t* labels = a.in<uint32_t>(1);
  const float* weights = a.in(2);
  float* partials = a.out(0);
  const size_t classes = p.classes;
  const Shares shares(p.rows, p.threads);
  const size_t grain = 16384 / (shares.size * classes) + 1;
  parallel_for(p.threads, grain, [&](size_t first, size_t last) {
    Scratch<float> scratch(classes * LANES);
    float* tile = scratch.data();
    for (size_t t = first; t < last; t++) {
      const size_t begin = shares.begin(t), end = shares.end(t);
      double losses = 0, total = 0;
      for (size_t block = begin; block < end; block += BLOCK) {
        const size_t stop = block + BLOCK < end ? block + BLOCK : end;
        Vec block_loss = splat(0.0f), block_weight = splat(0.0f);
        for (size_t row = block; row < stop; row += LANES) {
          const size_t count = stop - row < LANES ? stop - row : LANES;
          load_tile(logits + row * classes, classes, count, tile);
          const IVec label = load_labels(labels + row, count, p.ignore);
          const LogSum lse = log_sum(tile, classes);
          Mask valid = splat_int(0);
          Vec weight = splat(0.0f), logit = splat(0.0f);
          for (size_t k = 0; k < classes; k++) {
            const Mask hit = label == splat_int(static_cast<int32_t>(k));
            valid = valid | hit;
            weight = select(hit, splat(weights[k]), weight);
            logit = select(hit, load(tile + k * LANES), logit);
          }
          // largest - z first: the difference of two large logits is exact where their sum with the logarithm is not
          Vec loss = splat(1 - p.smoothing) * weight * (lse.log + (lse.largest - logit));
          if (p.smoothing > 0) {
            Vec spread = splat(0.0f);
            for (size_t k = 0; k < classes; k++) {
              spread = fma(splat(weights[k]), lse.log + (lse.largest - load(tile + k * LANES)), spread);
            }
            loss = fma(splat(p.smoothing / static_cast<float>(classes)), spread, loss);
          }
          block_loss += select(valid, loss, splat(0.0f));
          block_weight += weight;
        }
        losses += sum(block_loss);
        total += sum(block_weight);
      }
      partials[2 * t] = static_cast<float>(losses);
      partials[2 * t + 1] = static_cast<float>(total);
    }
  });
}

struct CombineParams {
  uint32_t count, block;
};

void combine(const CombineParams& p, const Args& a) {
  const float* partials = a.in(0);
  double loss = 0, weight = 0;
  for (size_t i = 0; i < p.count; i++) {
    loss += partials[2 * i];
    weight += partials[2 * i + 1];
  }
  a.out(0)[0] = weight > 0 ? static_cast<float>(loss / weight) : 0.0f;
  a.out(1)[0] = static_cast<float>(weight);
}

struct GradParams {
  uint32_t rows, classes, ignore;
  float smoothing, weight_sum;
};

void grad_logits(const GradParams& p, const Args& a) {
  const float* logits = a.in(0);
  const uint32_t* labels = a.in<uint32_t>(1);
  const float* weights = a.in(2);
  const float total = a.in(3)[0];
  const float scale = total > 0 ? a.in(4)[0] / total : 0.0f;
  float* dlogits = a.out(0);
  const size_t classes = p.classes;
  const float hard = scale * (1 - p.smoothing), soft = scale * p.smoothing / static_cast<float>(classes);
  each_tile(logits, p.rows, classes, 1, [&](size_t row, size_t count, float* tile) {
    const IVec label = load_labels(labels + row, count, p.ignore);
    const Vec largest = largest_of(tile, classes);
    Mask valid = splat_int(0);
    Vec weight = splat(0.0f), sum = splat(0.0f), others = splat(0.0f);
    for (size_t k = 0; k < classes; k++) {
      const Mask hit = label == splat_int(static_cast<int32_t>(k));
      const Vec e = exp(load(tile + k * LANES) - largest);
      store(tile + k * LANES, e);
      valid = valid | hit;
      weight = select(hit, splat(weights[k]), weight);
      sum += e;
      others += select(hit, splat(0.0f), e);
    }
    const Vec inverse = splat(1.0f) / sum;
    const Vec by_weight = splat(hard) * weight * inverse;
    // p - 1 from the other classes: it keeps its digits where p is near 1
    const Vec at_label = -(by_weight * others);
    for (size_t k = 0; k < classes; k++) {
      const Mask hit = label == splat_int(static_cast<int32_t>(k));
      const Vec e = load(tile + k * LANES);
      Vec d = select(hit, at_label, e * by_weight);
      if (p.smoothing > 0) d = fma(splat(soft), fma(e * inverse, splat(p.weight_sum), splat(-weights[k])), d);
      store(tile + k * LANES, select(valid, d, splat(0.0f)));
    }
    store_tile(dlogits + row * classes, classes, count, tile);
  });
}

const Register kernels[] = {
    {"cross_entropy.forward", 3, 1, forward},
    {"cross_entropy.combine", 1, 2, combine},
    {"cross_entropy.grad_logits", 5, 1, grad_logits},
};

}  // namespace lacuna::cpu::LACUNA_ISA::cross_entropy
