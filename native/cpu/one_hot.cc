// y[i, c] = 1 where indices[i] = c, else 0. A range owns rows. Indices are u32 or i32: a negative one is larger than
// any class as u32, and gives zeros like every other that is no class.
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::one_hot {

struct Params {
  uint32_t items, classes;
};

void forward(const Params& p, const Args& args) {
  const uint32_t* indices = args.in<uint32_t>(0);
  float* y = args.out(0);
  const size_t classes = p.classes;
  parallel_for(p.items, 32768 / classes + 1, [=](size_t begin, size_t end) {
    std::memset(y + begin * classes, 0, (end - begin) * classes * sizeof(float));
    for (size_t i = begin; i < end; i++) {
      if (indices[i] < classes) y[i * classes + indices[i]] = 1;
    }
  });
}

const Register kernels[] = {
    {"one_hot.forward", 1, 1, forward},
};

}  // namespace lacuna::cpu::LACUNA_ISA::one_hot
