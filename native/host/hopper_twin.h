// Host twins of the instructions of the H100 and H200 that native/cuda/hopper.h names: barriers in shared memory that count
// arrivals and bytes, copies of boxes of a tensor in the background (TMA), and products by four warps together (wgmma).
// Each does its work as late as the hardware may, so that what was not waited for is missing; what the hardware would trap
// on, or leave undefined, ends the launch.
#pragma once
#include <cstddef>
#include <cstdint>

namespace lacuna::host {

constexpr unsigned MOST_RANK = 5;

/** A tensor of bf16 in global memory and the box of it that one copy moves, swizzled by 128 bytes in shared memory. */
struct alignas(64) TensorMap {
  unsigned char* base;
  unsigned rank;
  uint64_t sizes[MOST_RANK];       // in elements, the first dimension without gaps
  uint64_t strides[MOST_RANK];     // in bytes; of the first dimension: that of an element
  uint32_t box[MOST_RANK];         // in elements of the tensor
  uint32_t steps[MOST_RANK];       // one of so many elements is moved
};
/** False where the driver would refuse it. `strides`: of the second dimension and up. */
bool encode_map(TensorMap& map, void* base, unsigned rank, const uint64_t* sizes, const uint64_t* strides,
                const uint32_t* box, const uint32_t* steps);

// Barriers: 8 bytes each. Phase after phase they wait for `count` arrivals and for the bytes that were announced.

void barrier_init(uint64_t* barrier, unsigned count);
/** One arrival, after announcing bytes. */
void barrier_arrive(uint64_t* barrier, unsigned bytes);
/** Waits for the end of the phase of this parity, that of the first being 0. */
void barrier_wait(uint64_t* barrier, unsigned parity);

// Copies. Coordinates are those of the box's first element, in elements of the tensor; any of them may be out of bounds.

/** Zeros stand for what is out of bounds; the bytes count as arrived on the barrier when all are there. */
void copy_in(void* to, const TensorMap& map, uint64_t* barrier, unsigned rank, const int* at);
/** What is out of bounds is left out. Belongs to the calling thread's next group. */
void copy_out(const TensorMap& map, const void* from, unsigned rank, const int* at);
void copies_commit();
/** Until all of the calling thread's groups but the last `left` have read shared memory. */
void copies_wait(unsigned left);
/** The calling thread's writes to shared memory are visible to copies and products that come after. */
void fence_async();

// Products of 64 x 16 and 16 x n elements of shared memory, added to d: thread t of the warpgroup has n / 2 floats, element i
// of row t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8 and column i / 4 * 8 + t % 4 * 2 + i % 2.

/** What shared memory looks like to a product: see sm90::descriptor. */
uint64_t matrix(const void* start, unsigned leading_bytes, unsigned stride_bytes);
void products_fence();
/** a, b: matrices whose rows (false: 16 terms lie side by side) or terms (true: rows lie side by side) are 128 bytes. */
void product(float* d, unsigned n, uint64_t a, uint64_t b, bool a_across, bool b_across);
void products_commit();
/** Until all groups but the last `left` are done. */
void products_wait(unsigned left);

}  // namespace lacuna::host
