// What the Tversky kernels of whole and of upsampled logits share: adding up partial sums, and slopes.
#pragma once
#include "class_rows.h"

namespace lacuna::cuda::tversky {

constexpr unsigned PART_LANES = 16;
struct PartMemory {
  double lanes[PART_LANES][32];
};

/** g(unit, slot, sum over the parts) of parts, [units, count, slots]. A block owns 32 neighbouring slots of a unit. */
template <class S, class G>
__global__ void __launch_bounds__(32 * PART_LANES) add_parts(const S* parts, uint32_t count, uint32_t slots, G g) {
  auto& memory = shared<PartMemory>();
  const unsigned lane = threadIdx.x % 32, part_lane = threadIdx.x / 32;
  const uint32_t groups = (slots + 31) / 32, unit = blockIdx.x / groups, slot = blockIdx.x % groups * 32 + lane;
  double sum = 0;
  if (slot < slots) {
    const S* at = parts + static_cast<size_t>(unit) * count * slots + slot;
#pragma unroll 4
    for (uint32_t i = part_lane; i < count; i += PART_LANES) sum += at[static_cast<size_t>(i) * slots];
  }
  memory.lanes[part_lane][lane] = sum;
  __syncthreads();
  if (part_lane > 0 || slot >= slots) return;
#pragma unroll
  for (unsigned i = 1; i < PART_LANES; i++) sum += memory.lanes[i][lane];
  g(unit, slot, sum);
}
template <class S, class G>
void each_sum(const Args& a, const S* parts, uint32_t units, uint32_t count, uint32_t slots, G g) {
  const size_t blocks = static_cast<size_t>(units) * ((slots + 31) / 32);
  if (blocks == 0) return;
  a.launch(add_parts<S, G>, dim3(static_cast<unsigned>(blocks)), dim3(32 * PART_LANES), sizeof(PartMemory), parts, count,
           slots, g);
}

/** Into partials, [units, chunks, slots]: all in the first chunk; combine_sums adds them up. */
struct FirstChunk {
  float* partials;
  uint32_t chunks, slots;
  __device__ void operator()(uint32_t unit, uint32_t slot, double sum) const {
    float* at = partials + static_cast<size_t>(unit) * chunks * slots + slot;
    *at = static_cast<float>(sum);
    for (uint32_t chunk = 1; chunk < chunks; chunk++) at[static_cast<size_t>(chunk) * slots] = 0.0f;
  }
};

/** What a thread adds in f32: no more terms than this. */
constexpr uint32_t MOST_TERMS = 64;

/** Parts of a unit of so many tiles: enough to fill the card, none of more than MOST_TERMS tiles. */
inline uint32_t parts_of(const Args& a, size_t units, size_t tiles) {
  const size_t fill = (static_cast<size_t>(a.multiprocessors()) * 16 + units - 1) / units;
  const size_t least = (tiles + MOST_TERMS - 1) / MOST_TERMS, parts = least > fill ? least : tiles < fill ? tiles : fill;
  return static_cast<uint32_t>(parts > 0 ? parts : 1);
}

/**
 * A thread's sums of TP and of true pixels by class: it has one label a pixel, so they are its column of shared memory,
 * not registers. Those of FP, one a class and pixel, are registers.
 */
template <int K>
struct Columns {
  float hits[K][TILE], counts[K][TILE], misses[K][TILE];
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int k = 0; k < K; k++) hits[k][threadIdx.x] = counts[k][threadIdx.x] = 0.0f;
  }
  /** partials[k, 3] = the sums over the block's threads. */
  __device__ __forceinline__ void add_up(const float (&miss)[K], uint32_t classes, double* partials) {
#pragma unroll
    for (int k = 0; k < K; k++) misses[k][threadIdx.x] = miss[k];
    __syncthreads();
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (uint32_t slot = warp; slot < classes * 3; slot += WARPS) {
      const float* column = slot % 3 == 0 ? hits[slot / 3] : slot % 3 == 1 ? misses[slot / 3] : counts[slot / 3];
      double sum = 0;
#pragma unroll
      for (unsigned i = 0; i < WARPS; i++) sum += column[i * 32 + lane];
      sum = warp_sum(sum);
      if (lane == 0) partials[slot] = sum;
    }
  }
};

/** 1 / (1 + e^-z), finite for every z. */
__device__ __forceinline__ float sigmoid(float z) {
  const float e = expf(-fabsf(z));
  return (z >= 0 ? 1.0f : e) / (1 + e);
}
/** sigmoid (1 - sigmoid), which is even. */
__device__ __forceinline__ float sigmoid_slope(float z) {
  const float e = expf(-fabsf(z));
  return e / ((1 + e) * (1 + e));
}

}  // namespace lacuna::cuda::tversky
