// The CPU device: a thread that carries out commands in order (so that JavaScript runs ahead of it, as with a GPU), the
// threads that help it, and a pool of 64-byte aligned memory.
#include "device.h"

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <thread>
#include <unordered_map>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "registry.h"
#include "threads.h"

namespace lacuna::cpu {
namespace {

constexpr size_t ALIGNMENT = 64;
/** Bytes before and after every allocation when `guard` is on, and what they hold. */
constexpr size_t ZONE = 256;
constexpr unsigned char CANARY = 0xA5;
/** Fresh memory when `guard` is on: a NaN, so that what a kernel leaves out is seen. */
constexpr unsigned char POISON = 0xFF;
/** JavaScript waits when it is this many commands ahead. */
constexpr size_t MOST_QUEUED = 8192;

/**
 * Blocks of this size and more return to the system when they are freed. glibc would raise its threshold to 32 MiB with
 * the first large block that is freed, and keep the holes that host copies of weights and images leave behind. A setting
 * of the whole process, made when its first device opens.
 */
void return_large_blocks() {
#if defined(__GLIBC__)
  static const bool done = mallopt(M_MMAP_THRESHOLD, 256 << 10) != 0;
  (void)done;
#endif
}

size_t rounded(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/**
 * Memory in segments from the system, cut to what is asked for: the smallest free block that is large enough is split,
 * and a block that is given back joins its free neighbours. So the blocks of a step fit those of the step before it,
 * whatever their sizes, and steps after the first ask the system for nothing. Handing a block on at once is safe, as
 * commands run in order.
 */
class Pool {
 public:
  /** `release` is told which segments go back to the system; it does so once the commands that use them have run. */
  explicit Pool(std::function<void(void*)> release) : release_(std::move(release)) {}
  ~Pool() {
    for (const auto& [memory, size] : segments_) return_to_system(memory);
  }
  static void return_to_system(void* memory) { ::operator delete(memory, std::align_val_t(ALIGNMENT)); }

  /** Null where the system has no more. */
  void* take(size_t bytes) {
    const size_t size = rounded(bytes == 0 ? 1 : bytes);
    auto found = free_.lower_bound({size, nullptr});
    if (found == free_.end()) {
      if (!grow(size)) return nullptr;
      found = free_.lower_bound({size, nullptr});
    }
    const auto [block_size, block] = *found;
    free_.erase(found);
    blocks_[block] = {size, false};
    if (block_size > size) add_free(block + size, block_size - size);
    used_ += size;
    if (used_ > most_used_) most_used_ = used_;
    return block;
  }

  void give(void* memory) {
    auto at = blocks_.find(static_cast<unsigned char*>(memory));
    unsigned char* block = at->first;
    size_t size = at->second.size;
    used_ -= size;
    const auto next = std::next(at);
    if (next != blocks_.end() && next->second.free && !segments_.count(next->first)) {
      size += next->second.size;
      free_.erase({next->second.size, next->first});
      blocks_.erase(next);
    }
    if (at != blocks_.begin() && !segments_.count(block)) {
      const auto before = std::prev(at);
      if (before->second.free) {
        free_.erase({before->second.size, before->first});
        size += before->second.size;
        block = before->first;
        blocks_.erase(at);
      }
    }
    add_free(block, size);
    const auto segment = segments_.find(block);
    if (segment != segments_.end() && segment->second == size && reserved_ - used_ > most_used_) drop(segment);
  }

  /** Gives every segment without a block in use back to the system. */
  void trim() {
    for (auto segment = segments_.begin(); segment != segments_.end();) {
      const auto next = std::next(segment);
      const Block& block = blocks_.at(segment->first);
      if (block.free && block.size == segment->second) drop(segment);
      segment = next;
    }
  }
  size_t reserved() const { return reserved_; }

 private:
  struct Block {
    size_t size;
    bool free;
  };
  using Segments = std::map<unsigned char*, size_t>;

  void add_free(unsigned char* block, size_t size) {
    blocks_[block] = {size, true};
    free_.insert({size, block});
  }
  /** A new segment: an eighth of what is in use, or what is asked for; its pages cost nothing before they are touched. */
  bool grow(size_t size) {
    constexpr size_t LEAST = size_t{1} << 20, MOST = size_t{64} << 20;
    size_t wanted = used_ / 8 < LEAST ? LEAST : used_ / 8 > MOST ? MOST : rounded(used_ / 8);
    if (wanted < size) wanted = size;
    void* memory = ::operator new(wanted, std::align_val_t(ALIGNMENT), std::nothrow);
    if (!memory) memory = ::operator new(wanted = size, std::align_val_t(ALIGNMENT), std::nothrow);
    if (!memory) return false;
    auto* segment = static_cast<unsigned char*>(memory);
    segments_[segment] = wanted;
    reserved_ += wanted;
    add_free(segment, wanted);
    return true;
  }
  void drop(Segments::iterator segment) {
    free_.erase({segment->second, segment->first});
    blocks_.erase(segment->first);
    reserved_ -= segment->second;
    release_(segment->first);
    segments_.erase(segment);
  }

  const std::function<void(void*)> release_;
  Segments segments_;                              // where each begins, and its size
  std::map<unsigned char*, Block> blocks_;         // all of them, by address: neighbours of one segment follow each other
  std::set<std::pair<size_t, unsigned char*>> free_;
  size_t used_ = 0, most_used_ = 0, reserved_ = 0;
};

struct Allocation {
  unsigned char* block;  // what the pool gave, with the zones where there are any
  size_t block_size;
  unsigned char* data;
  size_t size;
};

/** Handles of different devices never agree: the upper 21 bits of 53 number the device. */
uint64_t first_handle() {
  static std::mutex mutex;
  static uint64_t devices = 0;
  std::lock_guard lock(mutex);
  devices = devices % ((1u << 20) - 1) + 1;
  return devices << 32;
}

unsigned threads_wanted(unsigned asked) {
  const unsigned here = std::thread::hardware_concurrency();
  return asked > 0 ? asked : here > 0 ? here : 1;
}

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const Options& options)
      : isa_(best_isa(options.isa)),
        guard_(options.guard),
        threads_(threads_wanted(options.threads)),
        pool_([this](void* memory) { enqueue([memory] { Pool::return_to_system(memory); }); }),
        next_(first_handle()),
        executor_([this] { execute(); }) {}

