// What the H100 and H200 (sm_90a) have beyond other cards, one instruction a function: barriers in shared memory that count
// arrivals and bytes, copies of boxes of a tensor in the background (TMA), and products by four warps together (wgmma).
// Compiled for other architectures, only what the host calls is there. On the host device native/host/hopper_twin.h does it.
//
// Matrices in shared memory are tiles of 64 elements of bf16 by any number of rows: rows of 128 bytes, one after the other,
// in which the 16-byte chunk c of row r lies at c ^ r % 8 (the "swizzle of 128 bytes"), as TMA writes them and wgmma reads
// them without conflicts of banks. They begin at multiples of 1,024 bytes.
#pragma once
#include "kernel.h"

#if defined(LACUNA_HOST)
#include "hopper_twin.h"
#else
#include <cuda.h>
#include <cudaTypedefs.h>
#endif

#if defined(LACUNA_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LACUNA_SM90 1
#else
#define LACUNA_SM90 0
#endif

namespace lacuna::cuda::sm90 {

constexpr unsigned WARPGROUP = 128;
/** Elements of a row of a tile. */
constexpr unsigned TILE_ROW = 64;
constexpr unsigned TILE_ROW_BYTES = TILE_ROW * 2;
/** The swizzle repeats after eight rows. */
constexpr unsigned SWIZZLE_BYTES = 8 * TILE_ROW_BYTES;
constexpr size_t MOST_SHARED = 227 * 1024;

/** A tensor in global memory and the box of it that one copy moves. A kernel takes it by value, as __grid_constant__. */
#if defined(LACUNA_HOST)
using TensorMap = host::TensorMap;
#else
using TensorMap = CUtensorMap;
#endif

/**
 * A map of a tensor of bf16, innermost dimension first, which is without gaps and of which a box takes 64 elements; all
 * strides in bytes, multiples of 16, and those of the dimensions from the second on. `steps`: a copy takes one element of so
 * many (1 to 8); the box's sizes count those between, too, and are 256 at most.
 * False where the driver is too old to know of such maps, or refuses this one.
 */
template <int RANK>
bool encode(TensorMap& map, const void* base, const uint64_t (&sizes)[RANK], const uint64_t (&strides)[RANK - 1],
            const uint32_t (&box)[RANK], const uint32_t (&steps)[RANK]) {
#if defined(LACUNA_HOST)
  return host::encode_map(map, const_cast<void*>(base), RANK, sizes, strides, box, steps);
#else
  static const auto function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
#else
    const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
    cudaGetLastError();
    const bool there = error == cudaSuccess && result == cudaDriverEntryPointSuccess;
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(there ? found : nullptr);
  }();
  return function && function(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, RANK, const_cast<void*>(base), sizes, strides, box,
                              steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                              CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
#endif
}

/** Waits, phase after phase, for a number of arrivals and for the bytes that were announced. In shared memory. */
struct Barrier {
  uint64_t bits;
};

#if LACUNA_SM90

#if defined(LACUNA_HOST)
#define LACUNA_HOST_OR(twin, ...) twin
#else
#define LACUNA_HOST_OR(twin, ...) __VA_ARGS__
__device__ __forceinline__ uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}
#endif

// Barriers

