/** How many f32 numbers lie between two offsets that every device can bind (256 bytes). */
const ALIGNED = 64;

/**
 * How a sum over `items` is cut for a two-stage reduction in a fixed order: about `most` threads at most (the device's
 * `lanes`; 64 at least, and a CPU kernel gives each a contiguous share instead): `threads` threads, of which thread t adds
 * items t, t + threads, t + 2·threads, … in blocks of `block`, and the block sums to each other; then one workgroup of
 * 256 adds the threads' partial sums in the same way and its lanes in a tree.
 *
 * Accuracy: an f32 sum of equal signs has a relative error below 2⁻²⁴ times the longest chain of additions. With 10⁸
 * items and 65,536 threads a chain is 40 (block) + 39 (blocks) + 16 + 16 (partials) + 8 (tree) ≈ 120 long: at most
 * 7·10⁻⁶, and about √120 · 2⁻²⁴ ≈ 6·10⁻⁷ for roundings without bias. Compensated summation is avoided on purpose: Metal
 * compiles WGSL with fast maths, which may simplify the compensation away.
 *
 * `threads` is a multiple of 64, so that the partial sums of several parts of a batch can lie side by side.
 */
export function twoStage(items: number, most: number): { threads: number; block: number } {
  const wanted = Math.min(most, Math.ceil(items / 8));
  const threads = Math.max(ALIGNED, Math.ceil(wanted / ALIGNED) * ALIGNED);
  return { threads, block: blockOf(items, threads) };
}

/** The block length that keeps the longest chain of additions short, for `items` shared by `threads`. */
export const blockOf = (items: number, threads: number): number =>
  Math.max(1, Math.ceil(Math.sqrt(Math.ceil(items / threads))));
