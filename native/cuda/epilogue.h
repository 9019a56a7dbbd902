// What happens to the sums of a convolution while they are in registers: y = relu(sum + bias + residual), each part where
// it is asked for.
#pragma once
#include "kernel.h"

namespace lacuna::cuda {

/** Null, null and false: nothing. Both are of y's type T (void: not said yet); the residual lies as y does. */
template <class T>
struct Epilogue {
  const T *bias, *residual;
  bool relu;

  template <class Known>
  Epilogue<Known> of() const {
    return {static_cast<const Known*>(bias), static_cast<const Known*>(residual), relu};
  }
  /** V neighbours, from element `at` of y on, a multiple of V, whose bias is in the sums. NaN stays NaN. */
  template <int V>
  __device__ __forceinline__ void finish(size_t at, float (&sums)[V]) const {
    if (residual) {
      float more[V];
      load_floats<V>(residual + at, more);
#pragma unroll
      for (int j = 0; j < V; j++) sums[j] += more[j];
    }
    finish_relu(sums);
  }
  /** The first `count` of V neighbours, wherever they lie. */
  template <int V>
  __device__ __forceinline__ void finish_run(size_t at, uint32_t count, float (&sums)[V]) const {
    if (residual) {
#pragma unroll
      for (uint32_t j = 0; j < V; j++) {
        if (j < count) sums[j] += to_float(residual[at + j]);
      }
    }
    finish_relu(sums);
  }

 private:
  template <int V>
  __device__ __forceinline__ void finish_relu(float (&sums)[V]) const {
    if (!relu) return;
#pragma unroll
    for (int j = 0; j < V; j++) sums[j] = sums[j] <= 0.0f ? 0.0f : sums[j];
  }
};

}  // namespace lacuna::cuda