__device__ __forceinline__ void barrier_init(Barrier& barrier, unsigned arrivals) {
  LACUNA_HOST_OR(host::barrier_init(&barrier.bits, arrivals),
                 asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals)
                              : "memory"));
}
/** What the calling thread has initialised is seen by copies and by threads that it meets afterwards. */
__device__ __forceinline__ void barrier_init_done() {
  LACUNA_HOST_OR((void)0, asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory"));
}
__device__ __forceinline__ void barrier_arrive(Barrier& barrier) {
  LACUNA_HOST_OR(host::barrier_arrive(&barrier.bits, 0),
                 asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory"));
}
/** Arrives and announces bytes that copies will bring in this phase. */
__device__ __forceinline__ void barrier_arrive(Barrier& barrier, unsigned bytes) {
  LACUNA_HOST_OR(host::barrier_arrive(&barrier.bits, bytes),
                 asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
                              "r"(bytes)
                              : "memory"));
}
/** Waits for the end of the phase of this parity; the first phase has parity 0. */
__device__ __forceinline__ void barrier_wait(Barrier& barrier, unsigned parity) {
  LACUNA_HOST_OR(host::barrier_wait(&barrier.bits, parity),
                 asm volatile("{\n\t.reg .pred over;\n\tagain:\n\t"
                              "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n\t"
                              "@over bra done;\n\tbra again;\n\tdone:\n\t}" ::"r"(shared_address(&barrier)),
                              "r"(parity)
                              : "memory"));
}
/** Waits for `threads` threads that call it with the same number, 1 to 15. */
__device__ __forceinline__ void named_barrier(unsigned number, unsigned threads) {
  LACUNA_HOST_OR(host::barrier(number, threads), asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory"));
}

// Copies. Coordinates are the box's first element, in elements of the tensor; zeros stand for what is out of bounds, and what
// would go there is left out.

__device__ __forceinline__ void prefetch(const TensorMap& map) {
  LACUNA_HOST_OR((void)map, asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"));
}
__device__ __forceinline__ void copy_in(void* to, const TensorMap& map, Barrier& barrier, int x, int y, int z) {
#if defined(LACUNA_HOST)
  const int at[] = {x, y, z};
  host::copy_in(to, map, &barrier.bits, 3, at);
#else
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(to)),
                              "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "r"(z)
                              : "memory");
#endif
}
__device__ __forceinline__ void copy_in(void* to, const TensorMap& map, Barrier& barrier, int x, int y, int z, int w) {
#if defined(LACUNA_HOST)
  const int at[] = {x, y, z, w};
  host::copy_in(to, map, &barrier.bits, 4, at);
#else
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(to)),
                              "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
                              : "memory");
#endif
}
__device__ __forceinline__ void copy_out(const TensorMap& map, const void* from, int x, int y, int z, int w) {
#if defined(LACUNA_HOST)
  const int at[] = {x, y, z, w};
  host::copy_out(map, from, 4, at);
#else
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
                                  &map),
                              "r"(shared_address(from)), "r"(x), "r"(y), "r"(z), "r"(w)
                              : "memory");
#endif
}
/** The calling thread's copies out until here are one group. */
__device__ __forceinline__ void copies_commit() {
  LACUNA_HOST_OR(host::copies_commit(), asm volatile("cp.async.bulk.commit_group;" ::: "memory"));
}
/** Waits until all of the calling thread's groups but the last LEFT have read shared memory. */
template <int LEFT>
__device__ __forceinline__ void copies_wait() {
  LACUNA_HOST_OR(host::copies_wait(LEFT), asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(LEFT) : "memory"));
}
/** The calling thread's writes to shared memory are seen by copies and products that come after. */
__device__ __forceinline__ void fence_async() {
  LACUNA_HOST_OR(host::fence_async(), asm volatile("fence.proxy.async.shared::cta;" ::: "memory"));
}

// Registers of the calling warpgroup: what one gives up, others may take.

template <int COUNT>
__device__ __forceinline__ void give_registers() {
  LACUNA_HOST_OR((void)0, asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)));
}
template <int COUNT>
__device__ __forceinline__ void take_registers() {
  LACUNA_HOST_OR((void)0, asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)));
}

/** Two floats as bf16, the first in the lower half. */
__device__ __forceinline__ uint32_t pack(float low, float high) {
#if defined(LACUNA_HOST)
  return from_float<bf16>(low).bits | static_cast<uint32_t>(from_float<bf16>(high).bits) << 16;
#else
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
#endif
}

// Products. d += a b, where a is 64 x 16 and b 16 x N; thread t of the warpgroup holds N / 2 elements of d, element i of row
// t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8 and column i / 4 * 8 + t % 4 * 2 + i % 2. They are done in the background: d, a
// and b are left alone from products_fence() to products_wait().

/**
 * A matrix as wgmma sees it. Along: the terms of the sum lie along the tile's rows, from `start` on, and groups of eight rows
 * are `stride_bytes` apart. Across: each row of the tile holds one term, its elements are rows of a or columns of b, groups
 * of eight terms are `stride_bytes` apart and groups of 64 rows or columns `leading_bytes`.
 */
__device__ __forceinline__ uint64_t descriptor(const void* start, unsigned leading_bytes, unsigned stride_bytes) {
  LACUNA_HOST_OR(return host::matrix(start, leading_bytes, stride_bytes),
                 return static_cast<uint64_t>((shared_address(start) & 0x3FFFF) >> 4) |
                        static_cast<uint64_t>(leading_bytes >> 4) << 16 | static_cast<uint64_t>(stride_bytes >> 4) << 32 |
                        uint64_t{1} << 62);
}
/** The same matrix so many bytes further on. */
__device__ __forceinline__ uint64_t advanced(uint64_t descriptor, unsigned bytes) { return descriptor + (bytes >> 4); }

