// y[i] = x[i] in another type. Floats are cut towards zero and saturate; NaN becomes 0; integers keep their bits. There is
// no f16 on this device. A range owns 32,768 neighbours.
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::cast {

struct Params {
  uint32_t count;
};

template <class From, class To, To (*F)(From)>
void convert(const Params& p, const Args& a) {
  const From* x = a.in<From>(0);
  To* y = a.out<To>(0);
  parallel_for(p.count, 32768, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) y[i] = F(x[i]);
  });
}

/** Bounds are those of To; 2^31 and 2^32 themselves are floats, the numbers below them are not. */
LACUNA_INLINE int32_t to_i32(float x) {
  if (!(x > -2147483648.0f)) return x != x ? 0 : INT32_MIN;
  return x < 2147483648.0f ? static_cast<int32_t>(x) : INT32_MAX;
}
LACUNA_INLINE uint32_t to_u32(float x) {
  if (!(x > 0.0f)) return 0;
  return x < 4294967296.0f ? static_cast<uint32_t>(x) : UINT32_MAX;
}
template <class From, class To>
LACUNA_INLINE To plain(From x) {
  return static_cast<To>(x);
}

const Register kernels[] = {
    {"cast.f32_to_i32", 1, 1, convert<float, int32_t, to_i32>},
    {"cast.f32_to_u32", 1, 1, convert<float, uint32_t, to_u32>},
    {"cast.i32_to_f32", 1, 1, convert<int32_t, float, plain<int32_t, float>>},
    {"cast.u32_to_f32", 1, 1, convert<uint32_t, float, plain<uint32_t, float>>},
    {"cast.i32_to_u32", 1, 1, convert<int32_t, uint32_t, plain<int32_t, uint32_t>>},
    {"cast.u32_to_i32", 1, 1, convert<uint32_t, int32_t, plain<uint32_t, int32_t>>},
};

}  // namespace lacuna::cpu::LACUNA_ISA::cast
