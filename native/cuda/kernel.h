// What an op file needs: launches, element types, vectors, sums over a block, and its entry in the registry.
//
// The same source is compiled by nvcc for the GPU and by a C++ compiler for the host device (native/host/). So: launches go
// through Args::launch, shared memory is one struct that shared<T>() gives, shuffles and votes are those of whole warps,
// blocks are whole warps, no thread ends before a barrier that others wait at, and there are no atomics on floats.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "registry.h"

namespace lacuna::cuda {

using bf16 = __nv_bfloat16;

template <class... P, class... A>
void Args::launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... arguments) const {
#if defined(LACUNA_HOST)
  check(host::launch({grid, block, shared, [=] { kernel(P(arguments)...); }}, context.stream), context.running);
#else
  constexpr size_t WITHOUT_ASKING = 48 * 1024;
  if (shared > WITHOUT_ASKING) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          context.running);
  }
  kernel<<<grid, block, shared, context.stream>>>(P(arguments)...);
  check(cudaGetLastError(), context.running);
#endif
  context.launched();
}

/** The block's shared memory as one struct, launched with sizeof(T) bytes of it, or as an array of known size. */
template <class T>
__device__ __forceinline__ T& shared() {
#if defined(LACUNA_HOST)
  return *static_cast<T*>(host::shared_memory(sizeof(T)));
#else
  extern __shared__ __align__(1024) unsigned char memory[];
  return *reinterpret_cast<T*>(memory);
#endif
}

// Grids. Linear kernels walk: thread i does items i, i + stride, ...

constexpr unsigned BLOCK = 256;

/** Blocks for `items` items of one thread each: as many as fill the card several times, at most. */
inline unsigned linear_grid(const Args& a, size_t items, unsigned block = BLOCK) {
  const size_t wanted = (items + block - 1) / block, most = static_cast<size_t>(a.multiprocessors()) * 32;
  return static_cast<unsigned>(wanted < 1 ? 1 : wanted < most ? wanted : most);
}
__device__ __forceinline__ size_t linear_thread() { return static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ size_t linear_stride() { return static_cast<size_t>(gridDim.x) * blockDim.x; }

template <class F>
__global__ void __launch_bounds__(BLOCK) each_kernel(size_t count, F f) {
  for (size_t i = linear_thread(); i < count; i += linear_stride()) f(i);
}
/** f(i) for all i below `count`; f is a struct with a __device__ operator()(size_t) const. */
template <class F>
void each(const Args& a, size_t count, F f) {
  if (count > 0) a.launch(each_kernel<F>, dim3(linear_grid(a, count)), dim3(BLOCK), 0, count, f);
}

constexpr unsigned ceil_div(size_t a, size_t b) { return static_cast<unsigned>((a + b - 1) / b); }

// Elements: stored as f32 or bf16, computed with as f32.

__host__ __device__ __forceinline__ float to_float(float v) { return v; }
__host__ __device__ __forceinline__ float to_float(bf16 v) { return __bfloat162float(v); }
template <class T>
__host__ __device__ __forceinline__ T from_float(float v);
template <>
__host__ __device__ __forceinline__ float from_float<float>(float v) {
  return v;
}
template <>
__host__ __device__ __forceinline__ bf16 from_float<bf16>(float v) {
  return __float2bfloat16_rn(v);
}

/** Calls f with a float or a bf16, whichever the type is: `with_type(a.in_type(0), [&](auto t) { using T = decltype(t); ... })`. */
template <class F>
void with_type(Type type, F&& f) {
  if (type == Type::bf16) {
    f(bf16{});
  } else {
    f(float{});
  }
}

/** N elements that one load or store moves: aligned to their size, which is 16 bytes or less. */
template <class T, int N>
struct alignas(N * sizeof(T)) Vec {
  T v[N];
};
/** As many elements as 16 bytes hold. */
template <class T>
constexpr int WIDE = 16 / static_cast<int>(sizeof(T));

template <int N, class T>
__device__ __forceinline__ void load_floats(const T* at, float (&to)[N]) {
  const Vec<T, N> vec = *reinterpret_cast<const Vec<T, N>*>(at);
#pragma unroll
  for (int i = 0; i < N; i++) to[i] = to_float(vec.v[i]);
}
template <int N, class T>
__device__ __forceinline__ void store_floats(T* at, const float (&from)[N]) {
  Vec<T, N> vec;
#pragma unroll
  for (int i = 0; i < N; i++) vec.v[i] = from_float<T>(from[i]);
  *reinterpret_cast<Vec<T, N>*>(at) = vec;
}
/** May `count` elements be read N at a time, row after row, from all of these addresses? */
template <int N, class T, class... P>
bool in_vectors(size_t count, const T* first, const P*... more) {
  const size_t bytes = N * sizeof(T);
  return count % N == 0 && reinterpret_cast<uintptr_t>(first) % bytes == 0 &&
         ((reinterpret_cast<uintptr_t>(more) % (N * sizeof(*more)) == 0) && ...);
}

// Sums in a fixed order.

constexpr unsigned ALL_LANES = 0xFFFFFFFFu;

/** Over the warp, in a butterfly: every lane has the sum. */
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(ALL_LANES, value, bits);
  return value;
}
template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) value = max(value, __shfl_xor_sync(ALL_LANES, value, bits));
  return value;
}
/** Over the block; every thread has the sum. `warps`: 32 elements of shared memory, free to use again after a barrier. */
template <class T>
__device__ __forceinline__ T block_sum(T value, T* warps) {
  value = warp_sum(value);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, count = (blockDim.x + 31) / 32;
  if (lane == 0) warps[warp] = value;
  __syncthreads();
  return warp_sum(lane < count ? warps[lane] : T(0));
}

/** Puts a kernel into the table: its contract's name, numbers of inputs and outputs, and launcher. */
struct Register {
  template <class P>
  Register(const char* name, unsigned inputs, unsigned outputs, void (*launcher)(const P&, const Args&)) {
    add_kernel(Entry{name, inputs, outputs, sizeof(P), reinterpret_cast<void (*)()>(launcher),
                     [](void (*f)(), const void* params, const Args& args) {
                       reinterpret_cast<void (*)(const P&, const Args&)>(f)(*static_cast<const P*>(params), args);
                     }});
  }
};

}  // namespace lacuna::cuda
