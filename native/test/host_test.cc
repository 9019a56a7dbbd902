// The host device itself: that what is right runs, and that what a GPU would leave undefined is found.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../cuda/kernel.h"
#include "../cuda/mma.h"

namespace {

using lacuna::cuda::ALL_LANES;
using lacuna::host::Launch;

int failures = 0;
void expect(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("failed: %s\n", what.c_str());
  failures++;
}

std::string run(unsigned blocks, unsigned threads, size_t shared, std::function<void()> kernel, bool reverse = false) {
  return lacuna::host::run(Launch{dim3(blocks), dim3(threads), shared, std::move(kernel)}, reverse);
}
bool says(const std::string& error, const char* part) { return error.find(part) != std::string::npos; }

struct Numbers {
  float v[128];
};

/** Reverses 128 numbers through shared memory; without the barrier a thread reads what its partner has yet to write. */
void turn(float* data, bool barrier) {
  auto& memory = lacuna::cuda::shared<Numbers>();
  memory.v[threadIdx.x] = data[threadIdx.x];
  if (barrier) __syncthreads();
  data[threadIdx.x] = memory.v[127 - threadIdx.x];
}

void barriers() {
  for (const bool reverse : {false, true}) {
    std::vector<float> data(128);
    for (int i = 0; i < 128; i++) data[i] = static_cast<float>(i);
    expect(run(1, 128, sizeof(Numbers), [&] { turn(data.data(), true); }, reverse).empty(), "a barrier");
    bool turned = true;
    for (int i = 0; i < 128; i++) turned &= data[i] == static_cast<float>(127 - i);
    expect(turned, "what is behind a barrier sees what was before it");
  }
  std::vector<float> forwards(128, 1.0f), backwards(128, 1.0f);
  run(1, 128, sizeof(Numbers), [&] { turn(forwards.data(), false); });
  run(1, 128, sizeof(Numbers), [&] { turn(backwards.data(), false); }, true);
  bool same = true;
  for (int i = 0; i < 128; i++) same &= forwards[i] == backwards[i];
  expect(!same, "a missing barrier gives other results backwards");

  // A warp that waits for no other runs ahead of them, over its own shuffles.
  for (const bool reverse : {false, true}) {
    unsigned other = 0;
    run(1, 64, sizeof(Numbers), [&] {
      auto& memory = lacuna::cuda::shared<Numbers>();
      memory.v[threadIdx.x] = 1;
      __syncthreads();
      const float read = memory.v[threadIdx.x ^ 32];
      for (int i = 0; i < 10; i++) __syncwarp();
      memory.v[threadIdx.x] = 2;
      if (read == 2) other++;
    }, reverse);
    expect(other == 32, "a missing barrier many shuffles later");
  }

  expect(says(run(1, 64, 0, [] {
                if (threadIdx.x < 32) __syncthreads();
              }), "never come"),
         "threads that end before a barrier that others wait at");
  expect(says(run(1, 64, 0, [] {
                if (threadIdx.x % 2 == 0) {
                  __syncwarp();
                } else {
                  __ballot_sync(ALL_LANES, 1);
                }
              }), "different operations"),
         "a warp whose lanes are at different operations");
}

void warps() {
  for (const bool reverse : {false, true}) {
    std::vector<unsigned> sums(64), votes(64), next(64);
    const std::string error = run(1, 64, 0, [&] {
      const unsigned t = threadIdx.x;
      sums[t] = lacuna::cuda::warp_sum(t);
      votes[t] = __ballot_sync(ALL_LANES, t % 3 == 0);
      next[t] = __shfl_down_sync(ALL_LANES, t, 1);
    }, reverse);
    expect(error.empty(), "shuffles: " + error);
    unsigned votes_of_first = 0;
    for (unsigned i = 0; i < 32; i++) votes_of_first |= (i % 3 == 0 ? 1u : 0u) << i;
    expect(sums[0] == 31 * 32 / 2 && sums[63] == (32 + 63) * 32 / 2, "a sum over each warp");
    expect(votes[5] == votes_of_first, "a vote");
    expect(next[3] == 4 && next[31] == 31, "a shuffle down stays within the warp");
  }
  expect(says(run(1, 32, 0, [] { __shfl_sync(0xFFFFu, 1, 0); }), "part of a warp"), "a shuffle of half a warp");
  expect(says(run(1, 48, 0, [] {}), "whole warps"), "a block of one and a half warps");
}

void launches() {
  expect(says(run(1, 2048, 0, [] {}), "1,024"), "too many threads");
  expect(says(run(0, 32, 0, [] {}), "out of range"), "an empty grid");
  expect(says(run(1, 32, 228 * 1024, [] {}), "shared memory"), "too much shared memory");
  expect(says(run(1, 32, 16, [] { lacuna::cuda::shared<Numbers>(); }), "launched with 16"),
         "shared memory beyond what was launched with");
  unsigned count = 0;
  const std::string error = lacuna::host::run(Launch{dim3(3, 2, 2), dim3(32, 2), 0, [&] { count += 1 + 0 * blockIdx.z; }}, false);
  expect(error.empty() && count == 3 * 2 * 2 * 64, "every thread of every block once");
}

void engines() {
  // A copy in the background that somebody waits for comes; without the wait it has not come yet.
  int arrived = 0, seen = -1, early = -1;
  const std::string error = run(1, 32, 0, [&] {
    if (threadIdx.x == 0) lacuna::host::later([&] { arrived = 1; });
    if (threadIdx.x == 0) early = arrived;
    lacuna::host::wait_until([&] { return arrived == 1; }, "a copy");
    if (threadIdx.x == 31) seen = arrived;
  });
  expect(error.empty() && early == 0 && seen == 1, "work in the background comes late, and before whoever waits goes on");
  expect(says(run(1, 32, 0, [] { lacuna::host::wait_until([] { return false; }, "nothing"); }), "never come"),
         "a wait for what never comes ends");
}

using lacuna::cuda::bf16;

/** Fragments as the PTX manual draws them, element by element, of matrices of small whole numbers. */
void tensor_cores() {
  const auto a_of = [](unsigned row, unsigned k) { return static_cast<float>(static_cast<int>(row * 7 + k * 3) % 11 - 5); };
  const auto b_of = [](unsigned k, unsigned column) { return static_cast<float>(static_cast<int>(k * 5 + column * 2) % 13 - 6); };
  const auto check = [&](unsigned depth, const float (&c)[16][8], const std::string& what) {
    bool right = true;
    for (unsigned row = 0; row < 16; row++) {
      for (unsigned column = 0; column < 8; column++) {
        float sum = 100;
        for (unsigned k = 0; k < depth; k++) sum += a_of(row, k) * b_of(k, column);
        right &= c[row][column] == sum;
      }
    }
    expect(right, what);
  };
  const auto store = [](float (&to)[16][8], const float (&c)[4]) {
    const unsigned group = threadIdx.x / 4, in_group = threadIdx.x % 4;
    for (unsigned i = 0; i < 4; i++) to[i < 2 ? group : group + 8][in_group * 2 + (i & 1)] = c[i];
  };
  const auto pair = [](float low, float high) {
    return lacuna::cuda::from_float<bf16>(low).bits | uint32_t{lacuna::cuda::from_float<bf16>(high).bits} << 16;
  };
  float halves[16][8], tf32[16][8];
  const std::string error = run(1, 32, 0, [&] {
    const unsigned group = threadIdx.x / 4, in_group = threadIdx.x % 4;
    float c[4] = {100, 100, 100, 100}, d[4] = {100, 100, 100, 100};
    uint32_t a[4], b[2];
    for (unsigned i = 0; i < 4; i++) {
      const unsigned row = i == 0 || i == 2 ? group : group + 8, k = in_group * 2 + (i < 2 ? 0 : 8);
      a[i] = pair(a_of(row, k), a_of(row, k + 1));
    }
    for (unsigned i = 0; i < 2; i++) b[i] = pair(b_of(in_group * 2 + i * 8, group), b_of(in_group * 2 + i * 8 + 1, group));
    lacuna::cuda::mma_bf16(c, a, b);
    store(halves, c);
    for (unsigned i = 0; i < 4; i++) {
      a[i] = lacuna::cuda::to_tf32(a_of(i == 0 || i == 2 ? group : group + 8, i < 2 ? in_group : in_group + 4));
    }
    for (unsigned i = 0; i < 2; i++) b[i] = lacuna::cuda::to_tf32(b_of(in_group + i * 4, group));
    lacuna::cuda::mma_tf32(d, a, b);
    store(tf32, d);
  });
  expect(error.empty(), "tensor cores: " + error);
  check(16, halves, "a product of bf16");
  check(8, tf32, "a product of tf32");
  expect(lacuna::cuda::to_tf32(1.0f + 0x1p-11f) == 0x3F802000u && lacuna::cuda::to_tf32(1.0f + 0x1p-12f) == 0x3F800000u &&
             lacuna::cuda::to_tf32(-1.0f - 0x1p-11f) == 0xBF802000u,
         "tf32 rounds to nearest, ties away from zero");
  expect(says(run(1, 32, 0, [] {
                const uint32_t a[4] = {0x3F800001u, 0, 0, 0}, b[2] = {};
                float c[4] = {};
                lacuna::cuda::mma_tf32(c, a, b);
              }), "not rounded"),
         "an operand with more bits than tf32");
}

struct Matrices {
  uint16_t v[32][8];
};

void matrices() {
  bool plain = true, transposed = true;
  const std::string error = run(1, 32, sizeof(Matrices), [&] {
    auto& memory = lacuna::cuda::shared<Matrices>();
    const unsigned lane = threadIdx.x;
    for (unsigned i = 0; i < 8; i++) memory.v[lane][i] = static_cast<uint16_t>(lane * 8 + i);
    __syncwarp();
    uint32_t rows[4], columns[4];
    lacuna::cuda::ldmatrix_x4(rows, memory.v[lane]);
    lacuna::cuda::ldmatrix_x4_trans(columns, memory.v[lane]);
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned m = 0; m < 4; m++) {
      const uint32_t row = (m * 8 + g) * 8, column = (m * 8 + 2 * t) * 8;
      plain &= rows[m] == ((row + 2 * t) | (row + 2 * t + 1) << 16);
      transposed &= columns[m] == ((column + g) | (column + 8 + g) << 16);
    }
  });
  expect(error.empty() && plain && transposed, "matrices from shared memory, as they are and transposed: " + error);
  expect(says(run(1, 32, sizeof(Matrices), [] {
                uint32_t to[4];
                lacuna::cuda::ldmatrix_x4(to, &lacuna::cuda::shared<Matrices>().v[threadIdx.x / 2][1]);
              }), "multiple of 16"),
         "rows of matrices at other addresses than multiples of 16");
}

