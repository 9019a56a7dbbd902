// Twins of the instructions of native/cuda/mma.h for the host device. They take and give exactly the fragments that the PTX
// manual draws, and what the hardware leaves undefined is an error or NaN: operands that were not rounded to tf32, addresses
// that are not aligned, and shared memory between the start of a copy and the wait for it.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "executor.h"

namespace lacuna::host {

/** A and B of one lane. */
struct Fragments {
  uint32_t a[4], b[2];
};
inline float float_of_bf16(uint32_t bits) { return std::bit_cast<float>(bits << 16); }

struct Copy {
  void* to;
  const void* from;
  bool inside;
};
/** Copies of one thread: groups that were committed, oldest first, and what was started since. */
struct Copies {
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> started;
};
inline Copies& copies() {
  auto& own = kept();
  if (!own) own = std::make_shared<Copies>();
  return *static_cast<Copies*>(own.get());
}

inline void want_aligned(const void* at, const char* what) {
  if (reinterpret_cast<uintptr_t>(at) % 16 != 0) fail(std::string(what) + ": an address is no multiple of 16");
}

/** What each lane's row of 16 bytes held when it came. */
struct Row {
  uint16_t elements[8];
};
inline const Row* rows_of_matrices(const void* row, const char* what) {
  want_aligned(row, what);
  Row mine;
  std::memcpy(&mine, row, sizeof(mine));
  return static_cast<const Row*>(together(WARP, &mine, sizeof(mine), what));
}

}  // namespace lacuna::host

namespace lacuna::cuda {

inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host::Fragments mine;
  std::memcpy(mine.a, a, sizeof(mine.a));
  std::memcpy(mine.b, b, sizeof(mine.b));
  const auto* all = static_cast<const host::Fragments*>(host::together(host::WARP, &mine, sizeof(mine), "mma.m16n8k16"));
  const unsigned g = host::self().lane / 4, t = host::self().lane % 4;
  for (unsigned i = 0; i < 4; i++) {
    const unsigned row = g + i / 2 * 8, column = 2 * t + i % 2;
    double sum = 0;
    for (unsigned k = 0; k < 16; k++) {
      const unsigned half = k % 2 * 16, lane = k % 8 / 2;
      const uint32_t left = all[row % 8 * 4 + lane].a[row / 8 + k / 8 * 2], right = all[column * 4 + lane].b[k / 8];
      sum += static_cast<double>(host::float_of_bf16(left >> half & 0xFFFF)) * host::float_of_bf16(right >> half & 0xFFFF);
    }
    c[i] = static_cast<float>(c[i] + sum);
  }
}

inline void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host::Fragments mine;
  std::memcpy(mine.a, a, sizeof(mine.a));
  std::memcpy(mine.b, b, sizeof(mine.b));
  for (unsigned i = 0; i < 6; i++) {
    const uint32_t bits = i < 4 ? a[i] : b[i - 4];
    const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    if ((bits & 0x1FFF) != 0 && !is_nan) host::fail("mma.m16n8k8: an operand was not rounded to tf32");
  }
  const auto* all = static_cast<const host::Fragments*>(host::together(host::WARP, &mine, sizeof(mine), "mma.m16n8k8"));
  const unsigned g = host::self().lane / 4, t = host::self().lane % 4;
  for (unsigned i = 0; i < 4; i++) {
    const unsigned row = g + i / 2 * 8, column = 2 * t + i % 2;
    double sum = 0;
    for (unsigned k = 0; k < 8; k++) {
      const uint32_t left = all[row % 8 * 4 + k % 4].a[row / 8 + k / 4 * 2], right = all[column * 4 + k % 4].b[k / 4];
      sum += static_cast<double>(std::bit_cast<float>(left)) * std::bit_cast<float>(right);
    }
    c[i] = static_cast<float>(c[i] + sum);
  }
}

inline uint32_t to_tf32(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return 0x7FFFFFFFu;
  return (bits + 0x1000) & ~0x1FFFu;  // of an infinity the mantissa stays 0
}

inline void ldmatrix_x4(uint32_t (&to)[4], const void* row) {
  const host::Row* rows = host::rows_of_matrices(row, "ldmatrix.x4");
  const unsigned g = host::self().lane / 4, t = host::self().lane % 4;
  for (unsigned m = 0; m < 4; m++) std::memcpy(&to[m], rows[8 * m + g].elements + 2 * t, 4);
}
inline void ldmatrix_x4_trans(uint32_t (&to)[4], const void* row) {
  const host::Row* rows = host::rows_of_matrices(row, "ldmatrix.x4.trans");
  const unsigned g = host::self().lane / 4, t = host::self().lane % 4;
  for (unsigned m = 0; m < 4; m++) {
    to[m] = rows[8 * m + 2 * t].elements[g] | uint32_t{rows[8 * m + 2 * t + 1].elements[g]} << 16;
  }
}

/** The copy happens as late as it may. Until then its place holds NaN: who still reads there, or reads too soon, shows. */
inline void cp_async16(void* to, const void* from, bool inside) {
  host::want_aligned(to, "cp.async");
  host::want_aligned(from, "cp.async");
  std::memset(to, 0xFF, 16);
  host::copies().started.push_back({to, from, inside});
}
inline void cp_async_commit() {
  host::Copies& mine = host::copies();
  mine.groups.push_back(std::move(mine.started));
  mine.started.clear();
}
template <int N>
void cp_async_wait() {
  auto& groups = host::copies().groups;
  for (; groups.size() > N; groups.pop_front()) {
    for (const host::Copy& copy : groups.front()) {
      if (copy.inside) {
        std::memcpy(copy.to, copy.from, 16);
      } else {
        std::memset(copy.to, 0, 16);
      }
    }
  }
}

}  // namespace lacuna::cuda
