// Elements that are moved, never computed with: in units of 16 bytes, or as many as extents and addresses allow.
#pragma once
#include "kernel.h"

namespace lacuna::cuda {

/** The bits of all numbers that must be multiples of the unit, in bytes: what `in_units` takes. */
template <class... P>
size_t bits_of(const P*... addresses) {
  return (size_t{0} | ... | static_cast<size_t>(reinterpret_cast<uintptr_t>(addresses)));
}

/** Calls f with a value of the widest type, of 16, 8, 4 or 2 bytes, whose size divides all whose bits are in `bits`. */
template <class F>
void in_units(size_t bits, F&& f) {
  if (bits % 16 == 0) {
    f(Vec<uint32_t, 4>{});
  } else if (bits % 8 == 0) {
    f(Vec<uint32_t, 2>{});
  } else if (bits % 4 == 0) {
    f(uint32_t{});
  } else {
    f(uint16_t{});
  }
}

}  // namespace lacuna::cuda
