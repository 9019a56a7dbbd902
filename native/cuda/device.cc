// The CUDA device: one stream, a pool of its own over CUDA's, pinned memory through which data comes and goes, and graphs
// of captured commands.
#include "device.h"

#include <atomic>
#include <cstring>
#include <deque>
#include <vector>

#include "../memory.h"
#include "registry.h"

namespace lacuna::cuda {
namespace {

constexpr size_t ALIGNMENT = 512;
constexpr size_t LARGEST_SEGMENT = size_t{1} << 30;
/** Pinned memory that is kept for the next write or read; beyond it, a write waits for one before. */
constexpr size_t MOST_PINNED = size_t{256} << 20;

/** Pinned memory on its way to or from the card. */
struct Staging {
  void* memory = nullptr;
  size_t size = 0;
  cudaEvent_t passed = nullptr;    // recorded behind the copy
  std::atomic<bool> held = false;  // by a read whose bytes were not fetched yet
  ~Staging() {
    if (passed) cudaEventDestroy(passed);
    if (memory) cudaFreeHost(memory);
  }
};

/** One call of `run` in a graph: what it takes to launch it again with other parameters. */
struct Call {
  const Entry* entry;
  std::vector<void*> buffers;
  std::vector<Type> types;
  std::vector<unsigned char> params;
  std::vector<void*> scratch;
  std::vector<cudaGraphNode_t> nodes;
  bool tf32;
};

struct Graph {
  std::shared_ptr<Pool> pool;  // of what was allocated while it was captured: no other command touches it
  std::deque<Call> calls;
  std::vector<std::unique_ptr<Staging>> data;  // what was written
  std::vector<Allocation> scratch;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  uint64_t launches = 0;
  ~Graph() {
    for (const Allocation& allocation : scratch) pool->give(allocation.block);
    if (exec) cudaGraphExecDestroy(exec);
    if (graph) cudaGraphDestroy(graph);
  }
};

class CudaDevice final : public Device, private Context {
 public:
  CudaDevice(const Options& options, const cudaDeviceProp& card) : guard_(options.guard), name_(card.name) {
    multiprocessors = card.multiProcessorCount;
    capability = card.major * 10 + card.minor;
    tf32 = false;
    running = "none";
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    check(cudaStreamCreateWithFlags(&memory_stream_, cudaStreamNonBlocking), "stream");
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = 0;
    check(cudaMemPoolCreate(&cuda_pool_, &properties), "memory pool");
    uint64_t never = UINT64_MAX;  // else every wait would give what is free back to the system
    check(cudaMemPoolSetAttribute(cuda_pool_, cudaMemPoolAttrReleaseThreshold, &never), "memory pool");
#if defined(LACUNA_HOST)
    if (options.capability > 0) capability = options.capability;
    host::set_reverse(stream, options.reverse);
    host::set_memory(cuda_pool_, options.memory > 0 ? options.memory : SIZE_MAX);
#endif
    pool_ = new_pool();
  }

  ~CudaDevice() override {
    cudaStreamSynchronize(stream);
    if (capturing_) cudaStreamEndCapture(stream, &capturing_->graph);
    capturing_.reset();
    graphs_.clear();
    pool_.reset();
    handles_ = {};  // before the pools that their memory came from are gone with CUDA's
    release_retired();
    staging_.clear();
    cudaMemPoolDestroy(cuda_pool_);
    cudaStreamDestroy(memory_stream_);
    cudaStreamDestroy(stream);
  }

  std::string description() const override {
    return name_ + ", compute capability " + std::to_string(capability / 10) + "." + std::to_string(capability % 10);
  }