void copies() {
  alignas(16) const uint32_t from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  uint32_t early = 0, late = 0, second = 0, outside = 1;
  const std::string error = run(1, 32, sizeof(Matrices), [&] {
    auto* to = reinterpret_cast<uint32_t*>(&lacuna::cuda::shared<Matrices>());
    if (threadIdx.x > 0) return;
    to[8] = 9;
    lacuna::cuda::cp_async16(to, from, true);
    lacuna::cuda::cp_async_commit();
    lacuna::cuda::cp_async16(to + 4, from + 4, true);
    lacuna::cuda::cp_async16(to + 8, from, false);
    lacuna::cuda::cp_async_commit();
    early = to[0];
    lacuna::cuda::cp_async_wait<1>();
    late = to[0];
    second = to[4];
    lacuna::cuda::cp_async_wait<0>();
    outside = to[8];
  });
  expect(error.empty() && early == 0xFFFFFFFFu && late == 1, "a copy has come after the wait, and not before: " + error);
  expect(second == 0xFFFFFFFFu && outside == 0, "the last group is still under way; outside there are zeros");
  expect(says(run(1, 32, sizeof(Matrices), [&] {
                lacuna::cuda::cp_async16(&lacuna::cuda::shared<Matrices>(), from + 1, true);
              }), "multiple of 16"),
         "a copy from an address that is no multiple of 16");
}

}  // namespace

int main() {
  barriers();
  warps();
  launches();
  engines();
  tensor_cores();
  matrices();
  copies();
  if (failures == 0) std::printf("host: all hold\n");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
