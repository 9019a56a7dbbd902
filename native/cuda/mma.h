// Tensor cores from sm_80 on, and the copies and loads that feed them: one device function for each instruction. The host
// device has twins of them (native/host/mma_twin.h), which also refuse what the hardware would not do right.
//
// Fragments, in the words of the PTX manual with g = lane / 4 and t = lane % 4, of 32-bit registers:
//   A [16, 32 bytes]  a[0]: row g, bytes 4t..     a[1]: row g + 8     a[2], a[3]: the same 16 bytes on
//   B [32 bytes, 8]   b[0]: column g, bytes 4t..  b[1]: 16 bytes on, counted along the 32 of A's rows
//   C [16, 8] f32     c[0], c[1]: row g, columns 2t and 2t + 1        c[2], c[3]: row g + 8
// where 32 bytes are 16 bf16 or 8 tf32.
#pragma once
#include "kernel.h"

#if defined(LACUNA_HOST)
#include "mma_twin.h"
#else
namespace lacuna::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define LACUNA_SM80(...) __trap()  // never launched there
#else
#define LACUNA_SM80(...) asm volatile(__VA_ARGS__)
#endif

/** c += a b, of bf16 */
__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  LACUNA_SM80(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/** c += a b, of what to_tf32 gives */
__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  LACUNA_SM80(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/** The bits of an f32 rounded to nearest, ties away from zero, to the 10 bits of mantissa that tf32 has. */
__device__ __forceinline__ uint32_t to_tf32(float value) {
  uint32_t bits = 0;
  LACUNA_SM80("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

/**
 * Four matrices of 8 rows of 16 bytes in shared memory; lane i gives the address of row i % 8 of matrix i / 8, a multiple
 * of 16. to[m]: row g of matrix m, bytes 4t to 4t + 3.
 */
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&to)[4], const void* row) {
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  LACUNA_SM80("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
              : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
              : "r"(at)
              : "memory");
}
/** The same with each matrix of 8 x 8 elements of 16 bits transposed: to[m] has column g, rows 2t (low half) and 2t + 1. */
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&to)[4], const void* row) {
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  LACUNA_SM80("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
              : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
              : "r"(at)
              : "memory");
}

/** Starts to copy 16 bytes into shared memory, or zeros where not `inside`; `from` is an address in global memory anyway. */
__device__ __forceinline__ void cp_async16(void* to, const void* from, bool inside) {
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  LACUNA_SM80("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(__cvta_generic_to_global(from)),
              "r"(inside ? 16 : 0)
              : "memory");
}
/** What this thread has started to copy since the last time is a group. */
__device__ __forceinline__ void cp_async_commit() { LACUNA_SM80("cp.async.commit_group;" ::: "memory"); }
/** Waits until no more than the N last groups of this thread are under way. Others see the rest after a barrier. */
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  LACUNA_SM80("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#undef LACUNA_SM80

}  // namespace lacuna::cuda
#endif