  uint64_t alloc(size_t bytes, Type type) override {
    Allocation made = allocate(bytes, type);
    if (guard_) {
      check(cudaMemsetAsync(made.block, CANARY, made.block_size, stream), "alloc");
      check(cudaMemsetAsync(made.data, POISON, made.size, stream), "alloc");
    }
    return handles_.add(std::move(made));
  }
  void free(uint64_t handle) override {
    const Allocation freed = handles_.remove(handle);
    if (guard_ && !capturing_) check_zones(freed);
    freed.pool->give(freed.block);  // commands that use it come before whatever will use the block next
  }

  void write(const View& target, const void* data) override {
    unsigned char* to = handles_.resolve(target);
    if (target.size == 0) return;
    Staging& staging = stage(target.size);
    std::memcpy(staging.memory, data, target.size);
    check(cudaMemcpyAsync(to, staging.memory, target.size, cudaMemcpyHostToDevice, stream), "write");
    if (!capturing_) check(cudaEventRecord(staging.passed, stream), "write");
  }
  void copy(const View& source, const View& target) override {
    const unsigned char* from = handles_.resolve(source);
    unsigned char* to = handles_.resolve(target);
    if (source.size != target.size) throw DeviceException("range", "source and target differ in size");
    if (source.size > 0) check(cudaMemcpyAsync(to, from, source.size, cudaMemcpyDeviceToDevice, stream), "copy");
  }

  int kernel(const std::string& name) const override {
    const auto& all = all_kernels();
    for (size_t i = 0; i < all.size(); i++) {
      if (name == all[i]->name) return static_cast<int>(i);
    }
    return -1;
  }
  std::vector<KernelInfo> kernels() const override {
    std::vector<KernelInfo> all;
    for (const Entry* entry : all_kernels()) {
      all.push_back({entry->name, entry->inputs, entry->outputs, entry->params_bytes});
    }
    return all;
  }

  void run(int kernel, const View* views, size_t count, const void* params, size_t params_bytes) override {
    const auto& all = all_kernels();
    if (kernel < 0 || static_cast<size_t>(kernel) >= all.size()) throw DeviceException("kernel", "no such kernel");
    const Entry& entry = *all[kernel];
    check_call(entry, views, count, params_bytes);
    void* buffers[MOST_BUFFERS];
    Type types[MOST_BUFFERS];
    for (size_t i = 0; i < count; i++) {
      const Allocation& allocation = handles_.at(views[i]);
      if (views[i].offset % bytes_of(allocation.type) != 0 || views[i].size % bytes_of(allocation.type) != 0) {
        throw DeviceException("range", std::string(entry.name) + ": views are made of whole elements");
      }
      buffers[i] = allocation.data + views[i].offset;
      types[i] = allocation.type;
    }
    dispatches_++;
    if (capturing_) {
      const auto* bytes = static_cast<const unsigned char*>(params);
      capturing_->calls.push_back(
          {&entry, std::vector<void*>(buffers, buffers + count), std::vector<Type>(types, types + count),
           std::vector<unsigned char>(bytes, bytes + params_bytes), {}, {}, tf32});
    }
    launch(entry, buffers, types, params);
  }

  void allow_tf32(bool allowed) override { tf32 = allowed; }

  void begin_capture() override {
    if (capturing_) throw DeviceException("argument", "a capture is under way");
    auto graph = std::make_unique<Graph>();
    graph->pool = new_pool(true);
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "begin capture");
    capturing_ = std::move(graph);
  }
  uint64_t end_capture(bool keep) override {
    if (!capturing_) throw DeviceException("argument", "no capture is under way");
    const auto graph = std::shared_ptr<Graph>(std::move(capturing_));
    check(cudaStreamEndCapture(stream, &graph->graph), "end capture");
    if (!keep) return 0;
    check(cudaGraphInstantiate(&graph->exec, graph->graph, 0), "end capture");
    graphs_.emplace(++last_graph_, graph);
    return last_graph_;
  }
  void replay(uint64_t number, const Patch* patches, size_t count) override {
    if (capturing_) throw DeviceException("argument", "a capture is under way");
    Graph& graph = graph_of(number);
    for (size_t i = 0; i < count; i++) {
      if (patches[i].run >= graph.calls.size() || patches[i].params_bytes != graph.calls[patches[i].run].params.size()) {
        throw DeviceException("argument", "a patch fits none of the graph's calls");
      }
      patch(graph, graph.calls[patches[i].run], patches[i].params);
    }
    check(cudaGraphLaunch(graph.exec, stream), "replay");
    dispatches_ += graph.calls.size();
  }
  void free_graph(uint64_t number) override {
    graph_of(number);
    check(cudaStreamSynchronize(stream), "free graph");
    graphs_.erase(number);
  }

