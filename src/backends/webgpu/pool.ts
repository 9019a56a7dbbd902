/** A GPU buffer with a number that names it in cache keys. */
export interface PooledBuffer {
  readonly id: number;
  readonly buffer: GPUBuffer;
  /** Bytes, as allocated. */
  readonly size: number;
}

const STORAGE_COPY = 0x80 | 0x04 | 0x08; // GPUBufferUsage STORAGE | COPY_SRC | COPY_DST
const GRANULE = 256;
/** A free buffer serves for anything of at least this share of it. Found on training steps: 1.30 of what is live at most becomes 1.13. */
const LEAST_SHARE = 0.5;

/** What a buffer of so many bytes takes. */
export const roundedBytes = (bytes: number): number => Math.max(GRANULE, Math.ceil(bytes / GRANULE) * GRANULE);

/**
 * Free buffers. Which one is handed out depends on which are free and never on the order in which they came back: a
 * training step that is repeated finds the same ones free, so each op gets the buffers that it had before, and bind groups
 * are worth caching.
 */
export class BufferPool {
  /** From the smallest to the largest, among equals from the oldest to the newest. */
  readonly #free: PooledBuffer[] = [];
  #next = 1;
  #bytes = 0;

  constructor(
    readonly device: GPUDevice,
    readonly created: (size: number) => void,
  ) {}

  /** Bytes of all buffers that there are, free or not. */
  get bytes(): number {
    return this.#bytes;
  }

  take(bytes: number): PooledBuffer {
    const size = roundedBytes(bytes);
    return this.#takeFree(size, size / LEAST_SHARE) ?? this.create(size);
  }

  /** A free buffer of just so many bytes, where there is one. */
  takeExact(size: number): PooledBuffer | null {
    return this.#takeFree(size, size);
  }

  create(size: number): PooledBuffer {
    this.device.pushErrorScope("out-of-memory");
    const buffer = this.device.createBuffer({ size, usage: STORAGE_COPY });
    this.created(size);
    this.#bytes += size;
    return { id: this.#next++, buffer, size };
  }

  give(buffer: PooledBuffer): void {
    this.#free.splice(this.#placeOf(buffer.size, buffer.id), 0, buffer);
  }

  /** Gives the memory of what is free back to the system, once the commands that were submitted have run. */
  trim(): void {
    for (const { buffer, size } of this.#free) {
      buffer.destroy();
      this.#bytes -= size;
    }
    this.#free.length = 0;
  }

  #takeFree(least: number, most: number): PooledBuffer | null {
    const at = this.#placeOf(least, 0);
    const found = this.#free[at];
    if (!found || found.size > most) return null;
    this.#free.splice(at, 1);
    return found;
  }

  /** Where a buffer stands in the order, or would. */
  #placeOf(size: number, id: number): number {
    let [low, high] = [0, this.#free.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const there = this.#free[middle]!;
      if (there.size < size || (there.size === size && there.id < id)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
