// y[o, offset + i] = x[o, i] for i < run, where a row of y holds `stride` elements. A range owns rows, or pieces of
// long ones: copies at the speed of memory. Elements are four bytes whatever their type; `_vec4` counts vectors of four.
#include "rows.h"

namespace lacuna::cpu::LACUNA_ISA::concat {

struct Params {
  uint32_t outer, run, stride, offset;
};

template <size_t WIDTH>
void copy_part(const Params& p, const Args& args) {
  const size_t run = p.run * WIDTH, stride = p.stride * WIDTH;
  const uint32_t* x = args.in<uint32_t>(0);
  uint32_t* y = args.out<uint32_t>(0) + p.offset * WIDTH;
  rows::each_piece(p.outer, run, [=](size_t o, size_t from, size_t to) {
    rows::copy(y + o * stride + from, x + o * run + from, to - from);
  });
}

const Register kernels[] = {
    {"concat.copy_part", 1, 1, copy_part<1>},
    {"concat.copy_part_vec4", 1, 1, copy_part<4>},
    {"concat.copy_part_integer", 1, 1, copy_part<1>},
};

}  // namespace lacuna::cpu::LACUNA_ISA::concat
