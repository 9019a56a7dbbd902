#include "executor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// void lacuna_switch_fiber(void** save, void* to): keeps what the calling convention says a function keeps, and goes on
// with the stack `to`.
#if defined(__x86_64__)
asm(R"(
.text
.local lacuna_switch_fiber
lacuna_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#elif defined(__aarch64__)
asm(R"(
.text
.local lacuna_switch_fiber
lacuna_switch_fiber:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#else
#error "the host device needs x86-64 or arm64"
#endif
extern "C" void lacuna_switch_fiber(void** save, void* to);

namespace lacuna::host {
namespace {

constexpr size_t STACK = 256 << 10;  // reserved; pages that are never touched cost nothing
constexpr unsigned MOST_THREADS = 1024;

enum class State { fresh, ready, waiting, polling, done };

struct Fiber {
  Thread thread;
  State state;
  void* stack;  // top of the saved stack
  unsigned char* memory;
  const std::function<bool()>* ready;
  const char* where;
  std::shared_ptr<void> kept;
};

/** Threads that must be at one place before any goes on. */
struct Meeting {
  unsigned wanted = 0, arrived = 0;
  uint64_t round = 0;
  const char* what = nullptr;
  std::vector<unsigned char> brought[2];  // of this round and of the last: that one is still being read
  std::vector<unsigned> threads;
};

struct Block {
  const Launch* launch;
  uint3 index;
  std::vector<Fiber> fibers;
  unsigned current = 0;
  void* scheduler = nullptr;
  std::vector<unsigned char*> stacks;  // free ones
  unsigned char* shared = nullptr;
  Meeting barriers[16];
  std::vector<Meeting> warps, groups;
  std::deque<std::function<void()>> later;
  std::string failure;
  bool progress = false;
#if defined(__SANITIZE_ADDRESS__)
  const void* scheduler_bottom = nullptr;
  size_t scheduler_size = 0;
#endif
};
thread_local Block* block = nullptr;

Fiber& current() { return block->fibers[block->current]; }

#if defined(__SANITIZE_ADDRESS__)
void leave_for(const void* bottom, size_t size, void** fake) { __sanitizer_start_switch_fiber(fake, bottom, size); }
void arrived_from(void* fake, const void** bottom, size_t* size) { __sanitizer_finish_switch_fiber(fake, bottom, size); }
#endif

/** From a fiber back to the scheduler. `ends`: never to return. */
void to_scheduler([[maybe_unused]] bool ends) {
  Fiber& fiber = current();
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  leave_for(block->scheduler_bottom, block->scheduler_size, ends ? nullptr : &fake);
  lacuna_switch_fiber(&fiber.stack, block->scheduler);
  arrived_from(fake, &block->scheduler_bottom, &block->scheduler_size);
#else
  lacuna_switch_fiber(&fiber.stack, block->scheduler);
#endif
}

void to_fiber(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  leave_for(fiber.memory, STACK, &fake);
  lacuna_switch_fiber(&block->scheduler, fiber.stack);
  arrived_from(fake, nullptr, nullptr);
#else
  lacuna_switch_fiber(&block->scheduler, fiber.stack);
#endif
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  arrived_from(nullptr, &block->scheduler_bottom, &block->scheduler_size);
#endif
  block->launch->kernel();
  current().state = State::done;
  to_scheduler(true);
  std::abort();  // nobody switches to a thread that is done
}

void start(Fiber& fiber) {
  if (block->stacks.empty()) {
    void* made = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) std::abort();
    block->stacks.push_back(static_cast<unsigned char*>(made));
  }
  fiber.memory = block->stacks.back();
  block->stacks.pop_back();
  auto* top = reinterpret_cast<void**>(fiber.memory + STACK);
#if defined(__x86_64__)
  // The return address where `ret` finds it, so that the stack is aligned as after a call.
  top -= 2;
  *top = reinterpret_cast<void*>(&fiber_main);
  top -= 6;
  std::memset(top, 0, 6 * sizeof(void*));
#else
  top -= 20;
  std::memset(top, 0, 20 * sizeof(void*));
  top[11] = reinterpret_cast<void*>(&fiber_main);
#endif
  fiber.stack = top;
  fiber.state = State::ready;
}

void resume(unsigned number) {
  Fiber& fiber = block->fibers[number];
  if (fiber.state == State::fresh) start(fiber);
  block->current = number;
  to_fiber(fiber);
  if (fiber.state == State::done) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber.memory, STACK);
#endif
    block->stacks.push_back(fiber.memory);
  }
}

std::string name(const Thread& t) {
  return "thread " + std::to_string(t.number) + " of block " + std::to_string(block->index.x) + "," +
         std::to_string(block->index.y) + "," + std::to_string(block->index.z);
}

/** Comes to a meeting; returns what was brought to it once all are there. */
const void* meet(Meeting& meeting, unsigned wanted, unsigned place, const void* mine, size_t bytes, const char* what) {
  auto& brought = meeting.brought[meeting.round % 2];
  if (meeting.arrived == 0) {
    meeting.wanted = wanted;
    meeting.what = what;
    brought.assign(wanted * bytes, 0);
    meeting.threads.clear();
  }
  if (std::strcmp(meeting.what, what) != 0 || meeting.wanted != wanted || brought.size() != wanted * bytes) {
    fail(std::string("threads that belong together are at different operations: ") + meeting.what + " and " + what);
  }
  if (bytes > 0) std::memcpy(brought.data() + place * bytes, mine, bytes);
  Fiber& fiber = current();
  if (++meeting.arrived == wanted) {
    meeting.arrived = 0;
    meeting.round++;
    for (const unsigned number : meeting.threads) block->fibers[number].state = State::ready;
    block->progress = true;
  } else {
    meeting.threads.push_back(fiber.thread.number);
    fiber.state = State::waiting;
    fiber.where = what;
    to_scheduler(false);
  }
  return brought.data();
}

/** Every thread of one block to its end. */
void run_block(bool reverse) {
  const dim3& size = block->launch->block;
  const unsigned count = size.x * size.y * size.z;
  block->fibers.assign(count, {});
  for (unsigned i = 0; i < count; i++) {
    block->fibers[i].thread = {{i % size.x, i / size.x % size.y, i / (size.x * size.y)}, i % WARP, i / WARP, i};
    block->fibers[i].state = State::fresh;
  }
  for (Meeting& meeting : block->barriers) meeting = {};
  block->warps.assign(count / WARP, {});
  block->groups.assign((count + 127) / 128, {});
  if (block->shared) std::memset(block->shared, 0xFF, block->launch->shared_bytes);
  for (;;) {
    block->progress = false;
    bool left = false;
    for (unsigned first = 0; first < count; first += WARP) {
      // A warp goes on until it waits for others: what it does too early it does long before they come.
      for (bool moved = true; moved;) {
        moved = false;
        for (unsigned i = first; i < first + WARP; i++) {
          Fiber& fiber = block->fibers[reverse ? count - 1 - i : i];
          if (fiber.state == State::polling && (*fiber.ready)()) fiber.state = State::ready;
          if (fiber.state != State::fresh && fiber.state != State::ready) continue;
          block->progress = moved = true;
          resume(fiber.thread.number);
          if (!block->failure.empty()) return;
        }
      }
    }
    for (const Fiber& fiber : block->fibers) left |= fiber.state != State::done;
    if (!left && block->later.empty()) return;
    if (block->progress) continue;
    if (!block->later.empty()) {
      const auto work = std::move(block->later.front());
      block->later.pop_front();
      work();
      if (!block->failure.empty()) return;
      continue;
    }
    std::string places;
    for (const Fiber& fiber : block->fibers) {
      if (fiber.state == State::done || places.size() > 200) continue;
      places += "; " + name(fiber.thread) + " at " + fiber.where;
    }
    block->failure = "threads wait for others that never come" + places;
    return;
  }
}

}  // namespace

