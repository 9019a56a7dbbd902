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

}  // namespace lacuna::cpu::LACUNA_ISA::tversky
