// total + L / 2v + penalty with v = c^2 and ln(1 + v) (Liebel) or v = e^s and s / 2 (Kendall), v kept at 1e-4 or more,
// and its gradient. One element of work, in double.
#include "kernel.h"

namespace lacuna::cuda::multi_loss {

__device__ __forceinline__ double variance_of(double parameter, bool kendall) {
  constexpr double SMALLEST = 1e-4;
  const double v = kendall ? exp(parameter) : parameter * parameter;
  return v < SMALLEST ? SMALLEST : v;
}

struct AddParams {
  uint32_t index, kendall, first;
};

struct AddTerm {
  AddParams p;
  const float *total, *loss, *c;
  float *y, *weight;
  __device__ void operator()(size_t) const {
    const double variance = variance_of(c[p.index], p.kendall != 0);
    const double penalty = p.kendall ? log(variance) / 2 : log1p(variance);
    const double before = p.first ? 0.0 : static_cast<double>(total[0]);
    y[0] = static_cast<float>(before + 0.5 * loss[0] / variance + penalty);
    weight[0] = static_cast<float>(0.5 / variance);
  }
};
void add_term(const AddParams& p, const Args& a) {
  each(a, 1, AddTerm{p, a.in(0), a.in(1), a.in(2), a.out(0), a.out(1)});
}

struct GradParams {
  uint32_t count, index, kendall;
};

struct GradTerm {
  GradParams p;
  const float *all_loss, *c, *all_dy;
  float *dloss, *dc;
  __device__ void operator()(size_t) const {
    const double loss = all_loss[0], parameter = c[p.index], dy = all_dy[0];
    const double variance = variance_of(parameter, p.kendall != 0);
    const double root = (parameter < 0 ? -1 : 1) * sqrt(variance);
    const double slope =
        p.kendall ? 0.5 - 0.5 * loss / variance : root * (2 / (1 + variance) - loss / (variance * variance));
    dloss[0] = static_cast<float>(0.5 / variance * dy);
    for (uint32_t i = 0; i < p.count; i++) dc[i] = i == p.index ? static_cast<float>(slope * dy) : 0.0f;
  }
};
void grad_term(const GradParams& p, const Args& a) {
  each(a, 1, GradTerm{p, a.in(0), a.in(1), a.in(2), a.out(0), a.out(1)});
}

const Register kernels[] = {
    {"multi_loss.add_term", 3, 2, add_term},
    {"multi_loss.grad_term", 3, 2, grad_term},
};

}  // namespace lacuna::cuda::multi_loss
