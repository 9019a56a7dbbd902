// The twins of the H100's instructions (native/host/hopper_twin.h): right results where they are used as documented, and a
// failure, or other results, for every mistake that a kernel is likely to make.
#include <cstdio>
#include <string>
#include <vector>

#include "../cuda/hopper.h"

namespace sm90 = lacuna::cuda::sm90;
using lacuna::cuda::bf16;
using lacuna::cuda::from_float;
using lacuna::cuda::to_float;

namespace {

int failures = 0;
void expect(bool right, const std::string& what) {
  if (right) return;
  std::printf("wrong: %s\n", what.c_str());
  failures++;
}

constexpr int TERMS = 64, COLUMNS = 128, ROWS = 64;
/** What a mistaken kernel does otherwise. */
enum class Mistake {
  none,
  no_wait_for_copy,
  wrong_parity,
  too_many_arrivals,
  no_announcement,
  too_few_bytes,
  no_init,
  misaligned,
  no_swizzle,
  no_fence,
  no_wait_for_products,
  operands_overwritten,
  other_matrices,
  no_fence_for_copy,
  out_overwritten,
  deserter,
};

struct Memory {
  alignas(1024) unsigned char a[ROWS * 128];
  alignas(1024) unsigned char b[COLUMNS / 64][TERMS * 128];
  alignas(1024) unsigned char out[8 * 128];
  sm90::Barrier full, other;
};
struct Operands {
  std::vector<bf16> a, b;  // a: [rows, terms], or [terms, rows] where it lies across; b: [terms, columns]
  sm90::TensorMap a_map, b_map, out_map;
  std::vector<float> d = std::vector<float>(ROWS * COLUMNS);
  std::vector<bf16> out = std::vector<bf16>(5 * 72);  // five rows of 72
};

template <bool ACROSS>
void kernel(Operands& operands, Mistake mistake) {
  auto& memory = lacuna::cuda::shared<Memory>();
  const unsigned thread = threadIdx.x;
  const auto is = [&](Mistake m) { return mistake == m; };
  if (thread == 0) {
    if (!is(Mistake::no_init)) sm90::barrier_init(memory.full, 1);
    sm90::barrier_init(memory.other, 2);
    sm90::barrier_init_done();
  }
  __syncthreads();
  if (thread == 0) {
    const unsigned bytes = sizeof(memory.a) + sizeof(memory.b);
    if (!is(Mistake::no_announcement)) sm90::barrier_arrive(memory.full, is(Mistake::too_few_bytes) ? bytes - 16 : bytes);
    sm90::copy_in(memory.a + (is(Mistake::misaligned) ? 128 : 0), operands.a_map, memory.full, 0, 0, 0);
    for (int i = 0; i < COLUMNS / 64; i++) sm90::copy_in(memory.b[i], operands.b_map, memory.full, i * 64, 0, 0);
    if (is(Mistake::too_many_arrivals)) {
      for (int i = 0; i < 2; i++) sm90::barrier_arrive(memory.full, 16);
    }
  }
  if (!is(Mistake::no_wait_for_copy)) sm90::barrier_wait(memory.full, is(Mistake::wrong_parity) ? 1 : 0);
  if (is(Mistake::wrong_parity)) sm90::barrier_wait(memory.full, 1);
  if (is(Mistake::deserter) && thread == 5) sm90::barrier_wait(memory.other, 0);
  float d[COLUMNS / 2] = {};
  uint64_t a = sm90::descriptor(memory.a, 16, 1024);
  const uint64_t b = sm90::descriptor(memory.b, sizeof(memory.b[0]), 1024);
  if (is(Mistake::no_swizzle)) a &= ~(uint64_t{3} << 62);
  if (is(Mistake::other_matrices) && thread >= 64) a = sm90::advanced(a, 32);
  if (!is(Mistake::no_fence)) sm90::products_fence();
  for (unsigned k = 0; k < TERMS / 16; k++) {
    sm90::product<COLUMNS, ACROSS, true>(d, sm90::advanced(a, k * (ACROSS ? 2048 : 32)), sm90::advanced(b, k * 2048));
  }
  sm90::products_commit();
  if (is(Mistake::operands_overwritten) && thread == 0) std::memset(memory.a, 0, sizeof(memory.a));
  if (!is(Mistake::no_wait_for_products)) sm90::products_wait<0>();
  for (unsigned i = 0; i < COLUMNS / 2; i++) {
    const unsigned row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + thread % 4 * 2 + i % 2;
    operands.d[row * COLUMNS + column] = d[i];
  }
  // Rows -1 to 6 from column 24 on of a map of five rows of 72: what is outside stays outside.
  for (unsigned i = thread; i < 8 * 64; i += 128) {
    const unsigned row = i / 64, column = i % 64, place = row * 128 + (column / 8 ^ row) * 16 + column % 8 * 2;
    *reinterpret_cast<bf16*>(memory.out + place) = from_float<bf16>(static_cast<float>(row * 64 + column) / 4);
  }
  if (!is(Mistake::no_fence_for_copy)) sm90::fence_async();
  __syncthreads();
  if (thread == 0) {
    sm90::copy_out(operands.out_map, memory.out, 24, -1, 0, 0);
    sm90::copies_commit();
    if (is(Mistake::out_overwritten)) std::memset(memory.out, 0, sizeof(memory.out));
    sm90::copies_wait<0>();
  }
}

template <bool ACROSS>
Operands make() {
  Operands o;
  const auto fill = [](std::vector<bf16>& v, size_t count, int factor) {
    for (size_t i = 0; i < count; i++) v.push_back(from_float<bf16>(static_cast<float>(static_cast<int>(i) * factor % 31 - 15)));
  };
  fill(o.a, ROWS * TERMS, 7);
  fill(o.b, TERMS * COLUMNS, 11);
  expect(sm90::encode<3>(o.a_map, o.a.data(), {64, 64, 1}, {128, 8192}, {64, 64, 1}, {1, 1, 1}), "a map of a");
  // Of b, 60 of 64 terms and 120 of 128 columns.
  expect(sm90::encode<3>(o.b_map, o.b.data(), {120, 60, 1}, {256, 16384}, {64, 64, 1}, {1, 1, 1}), "a map of b");
  expect(sm90::encode<4>(o.out_map, o.out.data(), {72, 5, 1, 1}, {144, 720, 720}, {64, 8, 1, 1}, {1, 1, 1, 1}), "a map of out");
  return o;
}

template <bool ACROSS>
bool right(const Operands& o) {
  for (int i = 0; i < ROWS; i++) {
    for (int j = 0; j < COLUMNS; j++) {
      float sum = 0;
      for (int k = 0; k < 60 && j < 120; k++) sum += to_float(o.a[ACROSS ? k * 64 + i : i * 64 + k]) * to_float(o.b[k * 128 + j]);
      if (o.d[i * COLUMNS + j] != sum) return false;
    }
  }
  for (int row = 0; row < 5; row++) {
    for (int column = 0; column < 72; column++) {
      const float wanted = column < 24 ? 0 : static_cast<float>((row + 1) * 64 + column - 24) / 4;
      if (to_float(o.out[row * 72 + column]) != to_float(from_float<bf16>(wanted))) return false;
    }
  }
  return true;
}

/** `failure`: part of what the launch ends with; empty: it ends well. */
template <bool ACROSS>
void check(Mistake mistake, const std::string& name, const std::string& failure, bool results_are_right = false) {
  for (const bool reverse : {false, true}) {
    Operands o = make<ACROSS>();
    const std::string end =
        lacuna::host::run({dim3(1), dim3(128), sizeof(Memory), [&] { kernel<ACROSS>(o, mistake); }}, reverse);
    const std::string where = name + (ACROSS ? ", across" : ", along") + (reverse ? ", backwards" : "");
    expect(failure.empty() ? end.empty() : end.find(failure) != std::string::npos, where + ": ends with '" + end + "'");
    if (failure.empty()) expect(right<ACROSS>(o) == results_are_right, where + ": results");
  }
}
template <bool ACROSS>
void check_all() {
  check<ACROSS>(Mistake::none, "no mistake", "", true);
  check<ACROSS>(Mistake::no_wait_for_copy, "no wait for the copy", "");
  check<ACROSS>(Mistake::wrong_parity, "wrong parity", "");
  check<ACROSS>(Mistake::too_many_arrivals, "too many arrivals", "more arrivals");
  check<ACROSS>(Mistake::no_announcement, "no announcement", "never come");
  check<ACROSS>(Mistake::too_few_bytes, "too few bytes", "never come");
  check<ACROSS>(Mistake::no_init, "no init", "without init");
  check<ACROSS>(Mistake::misaligned, "misaligned copy", "not aligned");
  check<ACROSS>(Mistake::no_swizzle, "matrix without swizzle", "swizzle");
  check<ACROSS>(Mistake::no_fence, "no fence", "without a fence");
  check<ACROSS>(Mistake::no_wait_for_products, "no wait for the products", "");
  check<ACROSS>(Mistake::operands_overwritten, "operands overwritten", "");
  check<ACROSS>(Mistake::other_matrices, "threads with other matrices", "other matrices");
  check<ACROSS>(Mistake::no_fence_for_copy, "no fence for the copy", "without the fence");
  check<ACROSS>(Mistake::out_overwritten, "overwritten while it is copied", "");
  check<ACROSS>(Mistake::deserter, "a thread that does not come", "never come");
}

void check_maps() {
  alignas(16) static unsigned char memory[1024];
  sm90::TensorMap map;
  using Two = uint64_t[2];
  const auto with = [&](void* base, const Two& sizes, uint64_t stride, uint32_t width, uint32_t height, uint32_t step) {
    return sm90::encode<2>(map, base, sizes, {stride}, {width, height}, {1, step});
  };
  expect(with(memory, {64, 4}, 128, 64, 4, 1), "a map");
  expect(!with(memory + 8, {64, 4}, 128, 64, 4, 1), "a map of memory that is not aligned");
  expect(!with(memory, {60, 4}, 120, 64, 4, 1), "a map whose rows are not aligned");
  expect(!with(memory, {64, 4}, 128, 128, 4, 1), "a box wider than the swizzle");
  expect(!with(memory, {64, 4}, 128, 64, 257, 1), "a box that is too high");
  expect(!with(memory, {64, 4}, 128, 64, 4, 9), "steps that are too large");
  expect(!with(memory, {64, 0}, 128, 64, 4, 1), "an empty tensor");
}

}  // namespace

int main() {
  check_all<false>();
  check_all<true>();
  check_maps();
  if (failures == 0) std::printf("twins of the H100's instructions: all as expected\n");
  return failures == 0 ? 0 : 1;
}
