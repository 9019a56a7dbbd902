// y[i] = x[i] in another type. Float to integer drops the fraction and saturates, NaN gives 0; i32 and u32 keep their
// bits. Plain loops without branches, which compilers vectorise. This device has no f16.
#include <limits>

#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::cast {

struct Params {
  uint32_t count;
};

template <class From, class To, To (*convert)(From)>
void each(const Params& p, const Args& args) {
  const From* x = args.in<From>(0);
  To* y = args.out<To>(0);
  parallel_for(p.count, 32768, [=](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) y[i] = convert(x[i]);
  });
}

LACUNA_INLINE int32_t to_i32(float x) {
  // A conversion of what does not fit is undefined: limit first, to the last float below 2^31, and correct afterwards.
  float inside = x < -2147483648.0f ? -2147483648.0f : x;
  inside = inside > 2147483520.0f ? 2147483520.0f : inside;
  inside = x == x ? inside : 0.0f;
  const int32_t whole = static_cast<int32_t>(inside);
  return x >= 2147483648.0f ? std::numeric_limits<int32_t>::max() : whole;
}
LACUNA_INLINE uint32_t to_u32(float x) {
  float inside = x > 0.0f ? x : 0.0f;
  inside = inside > 4294967040.0f ? 4294967040.0f : inside;
  const uint32_t whole = static_cast<uint32_t>(inside);
  return x >= 4294967296.0f ? std::numeric_limits<uint32_t>::max() : whole;
}
template <class From, class To>
LACUNA_INLINE To plain(From x) { return static_cast<To>(x); }

const Register kernels[] = {
    {"cast.f32_to_i32", 1, 1, each<float, int32_t, to_i32>},
    {"cast.f32_to_u32", 1, 1, each<float, uint32_t, to_u32>},
    {"cast.i32_to_f32", 1, 1, each<int32_t, float, plain<int32_t, float>>},
    {"cast.u32_to_f32", 1, 1, each<uint32_t, float, plain<uint32_t, float>>},
    {"cast.i32_to_u32", 1, 1, each<int32_t, uint32_t, plain<int32_t, uint32_t>>},
    {"cast.u32_to_i32", 1, 1, each<uint32_t, int32_t, plain<uint32_t, int32_t>>},
};

}  // namespace lacuna::cpu::LACUNA_ISA::cast
