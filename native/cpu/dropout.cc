// y[i] = word i of the stream >= threshold ? x[i] · factor : 0
#include "philox.h"

namespace lacuna::cpu::LACUNA_ISA::dropout {

struct Params {
  uint32_t count;
  Stream stream;
  uint32_t threshold;
  float factor;
};

inline void apply(const Params& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  for_each_word(p.stream, p.count, [&](size_t i, uint32_t word) {
    y[i] = word >= p.threshold ? x[i] * p.factor : 0.0f;
  });
}

const Register kernels[] = {{"dropout.apply", 1, 1, apply}};

}  // namespace lacuna::cpu::LACUNA_ISA::dropout