/** Before the first product of a group: what the registers hold is complete. */
__device__ __forceinline__ void products_fence() {
  LACUNA_HOST_OR(host::products_fence(), asm volatile("wgmma.fence.sync.aligned;" ::: "memory"));
}
__device__ __forceinline__ void products_commit() {
  LACUNA_HOST_OR(host::products_commit(), asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"));
}
/** Until all groups but the last LEFT are done. */
template <int LEFT>
__device__ __forceinline__ void products_wait() {
  LACUNA_HOST_OR(host::products_wait(LEFT), asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory"));
}
/** Keeps the compiler from moving what it does with d across this place. */
template <int COUNT>
__device__ __forceinline__ void pin(float (&d)[COUNT]) {
#if defined(LACUNA_HOST)
  (void)d;
#else
#pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

#if !defined(LACUNA_HOST)
// Operands by the dozen: places in the instruction's text, and the registers that go there.
#define LACUNA_PLACES_0 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define LACUNA_PLACES_32 \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define LACUNA_PLACES_64 \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define LACUNA_PLACES_96 \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define LACUNA_F4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define LACUNA_F32(i)                                                                                             \
  LACUNA_F4(i), LACUNA_F4(i + 4), LACUNA_F4(i + 8), LACUNA_F4(i + 12), LACUNA_F4(i + 16), LACUNA_F4(i + 20), \
      LACUNA_F4(i + 24), LACUNA_F4(i + 28)
// scale-d, the predicate: 1, add to d. scale-a and scale-b: 1, plus. The last two: rows (a) or columns (b) lie side by side.
#define LACUNA_WGMMA(n, places, a, b, one, ta, tb, ...)                                                       \
  asm volatile("{\n\t.reg .pred add;\n\tsetp.ne.b32 add, %" one ", 0;\n\t"                                    \
               "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" places "}, %" a ", %" b            \
               ", add, 1, 1, %" ta ", %" tb ";\n\t}"                                                          \
               : __VA_ARGS__                                                                                  \
               : "l"(matrix_a), "l"(matrix_b), "r"(1), "n"(int{A_ACROSS}), "n"(int{B_ACROSS}))
#endif

template <int N, bool A_ACROSS, bool B_ACROSS>
__device__ __forceinline__ void product(float (&d)[N / 2], uint64_t matrix_a, uint64_t matrix_b) {
  static_assert(N == 64 || N == 128 || N == 192 || N == 256);
#if defined(LACUNA_HOST)
  host::product(d, N, matrix_a, matrix_b, A_ACROSS, B_ACROSS);
#else
  if constexpr (N == 64) {
    LACUNA_WGMMA("64", LACUNA_PLACES_0, "32", "33", "34", "35", "36", LACUNA_F32(0));
  } else if constexpr (N == 128) {
    LACUNA_WGMMA("128", LACUNA_PLACES_0 ", " LACUNA_PLACES_32, "64", "65", "66", "67", "68", LACUNA_F32(0), LACUNA_F32(32));
  } else if constexpr (N == 192) {
    LACUNA_WGMMA("192", LACUNA_PLACES_0 ", " LACUNA_PLACES_32 ", " LACUNA_PLACES_64, "96", "97", "98", "99", "100",
                 LACUNA_F32(0), LACUNA_F32(32), LACUNA_F32(64));
  } else {
    LACUNA_WGMMA("256", LACUNA_PLACES_0 ", " LACUNA_PLACES_32 ", " LACUNA_PLACES_64 ", " LACUNA_PLACES_96, "128", "129",
                 "130", "131", "132", LACUNA_F32(0), LACUNA_F32(32), LACUNA_F32(64), LACUNA_F32(96));
  }
#endif
}

#undef LACUNA_HOST_OR
#if !defined(LACUNA_HOST)
#undef LACUNA_WGMMA
#undef LACUNA_F32
#undef LACUNA_F4
#undef LACUNA_PLACES_0
#undef LACUNA_PLACES_32
#undef LACUNA_PLACES_64
#undef LACUNA_PLACES_96
#endif

#endif  // LACUNA_SM90

}  // namespace lacuna::cuda::sm90
