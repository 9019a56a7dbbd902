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
 * not registers. Those of FP, one a class and pixel, are registers; at the end they take the place of the tile, as 32 classes
 * would else have more than the 64 KB of an sm_75.
 */
template <int K>
struct Columns {
  float hits[K][TILE], counts[K][TILE];
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int k = 0; k < K; k++) hits[k][threadIdx.x] = counts[k][threadIdx.x] = 0.0f;
  }
  /** partials[k, 3] = the sums over the block's threads. `misses`: K TILE floats of shared memory that nobody needs any more. */
  __device__ __forceinline__ void add_up(const float (&miss)[K], uint32_t classes, float* misses, double* partials) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; k++) misses[k * TILE + threadIdx.x] = miss[k];
    __syncthreads();
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (uint32_t slot = warp; slot < classes * 3; slot += WARPS) {
      const float* column = slot % 3 == 0 ? hits[slot / 3] : slot % 3 == 1 ? misses + slot / 3 * TILE : counts[slot / 3];
      double sum = 0;
#pragma unroll
      for (unsigned i = 0; i < WARPS; i++) sum += column[i * 32 + lane];
      sum = warp_sum(sum);
      if (lane == 0) partials[slot] = sum;
    }
  }
};

/**
 * How a block's threads walk through the elements of a unit, [rows, classes]: V neighbours at a time, with a step of whole
 * rows, so that element j of a thread's V always is of the same class. More classes than threads: in slices of them.
 */
struct Walk {
  size_t elements;     // of a unit
  uint32_t classes, parts, slices;
  uint32_t threads;    // that take part
  size_t step;         // from one element of a thread to its next
  size_t steps;        // of a thread through the unit
  Walk(const Args& a, size_t units, size_t rows, uint32_t classes, int V) : elements(rows * classes), classes(classes) {
    const bool narrow = classes <= BLOCK;
    threads = narrow ? BLOCK / classes * classes : BLOCK;
    step = narrow ? size_t{threads} * V : classes;
    slices = narrow ? 1 : (classes + BLOCK - 1) / BLOCK;
    steps = (elements + step - 1) / step;
    parts = parts_of(a, units * slices, steps);
  }
  unsigned blocks(size_t units) const { return static_cast<unsigned>(units * slices * parts); }
  __device__ size_t unit() const { return blockIdx.x / (parts * slices); }
  __device__ uint32_t slice() const { return blockIdx.x / parts % slices; }
  __device__ uint32_t part() const { return blockIdx.x % parts; }
  /** A thread's first element in the unit; beyond it where the thread has none. */
  template <int V>
  __device__ size_t first() const {
    const size_t at = size_t{slice()} * BLOCK + size_t{threadIdx.x} * V;
    return threadIdx.x < threads && (classes <= BLOCK || at < classes) ? at : elements;
  }
};
template <int V>
struct ElementMemory {
  float sums[3][BLOCK * V];
};

/** partials[unit, part, k, 3]; f(i, p, hit) gives the probabilities of V elements, 0 where ignored, and which are true. */
template <int V, class F>
__global__ void __launch_bounds__(BLOCK) sums_of_elements(Walk walk, F f, double* partials) {
  auto& memory = shared<ElementMemory<V>>();
  float hits[V] = {}, misses[V] = {}, counts[V] = {};
  const size_t unit = walk.unit() * walk.elements, first = walk.first<V>();
  if (first < walk.elements) {
    for (size_t i = walk.part(); i < walk.steps; i += walk.parts) {
      const size_t at = first + i * walk.step;
      if (at >= walk.elements) break;
      float p[V];
      bool hit[V];
      f(unit + at, p, hit);
#pragma unroll
      for (int j = 0; j < V; j++) {
        hits[j] += hit[j] ? p[j] : 0.0f;
        misses[j] += hit[j] ? 0.0f : p[j];
        counts[j] += hit[j] ? 1.0f : 0.0f;
      }
    }
  }
#pragma unroll
  for (int j = 0; j < V; j++) {
    const unsigned at = threadIdx.x * V + j;
    memory.sums[0][at] = hits[j];
    memory.sums[1][at] = misses[j];
    memory.sums[2][at] = counts[j];
  }
  __syncthreads();
  // class k of the slice is at k, k + classes, ...
  const uint32_t base = walk.slice() * BLOCK;
  const uint32_t here = walk.classes - base < BLOCK ? walk.classes - base : BLOCK;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, end = walk.threads * V;
  const size_t to = (walk.unit() * walk.parts + walk.part()) * walk.classes + base;
  for (uint32_t slot = warp; slot < here * 3; slot += BLOCK / 32) {
    double sum = 0;
    for (unsigned i = slot / 3 + lane * walk.classes; i < end; i += 32 * walk.classes) sum += memory.sums[slot % 3][i];
    sum = warp_sum(sum);
    if (lane == 0) partials[3 * to + slot] = sum;
  }
}
template <int V, class F>
void sum_elements(const Args& a, uint32_t units, size_t rows, uint32_t classes, F f, FirstChunk to) {
  const Walk walk(a, units, rows, classes, V);
  auto* partials = a.scratch<double>(size_t{units} * walk.parts * classes * 3);
  a.launch(sums_of_elements<V, F>, dim3(walk.blocks(units)), dim3(BLOCK), sizeof(ElementMemory<V>), walk, f, partials);
  each_sum(a, partials, units, walk.parts, classes * 3, to);
}

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
