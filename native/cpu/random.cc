// y[4 b + j] = word j of Philox block counter + b, or that word as a multiple of 2^-24 in [0, 1).
#include "kernel.h"
#include "philox.h"

namespace lacuna::cpu::LACUNA_ISA::random {

void draw_bits(const philox::Stream& p, const Args& args) {
  uint32_t* y = args.out<uint32_t>(0);
  philox::each(p, [=](size_t i, size_t n, const uint32_t* words) { std::memcpy(y + i, words, n * sizeof(uint32_t)); });
}

void draw_uniform(const philox::Stream& p, const Args& args) {
  float* y = args.out(0);
  philox::each(p, [=](size_t i, size_t n, const uint32_t* words) {
    // 24 bits: exact as a signed integer, which every instruction set converts
    for (size_t k = 0; k < n; k++) y[i + k] = static_cast<float>(static_cast<int32_t>(words[k] >> 8)) * 0x1p-24f;
  });
}

const Register kernels[] = {
    {"random.draw_bits", 0, 1, draw_bits},
    {"random.draw_uniform", 0, 1, draw_uniform},
};

}  // namespace lacuna::cpu::LACUNA_ISA::random
