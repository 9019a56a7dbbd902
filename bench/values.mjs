// Numbers that both sides make alike (bench/pytorch.py `values`), by a hash of their place: no array need be sent.

/**
 * @param {number} count @param {number} seed @param {number} [scale]
 * @returns {Float32Array} in [-scale, scale)
 */
export function values(count, seed, scale = 1) {
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

/** @param {number} count @param {number} classes @param {number} seed @returns {Uint32Array} below `classes` */
export const labels = (count, classes, seed) =>
  Uint32Array.from(values(count, seed), (v) => Math.min(classes - 1, Math.floor((v / 2 + 0.5) * classes)));

/** About a thousand numbers, at odd distances so that all channels are seen. @param {ArrayLike<number>} data */
export function sample(data) {
  const distance = Math.floor(data.length / 997) | 1;
  return Array.from({ length: Math.ceil(data.length / distance) }, (_, i) => data[i * distance]);
}

/** Of a sample against the peer's: ‖a − b‖ / ‖b‖. @param {readonly number[]} a @param {readonly number[]} b */
export function relativeError(a, b) {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let [difference, norm] = [0, 0];
  a.forEach((v, i) => {
    difference += (v - b[i]) ** 2;
    norm += b[i] ** 2;
  });
  return Math.sqrt(difference / (norm || 1));
}