  ~CpuDevice() override {
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    arrived_.notify_all();
    executor_.join();
  }

  std::string description() const override {
    return std::string(name_of(isa_)) + ", " + std::to_string(threads_.count()) +
           (threads_.count() == 1 ? " thread" : " threads");
  }

  uint64_t alloc(size_t bytes) override {
    const size_t zones = guard_ ? 2 * ZONE : 0;
    const size_t size = bytes > MOST_BYTES ? 0 : rounded(bytes) + zones;  // what else would overflow
    void* memory = nullptr;
    if (bytes <= MOST_BYTES && !(memory = pool_.take(size))) {
      pool_.trim();  // what lies idle may help
      drain();
      memory = pool_.take(size);
    }
    if (!memory) {
      throw DeviceException("memory", "no memory for " + std::to_string(bytes) + " bytes beside the " +
                                          std::to_string(stats_.bytes) + " in use");
    }
    auto* block = static_cast<unsigned char*>(memory);
    const Allocation made{block, size, block + zones / 2, bytes};
    if (guard_) {
      enqueue([made] {
        std::memset(made.block, CANARY, made.block_size);
        std::memset(made.data, POISON, made.size);
      });
    }
    allocations_.emplace(next_, made);
    stats_.live++;
    stats_.bytes += bytes;
    if (stats_.bytes > stats_.peak_bytes) stats_.peak_bytes = stats_.bytes;
    return next_++;
  }

  void free(uint64_t handle) override {
    const auto found = allocations_.find(handle);
    if (found == allocations_.end()) throw DeviceException("handle", no_such(handle));
    const Allocation freed = found->second;
    allocations_.erase(found);
    stats_.live--;
    stats_.bytes -= freed.size;
    // Commands that use it come before whatever will use the block next.
    if (guard_) enqueue([this, freed] { check_zones(freed); });
    pool_.give(freed.block);
  }

