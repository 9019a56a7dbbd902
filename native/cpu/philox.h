// Philox 4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011): the words of src/philox.ts.
#pragma once
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA {

/** The key and first block of a stream, as they stand in a kernel's parameters: 64 bits each, low word first. */
struct Stream {
  uint32_t key0, key1, counter0, counter1;

  /** Four words of block `index`. */
  LACUNA_INLINE void block(uint64_t index, uint32_t* words) const {
    const uint64_t counter = (static_cast<uint64_t>(counter1) << 32 | counter0) + index;
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = key0, k1 = key1;
    for (int round = 0; round < 10; round++) {
      const uint64_t a = uint64_t{0xd2511f53} * c0;
      const uint64_t b = uint64_t{0xcd9e8d57} * c2;
      c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
      c1 = static_cast<uint32_t>(b);
      c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
      c3 = static_cast<uint32_t>(a);
      k0 += 0x9e3779b9;
      k1 += 0xbb67ae85;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
  }
};

/** Calls each(i, word) for the first `count` words; a range owns 4,096 blocks. */
template <class Each>
void for_each_word(const Stream& stream, size_t count, const Each& each) {
  parallel_for((count + 3) / 4, 4096, [&](size_t begin, size_t end) {
    for (size_t block = begin; block < end; block++) {
      uint32_t words[4];
      stream.block(block, words);
      const size_t left = count - block * 4;
      for (size_t j = 0; j < 4 && j < left; j++) each(block * 4 + j, words[j]);
    }
  });
}

}  // namespace lacuna::cpu::LACUNA_ISA
