// Row loss (1 - s) w[y] (lse - z[y]) + s / classes · sum_k w[k] (lse - z[k]), its weighted mean over rows, and
//   dz[k] = scale ((1 - s) w[y] (p[k] - [k = y]) + s / classes (p[k] sum w - w[k])).
// A thread or a warp has a row (class_rows.h): logits and labels are read once, dz is written once. The weights stay in the
// first cache.
#include "class_rows.h"

namespace lacuna::cuda::cross_entropy {

struct ForwardParams {
  uint32_t rows, classes, threads, block, ignore;
  float smoothing;
};

/** Adds up the losses and weights of rows: 16 in f32, those sums in f64. */
struct Losses {
  static constexpr int INPUTS = 1;
  static constexpr float NEUTRAL = -INFINITY;
  static constexpr bool WRITES = false;
  const uint32_t* labels;
  const float* weights;
  double* partials;  // [blocks, 2]
  uint32_t ignore;
  float smoothing;
  float run_loss = 0, run_weight = 0;
  unsigned run = 0;
  double loss = 0, weight = 0;
  template <class Row>
  __device__ __forceinline__ void operator()(size_t i, Row& row) {
    const uint32_t label = labels[i];
    const LogSum lse = log_sum(row);
    float logit = 0, spread = 0;
    row.each([&](uint32_t k, float z) {
      if (k == label) logit = z;
    });
    logit = row.sum(logit);
    if (smoothing > 0) {
      row.each([&](uint32_t k, float z) {
        if (k < row.classes) spread += weights[k] * (lse.log + (lse.largest - z));
      });
      spread = row.sum(spread);
    }
    if (label == ignore || label >= row.classes || !row.speaks()) return;
    const float w = weights[label];
    // largest - z first: the difference of two large logits is exact where their sum with the logarithm is not
    run_loss += (1 - smoothing) * w * (lse.log + (lse.largest - logit)) +
                smoothing / static_cast<float>(row.classes) * spread;
    run_weight += w;
    if (++run == RUN) flush();
  }
  __device__ void flush() {
    loss += run_loss;
    weight += run_weight;
    run_loss = run_weight = 0;
    run = 0;
  }
  __device__ void end(double (*memory)[32]) {
    flush();
    const double losses = block_sum(loss, memory[0]), total = block_sum(weight, memory[1]);
    if (threadIdx.x == 0) {
      partials[2 * blockIdx.x] = losses;
      partials[2 * blockIdx.x + 1] = total;
    }
  }
};
/** All in the first pair; what combine adds up is the sum over the pairs. */
struct FirstPair {
  float* y;
  uint32_t pairs;
  __device__ void operator()(const double (&sums)[2]) const {
    y[0] = static_cast<float>(sums[0]);
    y[1] = static_cast<float>(sums[1]);
    for (uint32_t i = 2; i < 2 * pairs; i++) y[i] = 0.0f;
  }
};
void forward(const ForwardParams& p, const Args& a) {
  const unsigned blocks = row_blocks(a, p.rows, p.classes);
  auto* partials = a.scratch<double>(2 * static_cast<size_t>(blocks));
  each_row<float>(a, p.rows, p.classes, {{a.in(0), nullptr}, nullptr},
                  Losses{a.in<uint32_t>(1), a.in(2), partials, p.ignore, p.smoothing});
  a.launch(sum_blocks<2, FirstPair>, dim3(1), dim3(BLOCK), sizeof(SumMemory<2>), blocks, partials,
           FirstPair{a.out(0), p.threads});
}

struct CombineParams {
  uint32_t count, block;
};

struct Pair {
  const float* partials;
  __device__ void operator()(size_t i, float (&terms)[2]) const {
    terms[0] = partials[2 * i];
    terms[1] = partials[2 * i + 1];
  }
};
struct Mean {
  float *loss, *total;
  __device__ void operator()(const double (&sums)[2]) const {
    *loss = sums[1] > 0 ? static_cast<float>(sums[0] / sums[1]) : 0.0f;
    *total = static_cast<float>(sums[1]);
  }
};
void combine(const CombineParams& p, const Args& a) {
  sum_all<2>(a, p.count, Pair{a.in(0)}, Mean{a.out(0), a.out(1)});
}

struct GradParams {
  uint32_t rows, classes, ignore;
  float smoothing, weight_sum;
};

struct Gradient : RowMap {
  static constexpr int INPUTS = 1;
  static constexpr float NEUTRAL = -INFINITY;
  static constexpr bool WRITES = true;
  const uint32_t* labels;
  const float *weights, *total, *dy;
  uint32_t ignore;
  float smoothing, weight_sum;
  template <class Row>
  __device__ __forceinline__ void operator()(size_t i, Row& row) {
    const uint32_t label = labels[i];
    const float sum_of_weights = total[0];
    const bool valid = label != ignore && label < row.classes && sum_of_weights > 0;
    const float scale = valid ? dy[0] / sum_of_weights : 0.0f;
    float largest, sum;
    exponentials(row, largest, sum);
    float others = 0;
    row.each([&](uint32_t k, float e) {
      if (k != label) others += e;
    });
    others = row.sum(others);
    const float inverse = 1.0f / sum;
    const float by_weight = valid ? scale * (1 - smoothing) * weights[label] * inverse : 0.0f;
    const float soft = scale * smoothing / static_cast<float>(row.classes);
    row.each([&](uint32_t k, float& e) {
      // p - 1 from the other classes: it keeps its digits where p is near 1
      float d = k == label ? -(by_weight * others) : e * by_weight;
      if (smoothing > 0 && k < row.classes) d += soft * (e * inverse * weight_sum - weights[k]);
      e = valid ? d : 0.0f;
    });
  }
};
void grad_logits(const GradParams& p, const Args& a) {
  if (p.rows == 0) return;
  each_row<float>(a, p.rows, p.classes, {{a.in(0), nullptr}, a.out(0)},
                  Gradient{{}, a.in<uint32_t>(1), a.in(2), a.in(3), a.in(4), p.ignore, p.smoothing, p.weight_sum});
}

const Register kernels[] = {
    {"cross_entropy.forward", 3, 1, forward},
    {"cross_entropy.combine", 1, 2, combine},
    {"cross_entropy.grad_logits", 5, 1, grad_logits},
};

}  // namespace lacuna::cuda::cross_entropy
