// y[i] = f(x[i], ...) over dense arrays: bound by memory. A thread moves two pieces of N neighbours at a time, 16 bytes
// of the wider type each: it loads all of them before it stores any, so that the loads are in flight together. What is
// left behind the last whole piece, and arrays at odd addresses, go one by one.
#pragma once
#include <type_traits>

#include "kernel.h"

namespace lacuna::cuda {

template <class From, class To, int K>
struct Arrays {
  const From* x[K];
  To* y;
};

template <class From, class To>
constexpr int PIECE = WIDE<std::conditional_t<(sizeof(From) > sizeof(To)), From, To>>;

/** Elements `at` and on, M pieces that lie BLOCK pieces apart. */
template <int M, int K, class From, class To, class F>
__device__ __forceinline__ void map_pieces(const Arrays<From, To, K>& all, size_t at, const F& f) {
  constexpr int N = PIECE<From, To>, APART = BLOCK * N;
  Vec<From, N> x[M][K];
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int k = 0; k < K; k++) x[m][k] = *reinterpret_cast<const Vec<From, N>*>(all.x[k] + at + m * APART);
  }
#pragma unroll
  for (int m = 0; m < M; m++) {
    Vec<To, N> y;
#pragma unroll
    for (int i = 0; i < N; i++) {
      if constexpr (K == 1) {
        y.v[i] = f(x[m][0].v[i]);
      } else {
        y.v[i] = f(x[m][0].v[i], x[m][1].v[i]);
      }
    }
    *reinterpret_cast<Vec<To, N>*>(all.y + at + m * APART) = y;
  }
}

template <int K, class From, class To, class F>
__global__ void __launch_bounds__(BLOCK) map_kernel(size_t count, size_t pieces, Arrays<From, To, K> all, F f) {
  constexpr int N = PIECE<From, To>;
  const size_t step = static_cast<size_t>(gridDim.x) * BLOCK * 2;
  for (size_t i = static_cast<size_t>(blockIdx.x) * BLOCK * 2 + threadIdx.x; i < pieces; i += step) {
    if (i + BLOCK < pieces) {
      map_pieces<2>(all, i * N, f);
    } else {
      map_pieces<1>(all, i * N, f);
    }
  }
  for (size_t i = pieces * N + linear_thread(); i < count; i += linear_stride()) {
    if constexpr (K == 1) {
      all.y[i] = f(all.x[0][i]);
    } else {
      all.y[i] = f(all.x[0][i], all.x[1][i]);
    }
  }
}

/** y[i] = f(x0[i]), or f(x0[i], x1[i]) for K = 2; f is a struct with a __device__ operator() on elements as stored. */
template <int K, class From, class To, class F>
void map(const Args& a, size_t count, const Arrays<From, To, K>& all, F f) {
  if (count == 0) return;
  constexpr int N = PIECE<From, To>;
  bool aligned = in_vectors<N>(N, all.y);
  for (const From* x : all.x) aligned = aligned && in_vectors<N>(N, x);
  const size_t pieces = aligned ? count / N : 0;
  const unsigned blocks = linear_grid(a, pieces > 0 ? (pieces + 1) / 2 : count);
  a.launch(map_kernel<K, From, To, F>, dim3(blocks), dim3(BLOCK), 0, count, pieces, all, f);
}

}  // namespace lacuna::cuda
