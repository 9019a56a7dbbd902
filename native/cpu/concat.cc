// y[o, offset + i] = x[o, i] for i < run, where a row of y holds `stride` elements: one operand's place in the output. A
// range owns some rows; the elements are bits of four bytes, whatever their type.
#include <cstring>

#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::concat {

struct Params {
  uint32_t outer, run, stride, offset;
};

template <size_t UNIT>
void copy_part(const Params& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  const size_t run = p.run * UNIT, stride = p.stride * UNIT, offset = p.offset * UNIT;
  parallel_for(p.outer, 32768 / (run + 1) + 1, [&](size_t begin, size_t end) {
    for (size_t o = begin; o < end; o++) std::memcpy(y + o * stride + offset, x + o * run, run * sizeof(float));
  });
}

const Register kernels[] = {
    {"concat.copy_part", 1, 1, copy_part<1>},
    {"concat.copy_part_vec4", 1, 1, copy_part<4>},
    {"concat.copy_part_integer", 1, 1, copy_part<1>},
};

}  // namespace lacuna::cpu::LACUNA_ISA::concat
