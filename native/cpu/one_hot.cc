// y[i, c] = indices[i] = c ? 1 : 0. A range owns some items.
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::one_hot {

struct Params {
  uint32_t items, classes;
};

inline void forward(const Params& p, const Args& a) {
  const uint32_t* indices = a.in<uint32_t>(0);
  float* y = a.out(0);
  const size_t classes = p.classes;
  parallel_for(p.items, 32768 / (classes + 1) + 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
      for (size_t c = 0; c < classes; c++) y[i * classes + c] = indices[i] == c ? 1.0f : 0.0f;
    }
  });
}

const Register kernels[] = {{"one_hot.forward", 1, 1, forward}};

}  // namespace lacuna::cpu::LACUNA_ISA::one_hot