  void write(const View& target, const void* data) override {
    unsigned char* to = resolve(target);
    auto* staged = static_cast<unsigned char*>(::operator new(target.size, std::nothrow));
    if (!staged) throw DeviceException("memory", "no memory to hold " + std::to_string(target.size) + " bytes");
    if (target.size > 0) std::memcpy(staged, data, target.size);
    enqueue([to, staged, size = target.size] {
      std::memcpy(to, staged, size);
      ::operator delete(staged);
    });
  }

  void copy(const View& source, const View& target) override {
    const unsigned char* from = resolve(source);
    unsigned char* to = resolve(target);
    if (source.size != target.size) throw DeviceException("range", "source and target differ in size");
    enqueue([from, to, size = source.size] { std::memmove(to, from, size); });
  }

  int kernel(const std::string& name) const override {
    size_t count;
    const Entry* const* entries = all_kernels(isa_, count);
    for (size_t i = 0; i < count; i++) {
      if (name == entries[i]->name) return static_cast<int>(i);
    }
    return -1;
  }
  std::vector<KernelInfo> kernels() const override {
    size_t count;
    const Entry* const* entries = all_kernels(isa_, count);
    std::vector<KernelInfo> all;
    for (size_t i = 0; i < count; i++) {
      const Entry& entry = *entries[i];
      all.push_back({entry.name, entry.inputs, entry.outputs, entry.params_bytes});
    }
    return all;
  }

  void run(int kernel, const View* views, size_t count, const void* params, size_t params_bytes) override {
    size_t kernels;
    const Entry* const* entries = all_kernels(isa_, kernels);
    if (kernel < 0 || static_cast<size_t>(kernel) >= kernels) throw DeviceException("kernel", "no such kernel");
    const Entry& entry = *entries[kernel];
    if (count != entry.inputs + entry.outputs || count > MOST_BUFFERS) {
      throw DeviceException("argument", std::string(entry.name) + " takes " + std::to_string(entry.inputs) +
                                            " inputs and " + std::to_string(entry.outputs) + " outputs, not " +
                                            std::to_string(count) + " buffers");
    }
    if (params_bytes != entry.params_bytes || params_bytes > MOST_PARAMS) {
      throw DeviceException("argument", std::string(entry.name) + " takes " + std::to_string(entry.params_bytes) +
                                            " bytes of parameters, not " + std::to_string(params_bytes));
    }
    Call call;
    call.entry = &entry;
    for (size_t i = 0; i < count; i++) {
      if (views[i].offset % 4 != 0 || views[i].size % 4 != 0) {
        throw DeviceException("range", std::string(entry.name) + ": views are made of elements of four bytes");
      }
      call.buffers[i] = resolve(views[i]);
    }
    std::memcpy(call.params, params, params_bytes);
    stats_.dispatches++;
    enqueue(call);
  }

  void check(const View& view) const override { resolve(view); }

  Pending* read(const View& source, void* data) override {
    const unsigned char* from = resolve(source);
    auto* ticket = new Ticket(*this);
    enqueue([from, data, size = source.size, ticket] {
      std::memcpy(data, from, size);
      ticket->reach();
    });
    return ticket;
  }

  Pending* sync() override {
    auto* ticket = new Ticket(*this);
    if (guard_) {
      for (const auto& [handle, allocation] : allocations_) {
        enqueue([this, allocation = allocation] { check_zones(allocation); });
      }
    }
    enqueue([ticket] { ticket->reach(); });
    return ticket;
  }

  Stats stats() const override {
    Stats now = stats_;
    now.reserved = pool_.reserved();
    return now;
  }

 private:
  static constexpr size_t MOST_BYTES = SIZE_MAX / 4;
  static constexpr size_t MOST_BUFFERS = 16;
  static constexpr size_t MOST_PARAMS = 256;
  struct Call {
    const Entry* entry;
    void* buffers[MOST_BUFFERS];
    alignas(8) unsigned char params[MOST_PARAMS];
  };
  /** A kernel, or something else to do. */
  struct Command {
    Call call;
    std::function<void()> other;
  };

