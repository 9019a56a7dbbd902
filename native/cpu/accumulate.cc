// y[i] = a[i] + b[i]: what two uses of a tensor add to its gradient. A range owns 32,768 elements: bound by memory.
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::accumulate {

struct Params {
  uint32_t count;
};

void add(const Params& p, const Args& args) {
  const float* a = args.in(0);
  const float* b = args.in(1);
  float* y = args.out(0);
  parallel_for(p.count, 32768, [&](size_t begin, size_t end) {
    size_t i = begin;
    for (; i + LANES <= end; i += LANES) store(y + i, load(a + i) + load(b + i));
    for (; i < end; i++) y[i] = a[i] + b[i];
  });
}

const Register kernels[] = {
    {"accumulate.add", 2, 1, add},
};

}  // namespace lacuna::cpu::LACUNA_ISA::accumulate
