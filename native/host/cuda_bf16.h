// Host twin of the part of CUDA's cuda_bf16.h that the kernels use.
#pragma once
#include <cstdint>
#include <cstring>

/** The upper half of a float's bits. */
struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

/** Rounds to nearest, ties to even; a NaN stays one. */
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {0x7FFF};
  bits += 0x7FFF + (bits >> 16 & 1);
  return {static_cast<uint16_t>(bits >> 16)};
}
