// Numbers by a hash of their place, which PyTorch's side makes alike (bench/peers/pytorch.py `values`): no array need be sent.

/** `count` numbers in [-scale, scale). */
export function values(count: number, seed: number, scale = 1): Float32Array {
  const out = new Float32Array(count);
  const start = Math.imul(seed, 0x9e3779b9);
  for (let i = 0; i < count; i++) {
    let h = (start + i) | 0;
    h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
    h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
    h = (h ^ (h >>> 16)) >>> 0;
    out[i] = Math.fround(h * 2 ** -31 - 1) * scale;
  }
  return out;
}

/** `count` whole numbers below `classes`. */
export const labels = (count: number, classes: number, seed: number): Uint32Array =>
  Uint32Array.from(values(count, seed), (v) => Math.min(classes - 1, Math.floor((v / 2 + 0.5) * classes)));

/**
 * First values of the `index`th parameter in the order of names, in our layout; bench/peers/pytorch.py `fill` gives the
 * same. Weights of norms and losses lie around 1.
 */
export function weights(shape: readonly number[], name: string, index: number): Float32Array {
  const count = shape.reduce((a, b) => a * b, 1);
  const seed = 100 + index;
  if (shape.length > 1) return values(count, seed, Math.sqrt((6 * shape[0]!) / count));
  const v = values(count, seed, 0.1);
  return /weight$|^losses\./.test(name) ? v.map((value) => 1 + value) : v;
}

/** About a thousand numbers, at odd distances so that all channels are seen. */
export function sample(data: ArrayLike<number>): number[] {
  const distance = Math.floor(data.length / 997) | 1;
  return Array.from({ length: Math.ceil(data.length / distance) }, (_, i) => data[i * distance]!);
}

/** ‖a − b‖ / ‖b‖; infinite where they are not equally long, NaN where a number is. */
export function relativeError(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let [difference, norm] = [0, 0];
  a.forEach((v, i) => {
    difference += (v - b[i]!) ** 2;
    norm += b[i]! ** 2;
  });
  return Math.sqrt(difference / (norm || 1));
}

/**
 * @returns a word on the first of `ours` that differs from its counterpart by more than `tolerance` (relative L2 error);
 * null where all agree.
 */
export function disagreement(
  ours: readonly (readonly number[])[],
  theirs: readonly (readonly number[])[],
  tolerance: number,
): string | null {
  if (ours.length !== theirs.length) return `${ours.length} results, not ${theirs.length}`;
  for (const [i, a] of ours.entries()) {
    const error = relativeError(a, theirs[i]!);
    if (!(error <= tolerance)) return `result ${i} has a relative error of ${error.toExponential(1)}`;
  }
  return null;
}
