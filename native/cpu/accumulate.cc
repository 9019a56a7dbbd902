// y[i] = a[i] + b[i]: gradients of a tensor that was used twice. A range owns 32,768 neighbours: at memory bandwidth.
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::accumulate {

struct Params {
  uint32_t count;
};

inline void add(const Params& p, const Args& a) {
  const float *x = a.in(0), *z = a.in(1);
  float* y = a.out(0);
  parallel_for(p.count, 32768, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) y[i] = x[i] + z[i];
  });
}

const Register kernels[] = {{"accumulate.add", 2, 1, add}};

}  // namespace lacuna::cpu::LACUNA_ISA::accumulate
