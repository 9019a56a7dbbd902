// Host twin of <cuda_runtime.h>: as much of the language and of the runtime API as the CUDA device uses. Found in its
// place when native/cuda/ is compiled by a C++ compiler for the host device.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "executor.h"

// The language

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx (::lacuna::host::self().index)
#define blockIdx (::lacuna::host::block_index())
#define blockDim (::lacuna::host::block_size())
#define gridDim (::lacuna::host::grid_size())

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using std::max;
using std::min;

inline void __syncthreads() {
  const dim3& size = lacuna::host::block_size();
  lacuna::host::barrier(0, size.x * size.y * size.z);
}
inline void __syncwarp() { lacuna::host::together(32, nullptr, 0, "__syncwarp"); }
inline void __threadfence() {}

/** Shuffles of a whole warp only: the first argument must be all ones. */
template <class T>
T lacuna_shuffle(unsigned mask, T value, unsigned from, const char* what) {
  if (mask != 0xFFFFFFFFu) lacuna::host::fail("a shuffle of part of a warp");
  const void* all = lacuna::host::together(32, &value, sizeof(T), what);
  T result;
  std::memcpy(&result, static_cast<const unsigned char*>(all) + from % 32 * sizeof(T), sizeof(T));
  return result;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
  return lacuna_shuffle(mask, value, static_cast<unsigned>(lane), "__shfl_sync");
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  return lacuna_shuffle(mask, value, lacuna::host::self().lane ^ static_cast<unsigned>(bits), "__shfl_xor_sync");
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
  const unsigned lane = lacuna::host::self().lane;
  return lacuna_shuffle(mask, value, lane + delta < 32 ? lane + delta : lane, "__shfl_down_sync");
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
  const unsigned lane = lacuna::host::self().lane;
  return lacuna_shuffle(mask, value, lane >= delta ? lane - delta : lane, "__shfl_up_sync");
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  if (mask != 0xFFFFFFFFu) lacuna::host::fail("a vote of part of a warp");
  const auto* all = static_cast<const int*>(lacuna::host::together(32, &predicate, sizeof(int), "__ballot_sync"));
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; i++) votes |= (all[i] != 0 ? 1u : 0u) << i;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == 0xFFFFFFFFu; }

// Blocks run one after the other, so these are plain.
inline unsigned atomicAdd(unsigned* at, unsigned value) { return std::exchange(*at, *at + value); }
inline int atomicAdd(int* at, int value) { return std::exchange(*at, *at + value); }

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float value) { return std::exp(value); }
inline float __logf(float value) { return std::log(value); }
template <class T>
T __ldg(const T* at) {
  return *at;
}
template <class T>
T __ldcs(const T* at) {
  return *at;
}
template <class T>
void __stcs(T* at, T value) {
  *at = value;
}

// The runtime

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801,
};
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();

struct lacuna_host_stream;
struct lacuna_host_event;
struct lacuna_host_pool;
struct lacuna_host_graph;
struct lacuna_host_node;
struct lacuna_host_exec;
using cudaStream_t = lacuna_host_stream*;
using cudaEvent_t = lacuna_host_event*;
using cudaMemPool_t = lacuna_host_pool*;
using cudaGraph_t = lacuna_host_graph*;
using cudaGraphNode_t = lacuna_host_node*;
using cudaGraphExec_t = lacuna_host_exec*;

struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem, sharedMemPerBlockOptin;
  int l2CacheSize;
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);

constexpr unsigned cudaStreamNonBlocking = 1;
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
constexpr unsigned cudaEventDisableTiming = 2;
constexpr unsigned cudaEventBlockingSync = 1;
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);

enum cudaMemAllocationType { cudaMemAllocationTypePinned = 1 };
enum cudaMemLocationType { cudaMemLocationTypeDevice = 1 };
struct cudaMemLocation {
  cudaMemLocationType type;
  int id;
};
struct cudaMemPoolProps {
  cudaMemAllocationType allocType;
  int handleTypes;
  cudaMemLocation location;
};
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value);
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes);
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool);
cudaError_t cudaMallocFromPoolAsync(void** memory, size_t bytes, cudaMemPool_t pool, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
constexpr unsigned cudaHostAllocDefault = 0;
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* memory);
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);

enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone = 0, cudaStreamCaptureStatusActive = 1 };
struct cudaGraphEdgeData {
  unsigned char unused[8];
};
struct cudaKernelNodeParams {
  lacuna::host::Launch launch;
};
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id = nullptr,
                                     cudaGraph_t* graph = nullptr, const cudaGraphNode_t** dependencies = nullptr,
                                     const cudaGraphEdgeData** edges = nullptr, size_t* count = nullptr);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t node, cudaKernelNodeParams* params);
cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node, const cudaKernelNodeParams* params);

namespace lacuna::host {
/** Turns of threads and blocks backwards, for the launches of this stream: for tests. */
void set_reverse(cudaStream_t stream, bool reverse);
/** Allocations of the pool fail, as a full card's do, where they would take more than `bytes` in all: for tests. */
void set_memory(cudaMemPool_t pool, size_t bytes);
cudaError_t launch(Launch launch, cudaStream_t stream);
}  // namespace lacuna::host
