// y[o, i0 … i5] = x[o, i0 · stride0 + … + i5 · stride5]: sizes are those of y. A range owns some rows of the last axis;
// elements are bits of four bytes, whatever their type.
#include <cstring>

#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::transpose {

struct Params {
  uint32_t outer;
  uint32_t size[6];
  uint32_t stride[6];
};

inline void permute(const Params& p, const Args& a) {
  const uint32_t* x = a.in<uint32_t>(0);
  uint32_t* y = a.out<uint32_t>(0);
  size_t rows = 1;  // of one item
  for (int axis = 0; axis < 5; axis++) rows *= p.size[axis];
  const size_t width = p.size[5], step = p.stride[5];
  parallel_for(p.outer * rows, 16384 / width + 1, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
      const uint32_t* from = x + row / rows * rows * width;
      size_t rest = row % rows;
      for (int axis = 4; axis >= 0; axis--) {
        from += rest % p.size[axis] * p.stride[axis];
        rest /= p.size[axis];
      }
      uint32_t* to = y + row * width;
      if (step == 1) {
        std::memcpy(to, from, width * sizeof(uint32_t));
      } else {
        for (size_t i = 0; i < width; i++) to[i] = from[i * step];
      }
    }
  });
}

const Register kernels[] = {
    {"transpose.permute", 1, 1, permute},
    {"transpose.permute_integer", 1, 1, permute},
};

}  // namespace lacuna::cpu::LACUNA_ISA::transpose
