// Philox 4x32-10 (Salmon et al. 2011): blocks of a stream. The same bits as src/philox.ts.
#pragma once
#include "kernel.h"

namespace lacuna::cuda::philox {

struct Stream {
  uint32_t count, key0, key1, counter0, counter1;

  /** The four words of block counter + index. */
  __device__ __forceinline__ void words(size_t index, uint32_t (&to)[4]) const {
    const uint64_t counter = counter0 + (uint64_t{counter1} << 32) + index;
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = key0, k1 = key1;
#pragma unroll
    for (int round = 0; round < 10; round++) {
      const uint32_t high0 = __umulhi(0xd2511f53u, c0), low0 = 0xd2511f53u * c0;
      const uint32_t high2 = __umulhi(0xcd9e8d57u, c2), low2 = 0xcd9e8d57u * c2;
      c0 = high2 ^ c1 ^ k0;
      c1 = low2;
      c2 = high0 ^ c3 ^ k1;
      c3 = low0;
      k0 += 0x9e3779b9u;
      k1 += 0xbb67ae85u;
    }
    to[0] = c0;
    to[1] = c1;
    to[2] = c2;
    to[3] = c3;
  }
};

}  // namespace lacuna::cuda::philox