  void check(const View& view) const override { handles_.resolve(view); }

  Pending* read(const View& source, void* data) override {
    refuse_while_capturing("reading");
    const unsigned char* from = handles_.resolve(source);
    Staging& staging = stage(source.size);
    auto ticket = std::make_unique<Ticket>(staging, data, source.size);
    if (source.size > 0) {
      check(cudaMemcpyAsync(staging.memory, from, source.size, cudaMemcpyDeviceToHost, stream), "read");
    }
    check(cudaEventRecord(staging.passed, stream), "read");
    return ticket.release();
  }
  Pending* sync() override {
    refuse_while_capturing("waiting");
    if (guard_) {
      for (const auto& [handle, allocation] : handles_.all()) check_zones(allocation);
    }
    release_retired();
    if (!failure_.empty()) throw DeviceException("failed", std::exchange(failure_, ""));
    Staging& staging = stage(1);
    auto ticket = std::make_unique<Ticket>(staging, nullptr, 0);
    check(cudaEventRecord(staging.passed, stream), "sync");
    return ticket.release();
  }

  Stats stats() const override {
    Stats now;
    handles_.count(now);
    now.reserved = reserved_;
    now.dispatches = dispatches_;
    return now;
  }

 private:
  using Device::check;
  static void check(cudaError_t error, const char* what) { cuda::check(error, what); }

  struct Ticket final : Pending {
    Ticket(Staging& staging, void* data, size_t size) : staging(staging), data(data), size(size) { staging.held = true; }
    ~Ticket() override {
      cudaEventSynchronize(staging.passed);
      staging.held = false;
    }
    void wait() override {
      cuda::check(cudaEventSynchronize(staging.passed), "waiting for the card");
      if (size > 0) std::memcpy(data, staging.memory, size);
    }
    Staging& staging;
    void* data;
    size_t size;
  };

  void refuse_while_capturing(const std::string& what) const {
    if (capturing_) throw DeviceException("argument", what + " is not possible while commands are captured");
  }
  Graph& graph_of(uint64_t number) const {
    const auto found = graphs_.find(number);
    if (found == graphs_.end()) throw DeviceException("handle", "there is no graph " + std::to_string(number));
    return *found->second;
  }

  // Memory

