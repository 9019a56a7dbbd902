/**
 * Philox 4x32-10: a random function of a 128-bit counter and a 64-bit key, with no state of its own, so that any block
 * of a stream is made anywhere, on the host or by a kernel, with the same bits.
 * Salmon, Moraes, Dror & Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.
 */
export type Words4 = readonly [number, number, number, number];
export type Words2 = readonly [number, number];

const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57] as const;
const WEYL = [0x9e3779b9, 0xbb67ae85] as const; // fractional parts of the golden ratio and of √3

/** Four random words (unsigned, 32 bits each) for one counter and key, given in words, the lowest first. */
export function philox(counter: Words4, key: Words2): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = highWord(MULTIPLIERS[0], c0);
    const high1 = highWord(MULTIPLIERS[1], c2);
    const low0 = Math.imul(MULTIPLIERS[0], c0);
    const low1 = Math.imul(MULTIPLIERS[1], c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + WEYL[0]) >>> 0;
    k1 = (k1 + WEYL[1]) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The upper 32 bits of a · b, by halves of b: both partial products stay below 2^53, where numbers are exact. */
function highWord(a: number, b: number): number {
  return Math.floor((a * (b >>> 16) + Math.floor((a * (b & 0xffff)) / 65536)) / 65536);
}

/**
 * Fills `words` with blocks `counter`, `counter + 1`, … of the stream of `key` (counter below 2^53). Word 4 i + j of the
 * stream is word j of block i; a last block that is not needed whole is cut off.
 */
export function fillWords(words: Uint32Array, key: Words2, counter: number): void {
  for (let i = 0; i < words.length; i += 4) {
    const block = philox(counterWords(counter + i / 4), key);
    for (let j = 0; j < 4 && i + j < words.length; j++) words[i + j] = block[j]!;
  }
}

/** A block number below 2^53 as a 128-bit counter. */
export const counterWords = (counter: number): Words4 => [counter >>> 0, Math.floor(counter / 2 ** 32), 0, 0];
