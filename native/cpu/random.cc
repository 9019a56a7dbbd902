// y[i] = word i of a stream of random words, or that word's upper 24 bits as a number in [0, 1).
#include "philox.h"

namespace lacuna::cpu::LACUNA_ISA::random {

struct Params {
  uint32_t count;
  Stream stream;
};

inline void draw_bits(const Params& p, const Args& a) {
  uint32_t* y = a.out<uint32_t>(0);
  for_each_word(p.stream, p.count, [y](size_t i, uint32_t word) { y[i] = word; });
}

inline void draw_uniform(const Params& p, const Args& a) {
  float* y = a.out(0);
  for_each_word(p.stream, p.count, [y](size_t i, uint32_t word) {
    y[i] = static_cast<float>(word >> 8) * (1.0f / 16777216.0f);
  });
}

const Register kernels[] = {{"random.draw_bits", 0, 1, draw_bits}, {"random.draw_uniform", 0, 1, draw_uniform}};

}  // namespace lacuna::cpu::LACUNA_ISA::random
