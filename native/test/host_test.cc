// The host device itself: that what is right runs, and that what a GPU would leave undefined is found.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../cuda/kernel.h"

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

}  // namespace

int main() {
  barriers();
  warps();
  launches();
  engines();
  if (failures == 0) std::printf("host: all hold\n");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
