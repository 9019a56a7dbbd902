// Philox 4x32-10 (Salmon et al. 2011): blocks of a stream, many at once. The same bits as src/philox.ts.
#pragma once
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::philox {

/** Blocks that are made together: the loops over them are what compilers vectorise. */
inline constexpr size_t BATCH = 64;

/** words[4 b + j] = word j of block counter + b, for b < BATCH. */
inline void make(uint32_t key0, uint32_t key1, uint64_t counter, uint32_t* words) {
  uint32_t c0[BATCH], c1[BATCH], c2[BATCH], c3[BATCH];
  for (size_t b = 0; b < BATCH; b++) {
    c0[b] = static_cast<uint32_t>(counter + b);
    c1[b] = static_cast<uint32_t>((counter + b) >> 32);
    c2[b] = 0;
    c3[b] = 0;
  }
  for (int round = 0; round < 10; round++) {
    for (size_t b = 0; b < BATCH; b++) {
      const uint64_t first = uint64_t{0xd2511f53} * c0[b], second = uint64_t{0xcd9e8d57} * c2[b];
      c0[b] = static_cast<uint32_t>(second >> 32) ^ c1[b] ^ key0;
      c1[b] = static_cast<uint32_t>(second);
      c2[b] = static_cast<uint32_t>(first >> 32) ^ c3[b] ^ key1;
      c3[b] = static_cast<uint32_t>(first);
    }
    key0 += 0x9e3779b9;
    key1 += 0xbb67ae85;
  }
  for (size_t b = 0; b < BATCH; b++) {
    words[4 * b] = c0[b];
    words[4 * b + 1] = c1[b];
    words[4 * b + 2] = c2[b];
    words[4 * b + 3] = c3[b];
  }
}

struct Stream {
  uint32_t count, key0, key1, counter0, counter1;
};

/** Calls f(i, n, words) for runs of the `count` words of a stream, in parallel: words[k] is word i + k, for k < n. */
template <class F>
void each(const Stream& p, const F& f) {
  const uint64_t counter = p.counter0 + (uint64_t{p.counter1} << 32);
  constexpr size_t RUN = 4 * BATCH;
  parallel_for((p.count + RUN - 1) / RUN, 32, [&](size_t begin, size_t end) {
    uint32_t words[RUN];
    for (size_t run = begin; run < end; run++) {
      make(p.key0, p.key1, counter + run * BATCH, words);
      const size_t i = run * RUN;
      f(i, i + RUN < p.count ? RUN : p.count - i, words);
    }
  });
}

}  // namespace lacuna::cpu::LACUNA_ISA::philox
