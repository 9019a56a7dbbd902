// K sums over many items, in two stages of a fixed order: a grid of blocks, each walking through its share, then one block
// over their partial sums. Runs of 16 items are added in f32 and the runs in f64, so that no sum is long enough to lose digits
// and f64, slow on most cards, is not what the time goes into.
#pragma once
#include "kernel.h"

namespace lacuna::cuda {

constexpr unsigned RUN = 16;

template <int K>
struct SumMemory {
  double warps[K][32];
};

/** partials[block, k]; f(i, terms) gives the K terms of item i. */
template <int K, class F>
__global__ void __launch_bounds__(BLOCK) sum_items(size_t count, F f, double* partials) {
  double totals[K] = {};
  const size_t stride = linear_stride();
  for (size_t first = linear_thread(); first < count; first += RUN * stride) {
    float run[K] = {};
    for (unsigned n = 0; n < RUN; n++) {
      const size_t i = first + n * stride;
      if (i >= count) break;
      float terms[K];
      f(i, terms);
#pragma unroll
      for (int k = 0; k < K; k++) run[k] += terms[k];
    }
#pragma unroll
    for (int k = 0; k < K; k++) totals[k] += run[k];
  }
  auto& memory = shared<SumMemory<K>>();
#pragma unroll
  for (int k = 0; k < K; k++) {
    const double sum = block_sum(totals[k], memory.warps[k]);
    if (threadIdx.x == 0) partials[static_cast<size_t>(blockIdx.x) * K + k] = sum;
  }
}

/** One block: g(sums) on one thread. */
template <int K, class G>
__global__ void __launch_bounds__(BLOCK) sum_blocks(unsigned blocks, const double* partials, G g) {
  auto& memory = shared<SumMemory<K>>();
  double sums[K] = {};
  for (unsigned b = threadIdx.x; b < blocks; b += BLOCK) {
#pragma unroll
    for (int k = 0; k < K; k++) sums[k] += partials[static_cast<size_t>(b) * K + k];
  }
#pragma unroll
  for (int k = 0; k < K; k++) sums[k] = block_sum(sums[k], memory.warps[k]);
  if (threadIdx.x == 0) g(sums);
}

/** g(sums) once, on the device, with the K sums (double[K]) of what f(i, terms) (float[K]) gives for all i below `count`. */
template <int K, class F, class G>
void sum_all(const Args& a, size_t count, F f, G g) {
  const unsigned blocks = linear_grid(a, count, BLOCK * 4);
  auto* partials = a.scratch<double>(static_cast<size_t>(blocks) * K);
  a.launch(sum_items<K, F>, dim3(blocks), dim3(BLOCK), sizeof(SumMemory<K>), count, f, partials);
  a.launch(sum_blocks<K, G>, dim3(1), dim3(BLOCK), sizeof(SumMemory<K>), blocks, partials, g);
}

}  // namespace lacuna::cuda
