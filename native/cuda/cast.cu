// y[i] = x[i] in another type. Float to integer drops the fraction and saturates, NaN gives 0; i32 and u32 keep their
// bits. The half precision of this device is bf16.
#include "map.h"

namespace lacuna::cuda::cast {

struct Params {
  uint32_t count;
};

struct Narrow {
  __device__ __forceinline__ bf16 operator()(float x) const { return from_float<bf16>(x); }
};
struct Widen {
  __device__ __forceinline__ float operator()(bf16 x) const { return to_float(x); }
};
// The GPU's conversion saturates, but the language leaves what does not fit undefined: so it is said here.
struct ToI32 {
  __device__ __forceinline__ int32_t operator()(float x) const {
    if (x >= 2147483648.0f) return INT32_MAX;
    return x > -2147483648.0f ? static_cast<int32_t>(x) : x == x ? INT32_MIN : 0;
  }
};
struct ToU32 {
  __device__ __forceinline__ uint32_t operator()(float x) const {
    if (x >= 4294967296.0f) return UINT32_MAX;
    return x > 0.0f ? static_cast<uint32_t>(x) : 0;
  }
};
template <class From, class To>
struct Plain {
  __device__ __forceinline__ To operator()(From x) const { return static_cast<To>(x); }
};

template <class From, class To, class F>
void convert(const Params& p, const Args& a) {
  map<1>(a, p.count, Arrays<From, To, 1>{{a.in<From>(0)}, a.out<To>(0)}, F{});
}

const Register kernels[] = {
    {"cast.f32_to_half", 1, 1, convert<float, bf16, Narrow>},
    {"cast.half_to_f32", 1, 1, convert<bf16, float, Widen>},
    {"cast.f32_to_i32", 1, 1, convert<float, int32_t, ToI32>},
    {"cast.f32_to_u32", 1, 1, convert<float, uint32_t, ToU32>},
    {"cast.i32_to_f32", 1, 1, convert<int32_t, float, Plain<int32_t, float>>},
    {"cast.u32_to_f32", 1, 1, convert<uint32_t, float, Plain<uint32_t, float>>},
    {"cast.i32_to_u32", 1, 1, convert<int32_t, uint32_t, Plain<int32_t, uint32_t>>},
    {"cast.u32_to_i32", 1, 1, convert<uint32_t, int32_t, Plain<uint32_t, int32_t>>},
};

}  // namespace lacuna::cuda::cast