std::string run(const Launch& launch, bool reverse) {
  const uint64_t threads = uint64_t{launch.block.x} * launch.block.y * launch.block.z;
  const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  if (threads == 0 || threads > MOST_THREADS || threads % WARP != 0 || launch.block.z > 64) {
    return "a block of " + std::to_string(threads) + " threads: whole warps are wanted, 1,024 threads at most";
  }
  if (blocks == 0 || launch.grid.x > 0x7FFFFFFFu || launch.grid.y > 65535 || launch.grid.z > 65535) {
    return "a grid of " + std::to_string(blocks) + " blocks is out of range";
  }
  if (launch.shared_bytes > MOST_SHARED) return std::to_string(launch.shared_bytes) + " bytes of shared memory";
  Block here;
  here.launch = &launch;
  if (launch.shared_bytes > 0) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 1024, launch.shared_bytes) != 0) return "no memory for a block";
    here.shared = static_cast<unsigned char*>(memory);
  }
  static thread_local std::vector<unsigned char*> stacks;  // kept for the next launch
  here.stacks.swap(stacks);
  block = &here;
  for (uint64_t i = 0; i < blocks && here.failure.empty(); i++) {
    const uint64_t at = reverse ? blocks - 1 - i : i;
    here.index = {static_cast<unsigned>(at % launch.grid.x), static_cast<unsigned>(at / launch.grid.x % launch.grid.y),
                  static_cast<unsigned>(at / (uint64_t{launch.grid.x} * launch.grid.y))};
    run_block(reverse);
  }
  block = nullptr;
  if (!here.failure.empty()) {  // threads that will not go on leave their stacks
    for (const Fiber& fiber : here.fibers) {
      if (fiber.state != State::fresh && fiber.state != State::done) here.stacks.push_back(fiber.memory);
    }
#if defined(__SANITIZE_ADDRESS__)
    for (unsigned char* memory : here.stacks) __asan_unpoison_memory_region(memory, STACK);
#endif
  }
  here.stacks.swap(stacks);
  std::free(here.shared);
  return here.failure;
}