  std::shared_ptr<Pool> new_pool(bool of_graph = false) {
    return std::make_shared<Pool>(Segments{ALIGNMENT, LARGEST_SEGMENT, [this](size_t size) { return obtain(size); },
                                           [this](void* memory, bool) { retired_.push_back(memory); }, of_graph});
  }
  /** A segment, at once: from a stream of its own, as the other may be captured. */
  void* obtain(size_t size) {
    release_retired();  // else what pools gave up would stay until somebody waits
    void* memory = nullptr;
    if (cudaMallocFromPoolAsync(&memory, size, cuda_pool_, memory_stream_) != cudaSuccess) {
      cudaGetLastError();
      return nullptr;
    }
    check(cudaStreamSynchronize(memory_stream_), "alloc");
    segments_[memory] = size;
    reserved_ += size;
    return memory;
  }
  /** Segments whose last commands have run go back. */
  void release_retired() {
    if (retired_.empty() || capturing_) return;
    cudaStreamSynchronize(stream);
    for (void* memory : retired_) {
      cudaFreeAsync(memory, memory_stream_);
      reserved_ -= segments_[memory];
      segments_.erase(memory);
    }
    retired_.clear();
    cudaStreamSynchronize(memory_stream_);
  }
  Allocation allocate(size_t bytes, Type type) {
    const std::shared_ptr<Pool>& pool = capturing_ ? capturing_->pool : pool_;
    Allocation made = Handles::take(pool, bytes, type, guard_);
    if (!made.block) {
      pool_->trim();  // what lies idle may help
      release_retired();
      cudaMemPoolTrimTo(cuda_pool_, 0);
      made = Handles::take(pool, bytes, type, guard_);
    }
    if (!made.block) {
      size_t free = 0, total = 0;
      cudaMemGetInfo(&free, &total);
      throw handles_.no_memory(bytes, "; the card has " + std::to_string(free) + " of " + std::to_string(total) + " bytes free");
    }
    return made;
  }
  void check_zones(const Allocation& allocation) {
    std::vector<unsigned char> copy(allocation.block_size);
    check(cudaMemcpyAsync(copy.data(), allocation.block, copy.size(), cudaMemcpyDeviceToHost, stream), "zones");
    check(cudaStreamSynchronize(stream), "zones");
    if (allocation.damaged(copy.data()) && failure_.empty()) {
      failure_ = "a kernel wrote outside an allocation of " + std::to_string(allocation.size) +
                 " bytes; the last one was " + running;
    }
  }

  /** Pinned memory that no copy uses any more. */
  Staging& stage(size_t size) {
    auto& list = capturing_ ? capturing_->data : staging_;
    size_t pinned = 0;
    if (!capturing_) {
      Staging* oldest = nullptr;
      for (auto& staging : list) {
        pinned += staging->size;
        if (staging->held || staging->size < size) continue;
        if (cudaEventQuery(staging->passed) == cudaSuccess) return *staging;
        if (!oldest) oldest = staging.get();
      }
      cudaGetLastError();  // "not ready" is no error
      if (pinned + size > MOST_PINNED && oldest) {
        check(cudaEventSynchronize(oldest->passed), "write");
        return *oldest;
      }
    }
    auto made = std::make_unique<Staging>();
    made->size = size < 65536 ? 65536 : size;
    check(cudaHostAlloc(&made->memory, made->size, cudaHostAllocDefault), "pinned memory");
    check(cudaEventCreateWithFlags(&made->passed, cudaEventDisableTiming | cudaEventBlockingSync), "event");
    list.push_back(std::move(made));
    return *list.back();
  }

  // Kernels

