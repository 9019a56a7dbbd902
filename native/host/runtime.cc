// The runtime API of the host device: everything has happened when a call returns, unless the stream is being captured.
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda_runtime.h"

struct lacuna_host_node {
  std::function<cudaError_t()> work;  // a copy or a memset
  lacuna::host::Launch launch;        // a kernel, where there is no other work
};
struct lacuna_host_graph {
  std::vector<std::unique_ptr<lacuna_host_node>> nodes;
};
struct lacuna_host_exec {
  std::vector<std::pair<const lacuna_host_node*, lacuna_host_node>> nodes;  // which it was made from, and its own copy
};
struct lacuna_host_stream {
  bool reverse = false;
  lacuna_host_graph* capturing = nullptr;
  cudaGraphNode_t last = nullptr;
};
struct lacuna_host_event {};
struct lacuna_host_pool {
  std::mutex mutex;
  size_t used = 0, limit = SIZE_MAX;
  std::unordered_map<void*, size_t> sizes;
};

namespace {

/** As on a GPU, an error of a kernel stays: every later call of the thread's device reports it. */
thread_local std::string failure;
thread_local cudaError_t last_error = cudaSuccess;

std::mutex mutex;  // of the following
std::unordered_map<void*, cudaMemPool_t> pools;  // of each allocation

cudaError_t report(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t carry_out(const lacuna_host_node& node, bool reverse) {
  if (node.work) return node.work();
  const std::string what = lacuna::host::run(node.launch, reverse);
  if (what.empty()) return cudaSuccess;
  failure = what;
  return report(cudaErrorLaunchFailure);
}

cudaError_t submit(cudaStream_t stream, lacuna_host_node&& node) {
  if (!stream->capturing) return carry_out(node, stream->reverse);
  stream->capturing->nodes.push_back(std::make_unique<lacuna_host_node>(std::move(node)));
  stream->last = stream->capturing->nodes.back().get();
  return cudaSuccess;
}

}  // namespace

namespace lacuna::host {
void set_reverse(cudaStream_t stream, bool reverse) { stream->reverse = reverse; }
void set_memory(cudaMemPool_t pool, size_t bytes) {
  std::lock_guard lock(pool->mutex);
  pool->limit = bytes;
}
cudaError_t launch(Launch launch, cudaStream_t stream) { return submit(stream, {nullptr, std::move(launch)}); }
}  // namespace lacuna::host

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorLaunchFailure: return failure.c_str();
    case cudaErrorNotReady: return "not ready";
    default: return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "host device: CUDA kernels on the CPU");
  properties->major = 9;
  properties->multiProcessorCount = 3;  // so that persistent kernels take several turns
  properties->totalGlobalMem = size_t{1} << 33;
  properties->sharedMemPerBlockOptin = lacuna::host::MOST_SHARED;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = size_t{1} << 33;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new lacuna_host_stream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return stream->capturing ? cudaErrorInvalidValue : cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new lacuna_host_event;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = new lacuna_host_pool;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  delete pool;
  return cudaSuccess;
}
cudaError_t cudaMallocFromPoolAsync(void** memory, size_t bytes, cudaMemPool_t pool, cudaStream_t) {
  *memory = nullptr;
  std::scoped_lock lock(mutex, pool->mutex);
  if (bytes > pool->limit || pool->used > pool->limit - bytes || posix_memalign(memory, 512, bytes) != 0) {
    return report(cudaErrorMemoryAllocation);
  }
  pool->used += bytes;
  pool->sizes[*memory] = bytes;
  pools[*memory] = pool;
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) {
  std::lock_guard lock(mutex);
  const auto found = pools.find(memory);
  if (found == pools.end()) return report(cudaErrorInvalidValue);
  {
    std::lock_guard own(found->second->mutex);
    found->second->used -= found->second->sizes[memory];
    found->second->sizes.erase(memory);
  }
  pools.erase(found);
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = std::malloc(bytes);
  return *memory ? cudaSuccess : report(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return submit(stream, {[=] {
                           if (bytes > 0) std::memmove(to, from, bytes);
                           return cudaSuccess;
                         },
                         {}});
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return submit(stream, {[=] {
                           if (bytes > 0) std::memset(to, value, bytes);
                           return cudaSuccess;
                         },
                         {}});
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->capturing) return report(cudaErrorInvalidValue);
  stream->capturing = new lacuna_host_graph;
  stream->last = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->capturing, nullptr);
  return *graph ? cudaSuccess : report(cudaErrorInvalidValue);
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData** edges, size_t* count) {
  *status = stream->capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  if (id) *id = 0;
  if (graph) *graph = stream->capturing;
  if (dependencies) *dependencies = &stream->last;
  if (edges) *edges = nullptr;
  if (count) *count = stream->last ? 1 : 0;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new lacuna_host_exec;
  for (const auto& node : graph->nodes) (*exec)->nodes.emplace_back(node.get(), *node);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  for (const auto& [from, node] : exec->nodes) {
    const cudaError_t error = carry_out(node, stream->reverse);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t node, cudaKernelNodeParams* params) {
  if (node->work) return report(cudaErrorInvalidValue);
  params->launch = node->launch;
  return cudaSuccess;
}
cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node, const cudaKernelNodeParams* params) {
  for (auto& [from, own] : exec->nodes) {
    if (from != node) continue;
    own.launch = params->launch;
    return cudaSuccess;
  }
  return report(cudaErrorInvalidValue);
}
