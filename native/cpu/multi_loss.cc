// total + ½ L / v + penalty with v = c² and ln(1 + v) (Liebel) or v = e^s and s / 2 (Kendall), v kept at 1e-4 or more,
// and its gradient. One element of work, in double.
#include <cmath>

#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::multi_loss {

constexpr double SMALLEST = 1e-4;

inline double variance_of(double parameter, bool kendall) {
  const double v = kendall ? std::exp(parameter) : parameter * parameter;
  return v < SMALLEST ? SMALLEST : v;
}

struct AddParams {
  uint32_t index, kendall, first;
};

void add_term(const AddParams& p, const Args& a) {
  const double variance = variance_of(a.in(2)[p.index], p.kendall != 0);
  const double penalty = p.kendall ? std::log(variance) / 2 : std::log1p(variance);
  const double total = p.first ? 0.0 : a.in(0)[0];
  a.out(0)[0] = static_cast<float>(total + 0.5 * a.in(1)[0] / variance + penalty);
  a.out(1)[0] = static_cast<float>(0.5 / variance);
}

struct GradParams {
  uint32_t count, index, kendall;
};

void grad_term(const GradParams& p, const Args& a) {
  const double loss = a.in(0)[0], parameter = a.in(1)[p.index], dy = a.in(2)[0];
  const double variance = variance_of(parameter, p.kendall != 0);
  const double root = (parameter < 0 ? -1 : 1) * std::sqrt(variance);
  const double slope =
      p.kendall ? 0.5 - 0.5 * loss / variance : root * (2 / (1 + variance) - loss / (variance * variance));
  a.out(0)[0] = static_cast<float>(0.5 / variance * dy);
  float* dc = a.out(1);
  for (size_t i = 0; i < p.count; i++) dc[i] = 0;
  dc[p.index] = static_cast<float>(slope * dy);
}

const Register kernels[] = {
    {"multi_loss.add_term", 3, 2, add_term},
    {"multi_loss.grad_term", 3, 2, grad_term},
};

}  // namespace lacuna::cpu::LACUNA_ISA::multi_loss