const Thread& self() { return current().thread; }
const uint3& block_index() { return block->index; }
const dim3& block_size() { return block->launch->block; }
const dim3& grid_size() { return block->launch->grid; }

void* shared_memory(size_t bytes) {
  if (bytes > block->launch->shared_bytes) {
    fail("the kernel uses " + std::to_string(bytes) + " bytes of shared memory, launched with " +
         std::to_string(block->launch->shared_bytes));
  }
  return block->shared;
}


void fail(const std::string& what) {
  if (block->failure.empty()) block->failure = name(self()) + ": " + what;
  to_scheduler(true);
  std::abort();
}

void barrier(unsigned number, unsigned threads) {
  if (number >= 16 || threads == 0 || threads % WARP != 0 || threads > block->fibers.size()) {
    fail("barrier " + std::to_string(number) + " for " + std::to_string(threads) + " threads");
  }
  meet(block->barriers[number], threads, 0, nullptr, 0, "a barrier");
}

const void* together(unsigned threads, const void* mine, size_t bytes, const char* what) {
  const Thread& thread = self();
  if (threads == WARP) return meet(block->warps[thread.warp], WARP, thread.lane, mine, bytes, what);
  if (threads != 128 || (thread.number / 128 + 1) * 128 > block->fibers.size()) fail("a group that is not whole");
  return meet(block->groups[thread.number / 128], 128, thread.number % 128, mine, bytes, what);
}

void wait_until(const std::function<bool()>& ready, const char* what) {
  if (ready()) return;
  Fiber& fiber = current();
  fiber.ready = &ready;
  fiber.where = what;
  fiber.state = State::polling;
  to_scheduler(false);
}

void later(std::function<void()> work) { block->later.push_back(std::move(work)); }

std::shared_ptr<void>& kept() { return current().kept; }

}  // namespace lacuna::host
