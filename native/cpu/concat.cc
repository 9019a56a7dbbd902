// y[o, offset + i] = x[o, i] for i < run, where a row of y holds `stride` elements. A range owns rows, or pieces of
// long ones: copies at the speed of memory. Elements are four bytes whatever their type; `_vec4` counts vectors of four.
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::concat {

struct Params {
  uint32_t outer, run, stride, offset;
};

template <size_t WIDTH>
void copy_part(const Params& p, const Args& args) {
  const size_t run = p.run * WIDTH, stride = p.stride * WIDTH;
  const uint32_t* x = args.in<uint32_t>(0);
  uint32_t* y = args.out<uint32_t>(0) + p.offset * WIDTH;
  constexpr size_t PIECE = 32768;
  const size_t pieces = (run + PIECE - 1) / PIECE;
  if (pieces > 1) {
    return parallel_for(p.outer * pieces, 1, [=](size_t begin, size_t end) {
      for (size_t i = begin; i < end; i++) {
        const size_t o = i / pieces, from = i % pieces * PIECE;
        const size_t n = from + PIECE < run ? PIECE : run - from;
        std::memcpy(y + o * stride + from, x + o * run + from, n * sizeof(uint32_t));
      }
    });
  }
  parallel_for(p.outer, PIECE / (run + 1) + 1, [=](size_t begin, size_t end) {
    if (run < 16) {  // a call of memcpy would cost more than the copy
      for (size_t o = begin; o < end; o++) {
        for (size_t i = 0; i < run; i++) y[o * stride + i] = x[o * run + i];
      }
      return;
    }
    for (size_t o = begin; o < end; o++) std::memcpy(y + o * stride, x + o * run, run * sizeof(uint32_t));
  });
}

const Register kernels[] = {
    {"concat.copy_part", 1, 1, copy_part<1>},
    {"concat.copy_part_vec4", 1, 1, copy_part<4>},
    {"concat.copy_part_integer", 1, 1, copy_part<1>},
};

}  // namespace lacuna::cpu::LACUNA_ISA::concat
