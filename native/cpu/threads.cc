#include "threads.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace lacuna::cpu {
namespace {

inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

/** A worker looks this often (some 20 microseconds) for the next call before it sleeps: kernels follow closely. */
constexpr int SPINS = 1000;

/** Set while this thread runs a range: what it splits then, it runs alone. */
thread_local bool busy = false;

}  // namespace

struct Threads::State {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<uint64_t> call{0};  // number of the call under way; odd while it may be joined
  std::atomic<unsigned> sleeping{0};
  std::atomic<bool> ending{false};

  // The call under way. Written by the caller before `call` turns odd, read by workers that joined it.
  Range range = nullptr;
  void* context = nullptr;
  size_t count = 0, grain = 1, pieces = 0;
  std::atomic<size_t> next{0};
  std::atomic<unsigned> inside{0};
  std::atomic<bool> failed{false};

  void end() {
    {
      std::lock_guard lock(mutex);
      ending.store(true);
    }
    wake.notify_all();
    for (auto& worker : workers) worker.join();
  }

  void take_pieces() {
    try {
      for (size_t piece = next.fetch_add(1); piece < pieces; piece = next.fetch_add(1)) {
        const size_t begin = piece * grain;
        const size_t end = begin + grain < count ? begin + grain : count;
        range(context, begin, end);
      }
    } catch (const std::bad_alloc&) {  // of scratch memory: all that a range may throw
      failed.store(true);
    }
  }

  void work(Threads* owner) {
    Threads::current() = owner;
    busy = true;
    uint64_t seen = 0;
    for (;;) {
      uint64_t now = call.load();
      for (int spin = 0; spin < SPINS && (now == seen || now % 2 == 0) && !ending.load(); spin++) {
        relax();
        now = call.load();
      }
      if (now == seen || now % 2 == 0) {
        std::unique_lock lock(mutex);
        sleeping.fetch_add(1);
        wake.wait(lock, [&] { return ending.load() || (call.load() != seen && call.load() % 2 == 1); });
        sleeping.fetch_sub(1);
        now = call.load();
      }
      if (ending.load()) return;
      if (now % 2 == 0) continue;
      // Join, then look again: the caller closes the call before it waits for those inside.
      inside.fetch_add(1);
      if (call.load() == now) take_pieces();
      inside.fetch_sub(1);
      seen = now;
    }
  }
};

Threads::Threads(unsigned count) : state_(std::make_unique<State>()) {
  try {
    for (unsigned i = 1; i < count; i++) {
      state_->workers.emplace_back([this] { state_->work(this); });
    }
  } catch (...) {  // the system has no more threads: those that run are ended first
    state_->end();
    throw;
  }
}

Threads::~Threads() { state_->end(); }

unsigned Threads::count() const { return static_cast<unsigned>(state_->workers.size()) + 1; }

Threads*& Threads::current() {
  thread_local Threads* threads = nullptr;
  return threads;
}

void Threads::split(size_t count, size_t grain, Range range, void* context) {
  const size_t pieces = (count + grain - 1) / grain;
  if (pieces <= 1 || state_->workers.empty() || busy) {
    for (size_t begin = 0; begin < count; begin += grain) {
      range(context, begin, begin + grain < count ? begin + grain : count);
    }
    return;
  }
  State& s = *state_;
  s.range = range;
  s.context = context;
  s.count = count;
  s.grain = grain;
  s.pieces = pieces;
  s.next.store(0);
  s.failed.store(false);
  s.call.fetch_add(1);  // open
  if (s.sleeping.load() > 0) {
    { std::lock_guard lock(s.mutex); }
    s.wake.notify_all();
  }
  busy = true;
  s.take_pieces();
  busy = false;
  s.call.fetch_add(1);  // closed: nobody joins any more
  for (int spin = 0; s.inside.load() != 0; spin++) {
    if (spin < 10000) relax();
    else std::this_thread::yield();
  }
  if (s.failed.load()) throw std::bad_alloc();
}

namespace {

constexpr size_t ALIGNMENT = 64;

struct Block {
  void* memory = nullptr;
  size_t bytes = 0;
  bool used = false;
};

/** A few blocks a thread: kernels hold three at once at most. Freed when the thread ends. */
struct Cache {
  std::vector<Block> blocks;
  ~Cache() {
    for (const Block& block : blocks) ::operator delete(block.memory, std::align_val_t(ALIGNMENT));
  }
};
thread_local Cache cache;

}  // namespace

void* acquire_scratch(size_t bytes) {
  if (bytes == 0) bytes = 1;
  Block* best = nullptr;
  Block* unused = nullptr;
  for (Block& block : cache.blocks) {
    if (block.used) continue;
    if (!unused || block.bytes < unused->bytes) unused = &block;
    if (block.bytes >= bytes && (!best || block.bytes < best->bytes)) best = &block;
  }
  if (!best) {
    if (unused) {
      ::operator delete(unused->memory, std::align_val_t(ALIGNMENT));
      *unused = {};
    } else {
      unused = &cache.blocks.emplace_back();
    }
    best = unused;
    best->memory = ::operator new(bytes, std::align_val_t(ALIGNMENT));
    best->bytes = bytes;
  }
  best->used = true;
  return best->memory;
}

void release_scratch(void* memory) {
  for (Block& block : cache.blocks) {
    if (block.memory == memory) block.used = false;
  }
}

}  // namespace lacuna::cpu