  void launch(const Entry& entry, void* const* buffers, const Type* types, const void* params) {
    running = entry.name;
    alignas(8) unsigned char aligned[MOST_PARAMS];
    std::memcpy(aligned, params, entry.params_bytes);
    try {
      entry.call(entry.function, aligned, Args{buffers, types, entry.inputs, *this});
    } catch (...) {
      give_scratch();
      throw;
    }
    give_scratch();
  }
  void* scratch(size_t bytes) override {
    if (patching_) {  // what the call had the first time
      if (patched_scratch_ >= patching_->scratch.size()) throw DeviceException("failed", "a patched call needs more scratch");
      return patching_->scratch[patched_scratch_++];
    }
    Allocation made = allocate(bytes, Type::f32);
    if (guard_) {
      check(cudaMemsetAsync(made.block, CANARY, made.block_size, stream), "scratch");
      check(cudaMemsetAsync(made.data, POISON, made.size, stream), "scratch");
    }
    if (capturing_) capturing_->calls.back().scratch.push_back(made.data);
    scratch_.push_back(std::move(made));
    return scratch_.back().data;
  }
  /** What comes next on the stream may use it; a graph's stays its own, for the sake of patches. */
  void give_scratch() {
    for (Allocation& made : scratch_) {
      if (capturing_) {
        capturing_->scratch.push_back(std::move(made));
        continue;
      }
      if (guard_) check_zones(made);
      made.pool->give(made.block);
    }
    scratch_.clear();
  }
  void launched() override {
    if (!capturing_ && !patching_) return;
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    const cudaGraphNode_t* last = nullptr;
    size_t count = 0;
    check(cudaStreamGetCaptureInfo(stream, &status, nullptr, nullptr, &last, nullptr, &count), "capture");
    if (count == 0) throw DeviceException("failed", "a launch left no node in the graph");
    (patching_ ? patched_nodes_ : capturing_->calls.back().nodes).push_back(last[count - 1]);
  }
  /** Launches a call into a graph of its own, and takes its nodes' parameters over. */
  void patch(Graph& graph, Call& call, const void* params) {
    if (std::memcmp(call.params.data(), params, call.params.size()) == 0) return;
    std::memcpy(call.params.data(), params, call.params.size());
    const bool tf32_now = std::exchange(tf32, call.tf32);
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "patch");
    patching_ = &call;
    patched_scratch_ = 0;
    patched_nodes_.clear();
    std::exception_ptr failure;
    try {
      launch(*call.entry, call.buffers.data(), call.types.data(), call.params.data());
    } catch (...) {
      failure = std::current_exception();
    }
    patching_ = nullptr;
    tf32 = tf32_now;
    cudaGraph_t part = nullptr;
    check(cudaStreamEndCapture(stream, &part), "patch");
    try {
      if (failure) std::rethrow_exception(failure);
      if (patched_nodes_.size() != call.nodes.size()) throw DeviceException("failed", "a patched call launches otherwise");
      for (size_t i = 0; i < call.nodes.size(); i++) {
        cudaKernelNodeParams node = {};
        check(cudaGraphKernelNodeGetParams(patched_nodes_[i], &node), "patch");
        check(cudaGraphExecKernelNodeSetParams(graph.exec, call.nodes[i], &node), "patch");
      }
    } catch (...) {
      cudaGraphDestroy(part);
      throw;
    }
    cudaGraphDestroy(part);
  }

  const bool guard_;
  const std::string name_;
  cudaStream_t memory_stream_ = nullptr;
  cudaMemPool_t cuda_pool_ = nullptr;
  std::unordered_map<void*, size_t> segments_;
  std::vector<void*> retired_;
  size_t reserved_ = 0;
  std::shared_ptr<Pool> pool_;
  Handles handles_;
  std::vector<std::unique_ptr<Staging>> staging_;
  std::vector<Allocation> scratch_;
  std::unique_ptr<Graph> capturing_;
  std::unordered_map<uint64_t, std::shared_ptr<Graph>> graphs_;
  uint64_t last_graph_ = 0;
  Call* patching_ = nullptr;
  size_t patched_scratch_ = 0;
  std::vector<cudaGraphNode_t> patched_nodes_;
  uint64_t dispatches_ = 0;
  std::string failure_;
};

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

}  // namespace

std::unique_ptr<Device> open(const Options& options) {
  int cards = 0, driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t found = cudaGetDeviceCount(&cards);
  cudaGetLastError();
  if (driver == 0) throw std::runtime_error("there is no NVIDIA driver");
  if (found == cudaErrorInsufficientDriver) {
    throw std::runtime_error("the NVIDIA driver is made for CUDA " + version(driver) + ", older than this build's " + version(runtime));
  }
  if (found == cudaErrorNoDevice || (found == cudaSuccess && cards == 0)) throw std::runtime_error("there is no NVIDIA GPU");
  if (found != cudaSuccess) throw std::runtime_error(cudaGetErrorString(found));
  cudaDeviceProp card;
  check(cudaSetDevice(0), "open");
  check(cudaGetDeviceProperties(&card, 0), "open");
  probe(card.major * 10 + card.minor);
  return std::make_unique<CudaDevice>(options, card);
}

}  // namespace lacuna::cuda
