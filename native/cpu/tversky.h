// What the Tversky kernels of whole and of upsampled logits share.
#pragma once
#include "tile.h"

namespace lacuna::cpu::LACUNA_ISA::tversky {

/** Adds p, or a count, of one vector to its three running sums. */
LACUNA_INLINE void tally(float* at, Vec p, Mask hit) {
  store(at, load(at) + select(hit, p, splat(0.0f)));
  store(at + LANES, load(at + LANES) + select(hit, splat(0.0f), p));
  store(at + 2 * LANES, load(at + 2 * LANES) + select(hit, splat(1.0f), splat(0.0f)));
}

/** Lanes whose label is one of `limit` classes; as an unsigned number, so that -1 is none. */
LACUNA_INLINE Mask below(IVec label, uint32_t limit) {
  return bits<Mask>(bits<UVec>(label) < bits<UVec>(splat_int(static_cast<int32_t>(limit))));
}

/** Adds running sums of `classes` vectors, in which lane l of vector j is class (j LANES + l) % classes, to [classes, 3]. */
inline void add_interleaved(const float* running, size_t classes, double* sums) {
  size_t k = 0;
  for (size_t j = 0; j < classes; j++) {
    const float* at = running + j * 3 * LANES;
    for (size_t l = 0; l < LANES; l++) {
      for (size_t s = 0; s < 3; s++) sums[k * 3 + s] += at[s * LANES + l];
      if (++k == classes) k = 0;
    }
  }
}

}  // namespace lacuna::cpu::LACUNA_ISA::tversky
