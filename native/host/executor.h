// Runs CUDA kernels on the CPU, one block after the other, its threads as fibers: a thread runs until it waits for others
// (a barrier, a warp's shuffle), and the order in which they get their turn can be reversed, so that a missing barrier shows
// as a different result. What the language leaves undefined is an error here: threads that wait at different barriers,
// warps that are not whole, shared memory beyond what was launched with (AddressSanitizer sees that).
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace lacuna::host {

constexpr unsigned WARP = 32;
/** Bytes of shared memory that a block may have on the largest card (compute capability 9.0). */
constexpr size_t MOST_SHARED = 227 * 1024;

struct Launch {
  dim3 grid, block;
  size_t shared_bytes;
  std::function<void()> kernel;
};
/** Runs all blocks. The empty string, or what went wrong. `reverse`: threads and blocks take their turns backwards. */
std::string run(const Launch& launch, bool reverse);

/** The thread that is running: what CUDA's built-in variables show. */
struct Thread {
  uint3 index;
  unsigned lane, warp, number;
};
const Thread& self();
const uint3& block_index();
const dim3& block_size();
const dim3& grid_size();
/** The block's dynamic shared memory, 1,024-byte aligned and filled with NaN when the block starts. */
void* shared_memory(size_t bytes);

/** Ends the launch with an error: for what the hardware would trap on, or leave undefined. */
[[noreturn]] void fail(const std::string& what);

/** Named barriers 0 to 15; 0 is __syncthreads. `threads` of the block must arrive, a multiple of 32. */
void barrier(unsigned name, unsigned threads);
/**
 * What `threads` neighbouring threads do together (32: a warp, 128: a warpgroup): each brings `bytes` bytes, waits for the
 * others and gets a copy of what all brought, one after the other, valid until its next meeting. `what` names the
 * operation: all must be at the same one.
 */
const void* together(unsigned threads, const void* mine, size_t bytes, const char* what);

/** Waits until `ready` says so; other threads run meanwhile, and after them what `later` holds. */
void wait_until(const std::function<bool()>& ready, const char* what);
/** Work of an engine of its own (copies in the background): done at the last moment, when all threads wait. */
void later(std::function<void()> work);
/** What the twins of one kind of instructions keep for the running thread: empty when the thread starts. */
std::shared_ptr<void>& kept();

}  // namespace lacuna::host
