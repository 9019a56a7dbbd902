/**
 * Position-keyed random numbers. A city is an endless map that is never stored: every lot, tree and grain of texture is
 * drawn from a hash of its own coordinates, so a tile looks the same whichever tiles were rendered before it.
 */

/** Mixes four integers into 32 bits (xor, multiply, rotate; avalanche at the end). Returns [0, 2^32). */
export function hash(a: number, b: number, c: number, d = 0): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b);
  h = Math.imul(((h << 13) | (h >>> 19)) ^ b, 0xc2b2ae35);
  h = Math.imul(((h << 15) | (h >>> 17)) ^ c, 0x27d4eb2f);
  h = Math.imul(((h << 11) | (h >>> 21)) ^ d, 0x165667b1);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
  return (h ^ (h >>> 15)) >>> 0;
}

/** The same as a number in [0, 1). */
export function unit(a: number, b: number, c: number, d = 0): number {
  return hash(a, b, c, d) / 4294967296;
}

/** A short sequence of draws that belongs to one object (a block, a building, a tree). */
export class Draws {
  private counter = 0;
  constructor(private readonly key: number) {}

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * unit(this.key, this.counter++, 0x5f356495);
  }

  chance(probability: number): boolean {
    return this.between(0, 1) < probability;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.between(0, choices.length))] as T;
  }
}

/** Value noise in [-1, 1] with one lattice point per unit; the smoothstep makes it once differentiable. */
export function valueNoise(key: number, x: number, y: number): number {
  const column = Math.floor(x);
  const row = Math.floor(y);
  const fx = x - column;
  const fy = y - row;
  const sx = fx * fx * (3 - 2 * fx);
  const sy = fy * fy * (3 - 2 * fy);
  const topLeft = hash(key, column, row);
  const topRight = hash(key, column + 1, row);
  const bottomLeft = hash(key, column, row + 1);
  const bottomRight = hash(key, column + 1, row + 1);
  const top = topLeft + (topRight - topLeft) * sx;
  const bottom = bottomLeft + (bottomRight - bottomLeft) * sx;
  return (top + (bottom - top) * sy) / 2147483648 - 1;
}

/** Roughly standard normal (four bytes of one hash added up: range ±3.46), cheap enough for every channel of every pixel. */
export function grain(key: number, x: number, y: number, channel: number): number {
  const h = hash(key, x, y, channel);
  const bytes = (h & 255) + ((h >>> 8) & 255) + ((h >>> 16) & 255) + (h >>> 24);
  return (bytes - 510) / 147.8;
}
