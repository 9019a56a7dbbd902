// y[i] = word i of the stream >= threshold ? x[i] · factor : 0; word 4 b + j is word j of Philox block counter + b. The
// mask is made where it is used and never stored.
#include "kernel.h"
#include "philox.h"

namespace lacuna::cpu::LACUNA_ISA::dropout {

struct Params {
  philox::Stream stream;
  uint32_t threshold;
  float factor;
};

void apply(const Params& p, const Args& args) {
  const float* x = args.in(0);
  float* y = args.out(0);
  const uint32_t threshold = p.threshold;
  const float factor = p.factor;
  philox::each(p.stream, [=](size_t i, size_t n, const uint32_t* words) {
    for (size_t k = 0; k < n; k++) {
      const float scaled = x[i + k] * factor;
      y[i + k] = words[k] >= threshold ? scaled : 0.0f;
    }
  });
}

const Register kernels[] = {
    {"dropout.apply", 1, 1, apply},
};

}  // namespace lacuna::cpu::LACUNA_ISA::dropout
