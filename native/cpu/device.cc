// The CPU device: a thread that carries out commands in order (so that JavaScript runs ahead of it, as with a GPU), the
// threads that help it, and a pool of 64-byte aligned memory.
#include "device.h"

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <new>
#include <thread>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "../memory.h"
#include "registry.h"
#include "threads.h"

namespace lacuna::cpu {
namespace {

constexpr size_t ALIGNMENT = 64;
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
        pool_(std::make_shared<Pool>(Segments{
            ALIGNMENT, size_t{64} << 20,
            [](size_t size) { return ::operator new(size, std::align_val_t(ALIGNMENT), std::nothrow); },
            [this](void* memory, bool idle) {
              if (idle) return return_to_system(memory);
              enqueue([memory] { return_to_system(memory); });
            }})),
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

  uint64_t alloc(size_t bytes, Type type) override {
    Allocation made = Handles::take(pool_, bytes, type, guard_);
    if (!made.block) {
      pool_->trim();  // what lies idle may help
      drain();
      made = Handles::take(pool_, bytes, type, guard_);
    }
    if (!made.block) throw handles_.no_memory(bytes);
    if (guard_) {
      enqueue([made] {
        std::memset(made.block, CANARY, made.block_size);
        std::memset(made.data, POISON, made.size);
      });
    }
    return handles_.add(std::move(made));
  }

  void free(uint64_t handle) override {
    const Allocation freed = handles_.remove(handle);
    // Commands that use it come before whatever will use the block next.
    if (guard_) enqueue([this, freed] { check_zones(freed); });
    freed.pool->give(freed.block);
  }

  void write(const View& target, const void* data) override {
    unsigned char* to = handles_.resolve(target);
    auto* staged = static_cast<unsigned char*>(::operator new(target.size, std::nothrow));
    if (!staged) throw DeviceException("memory", "no memory to hold " + std::to_string(target.size) + " bytes");
    if (target.size > 0) std::memcpy(staged, data, target.size);
    enqueue([to, staged, size = target.size] {
      std::memcpy(to, staged, size);
      ::operator delete(staged);
    });
  }

  void copy(const View& source, const View& target) override {
    const unsigned char* from = handles_.resolve(source);
    unsigned char* to = handles_.resolve(target);
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
    check_call(entry, views, count, params_bytes);
    Call call;
    call.entry = &entry;
    for (size_t i = 0; i < count; i++) call.buffers[i] = handles_.resolve(views[i]);
    std::memcpy(call.params, params, params_bytes);
    dispatches_++;
    enqueue(call);
  }

  void check(const View& view) const override { handles_.resolve(view); }

  Pending* read(const View& source, void* data) override {
    const unsigned char* from = handles_.resolve(source);
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
      for (const auto& [handle, allocation] : handles_.all()) {
        enqueue([this, allocation = allocation] { check_zones(allocation); });
      }
    }
    enqueue([ticket] { ticket->reach(); });
    return ticket;
  }

  Stats stats() const override {
    Stats now;
    handles_.count(now);
    now.reserved = pool_->reserved();
    now.dispatches = dispatches_;
    return now;
  }

 private:
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

  static void return_to_system(void* memory) { ::operator delete(memory, std::align_val_t(ALIGNMENT)); }

  void check_zones(const Allocation& allocation) {
    if (allocation.damaged(allocation.block)) {
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
  std::shared_ptr<Pool> pool_;
  Handles handles_;
  uint64_t dispatches_ = 0;

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
