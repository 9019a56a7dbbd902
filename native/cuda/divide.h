// Division by a number that all threads share, as a multiplication: an index taken apart into positions along axes.
#pragma once
#include "kernel.h"

namespace lacuna::cuda {

/** n / d of any 32 bits, d > 0: (n m / 2^32 + n) / 2^shift with 2^shift >= d and m = 2^32 (2^shift - d) / d + 1. */
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(uint32_t d) : d_(d) {
    while ((uint64_t{1} << shift_) < d) shift_++;
    factor_ = static_cast<uint32_t>((((uint64_t{1} << shift_) - d) << 32) / d + 1);
  }
  __device__ __forceinline__ uint32_t divide(uint32_t n) const {
    return static_cast<uint32_t>((uint64_t{__umulhi(n, factor_)} + n) >> shift_);
  }
  /** The quotient; `rest` is what is left over. */
  __device__ __forceinline__ uint32_t divide(uint32_t n, uint32_t& rest) const {
    const uint32_t quotient = divide(n);
    rest = n - quotient * d_;
    return quotient;
  }
  __host__ __device__ __forceinline__ uint32_t value() const { return d_; }

 private:
  uint32_t d_ = 1, factor_ = 1, shift_ = 0;
};

}  // namespace lacuna::cuda
