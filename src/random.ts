import { ArgumentError } from "./errors.js";
import { fillWords, philox, type Words2 } from "./philox.js";

/** What a generator needs to go on: plain numbers, so JSON keeps it exactly. */
export interface GeneratorState {
  readonly seed: number;
  readonly counter: number;
}

/**
 * A stream of random numbers: Philox 4x32-10 with `seed` as key. Its whole state is the number of blocks (of four 32-bit
 * words) drawn so far. Kernels that need random numbers are given the key and the counter and make the same bits on
 * every device. Each method says how many blocks it draws.
 */
export class Generator {
  #counter: number;

  /**
   * @param seed a whole number in [0, 2^53).
   * @throws ArgumentError where it is not.
   */
  constructor(
    readonly seed: number,
    counter = 0,
  ) {
    for (const [name, value] of Object.entries({ seed, counter })) {
      if (!Number.isSafeInteger(value) || value < 0) {
        throw new ArgumentError("Generator", `${name} must be a whole number in [0, 2^53), not ${value}`);
      }
    }
    this.#counter = counter;
  }

  /** A generator that goes on where `state` was taken. @throws ArgumentError for numbers out of range. */
  static from({ seed, counter }: GeneratorState): Generator {
    return new Generator(seed, counter);
  }

  state(): GeneratorState {
    return { seed: this.seed, counter: this.#counter };
  }

  /** @internal The Philox key, low word first. */
  get key(): Words2 {
    return [this.seed >>> 0, Math.floor(this.seed / 2 ** 32)];
  }

  /** @internal Sets blocks aside for a kernel to make, and returns the number of the first. */
  reserve(blocks: number): number {
    const first = this.#counter;
    this.#counter += blocks;
    return first;
  }

  /** `count` random words in [0, 2^32). Draws ⌈count / 4⌉ blocks. */
  u32(count: number): Uint32Array {
    const words = new Uint32Array(count);
    fillWords(words, this.key, this.reserve(Math.ceil(count / 4)));
    return words;
  }

  /** A multiple of 2^-24 in [0, 1). Draws one block. */
  uniform(): number;
  /** `count` multiples of 2^-24 in [0, 1). Draws ⌈count / 4⌉ blocks. */
  uniform(count: number): Float32Array;
  uniform(count?: number): number | Float32Array {
    if (count === undefined) return this.uniform(1)[0]!;
    const words = this.u32(count);
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = (words[i]! >>> 8) * 2 ** -24;
    return out;
  }

  /**
   * `count` samples of the standard normal distribution, rounded to float32. Draws ⌈count / 4⌉ blocks.
   * Box & Muller 1958: √(-2 ln u) · (cos 2πv, sin 2πv) with u in (0, 1], v in [0, 1).
   */
  normal(count: number): Float32Array {
    const words = this.u32(Math.ceil(count / 2) * 2);
    const out = new Float32Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log((words[i]! + 1) / 2 ** 32));
      const angle = 2 * Math.PI * (words[i + 1]! / 2 ** 32);
      out[i] = radius * Math.cos(angle);
      if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }

  /**
   * A whole number in [0, n). Draws one block; no number is more likely than another by more than n · 2^-53.
   * @throws ArgumentError where n is not a whole number in [1, 2^32].
   */
  integer(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) {
      throw new ArgumentError("Generator.integer", `n must be a whole number in [1, 2^32], not ${n}`);
    }
    const [high, low] = this.u32(2) as unknown as Words2; // both words are there: u32(2) gives two
    return Math.floor(((high * 2 ** 21 + (low >>> 11)) / 2 ** 53) * n);
  }

  /** Puts `array` into a random order, in place, and returns it (Fisher & Yates). Draws one block per element but the last. */
  shuffle<T>(array: T[]): T[] {
    for (let i = array.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [array[i], array[j]] = [array[j]!, array[i]!];
    }
    return array;
  }

  /**
   * An independent generator named `label`. Depends on this one's seed only, not on how much was drawn, and draws
   * nothing: adding a consumer of random numbers does not change what the others see.
   */
  fork(label: string): Generator {
    // A hash of the label keyed by the seed. Counters of the stream itself have 0 in their last word.
    let block = philox([label.length, 0, 0, 1], this.key);
    for (let i = 0; i < label.length; i++) {
      block = philox([(block[0] ^ label.charCodeAt(i)) >>> 0, block[1], block[2], block[3]], this.key);
    }
    return new Generator(block[0] + (block[1] & 0x1fffff) * 2 ** 32);
  }
}
