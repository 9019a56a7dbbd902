// y[i, c] = 1 where indices[i] = c, else 0. A thread writes four neighbours, 16 bytes. Indices are u32 or i32: a
// negative one is larger than any class as u32, and gives zeros like every other that is no class.
#include "divide.h"

namespace lacuna::cuda::one_hot {

struct Params {
  uint32_t items, classes;
};

struct Four {
  const uint32_t* indices;
  float* y;
  size_t count;
  Divisor classes;
  __device__ void operator()(size_t piece) const {
    uint32_t c;
    uint32_t item = classes.divide(static_cast<uint32_t>(4 * piece), c);
    uint32_t index = indices[item];
    float values[4];
    const unsigned n = 4 * piece + 4 <= count ? 4 : static_cast<unsigned>(count - 4 * piece);
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      values[k] = index == c ? 1.0f : 0.0f;
      if (++c == classes.value() && k + 1 < n) {
        c = 0;
        index = indices[++item];
      }
    }
    if (n == 4) return store_floats<4>(y + 4 * piece, values);
#pragma unroll
    for (unsigned k = 0; k < 3; k++) {
      if (k < n) y[4 * piece + k] = values[k];
    }
  }
};

void forward(const Params& p, const Args& a) {
  const size_t count = static_cast<size_t>(p.items) * p.classes;
  if (count > 0) each(a, (count + 3) / 4, Four{a.in<uint32_t>(0), a.out(0), count, Divisor(p.classes)});
}

const Register kernels[] = {
    {"one_hot.forward", 1, 1, forward},
};

}  // namespace lacuna::cuda::one_hot