  struct Ticket final : Pending {
    explicit Ticket(CpuDevice& device) : device(device) {}
    /** The command that reaches it, and the memory that command writes, must not outlive it, whatever was thrown. */
    ~Ticket() override { wait_reached(); }
    void reach() {
      std::lock_guard lock(device.mutex_);
      reached = true;
      device.reached_.notify_all();
    }
    void wait_reached() {
      std::unique_lock lock(device.mutex_);
      device.reached_.wait(lock, [&] { return reached; });
    }
    void wait() override {
      wait_reached();
      std::lock_guard lock(device.mutex_);
      if (!device.failure_.empty()) {
        const std::string what = std::move(device.failure_);
        device.failure_.clear();
        throw DeviceException("failed", what);
      }
    }
    CpuDevice& device;
    bool reached = false;
  };

  static std::string no_such(uint64_t handle) {
    return "there is no memory " + std::to_string(handle) + " on this device: freed, or of another device";
  }

  unsigned char* resolve(const View& view) const {
    const auto found = allocations_.find(view.handle);
    if (found == allocations_.end()) throw DeviceException("handle", no_such(view.handle));
    const Allocation& allocation = found->second;
    if (view.offset > allocation.size || view.size > allocation.size - view.offset) {
      throw DeviceException("range", "bytes " + std::to_string(view.offset) + " to " +
                                         std::to_string(view.offset + view.size) + " are not inside an allocation of " +
                                         std::to_string(allocation.size));
    }
    return allocation.data + view.offset;
  }

  void check_zones(const Allocation& allocation) {
    const unsigned char* end = allocation.block + allocation.block_size;
    const auto damaged = [](const unsigned char* from, const unsigned char* to) {
      for (; from < to; from++) {
        if (*from != CANARY) return true;
      }
      return false;
    };
    if (damaged(allocation.block, allocation.data) || damaged(allocation.data + allocation.size, end)) {
      fail(std::string("a kernel wrote outside an allocation of ") + std::to_string(allocation.size) +
           " bytes; the last one was " + last_);
    }
  }

  /** The first failure is kept until somebody waits. */
  void fail(const std::string& what) {
    std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = what;
  }

  void enqueue(const Call& call) { push({call, nullptr}); }
  void enqueue(std::function<void()> other) { push({Call{}, std::move(other)}); }
  void push(Command&& command) {
    std::unique_lock lock(mutex_);
    drained_.wait(lock, [&] { return queue_.size() < MOST_QUEUED; });
    queue_.push_back(std::move(command));
    if (idle_) arrived_.notify_one();
  }

  /** Blocks until every command so far has run. */
  void drain() {
    Ticket ticket(*this);
    enqueue([&ticket] { ticket.reach(); });
    ticket.wait_reached();
  }

  void execute() {
    Threads::current() = &threads_;
    std::deque<Command> batch;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        idle_ = true;
        arrived_.wait(lock, [&] { return ending_ || !queue_.empty(); });
        idle_ = false;
        if (queue_.empty()) return;
        batch.swap(queue_);
      }
      drained_.notify_all();
      for (Command& command : batch) carry_out(command);
      batch.clear();
    }
  }

  void carry_out(Command& command) {
    if (command.other) return command.other();
    const Call& call = command.call;
    const Entry& entry = *call.entry;
    last_ = entry.name;
    try {
      entry.call(entry.function, call.params, Args{call.buffers, entry.inputs});
    } catch (const std::bad_alloc&) {
      fail(std::string("no memory for the work space of ") + entry.name);
    }
  }

  const Isa isa_;
  const bool guard_;
  Threads threads_;
  Pool pool_;
  std::unordered_map<uint64_t, Allocation> allocations_;
  uint64_t next_;
  Stats stats_;

  std::mutex mutex_;  // of all that follows
  std::condition_variable arrived_, drained_, reached_;
  std::deque<Command> queue_;
  std::string failure_;
  bool idle_ = false, ending_ = false;
  const char* last_ = "none";  // the executor's own
  std::thread executor_;       // last: it uses all the others
};

}  // namespace

std::unique_ptr<Device> open(const Options& options) {
  return_large_blocks();
  return std::make_unique<CpuDevice>(options);
}

}  // namespace lacuna::cpu
