// Copies of rows of four-byte elements, whatever their type: what concat, window and transpose are made of.
#pragma once
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::rows {

inline constexpr size_t PIECE = 32768;

/** A short run by hand: a call of memcpy would cost more than the copy. */
template <class T>
LACUNA_INLINE void copy(T* to, const T* from, size_t count) {
  if (count >= 16) {
    std::memcpy(to, from, count * sizeof(T));
  } else {
    for (size_t i = 0; i < count; i++) to[i] = from[i];
  }
}

/** Calls f(row, from, to) for pieces of rows, in parallel: long rows are cut, so that every thread has some. */
template <class F>
void each_piece(size_t rows, size_t length, const F& f) {
  const size_t pieces = length > 2 * PIECE ? (length + PIECE - 1) / PIECE : 1;
  const size_t size = pieces > 1 ? PIECE : length;
  parallel_for(rows * pieces, pieces > 1 ? 1 : PIECE / (length + 1) + 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
      const size_t row = i / pieces, from = i % pieces * size;
      f(row, from, from + size < length ? from + size : length);
    }
  });
}

}  // namespace lacuna::cpu::LACUNA_ISA::rows
