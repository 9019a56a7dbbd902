/** A GPU buffer with a number that names it in cache keys. */
export interface PooledBuffer {
  readonly id: number;
  readonly buffer: GPUBuffer;
  /** Bytes, as allocated. */
  readonly size: number;
}

const STORAGE_COPY = 0x80 | 0x04 | 0x08; // GPUBufferUsage STORAGE | COPY_SRC | COPY_DST
const GRANULE = 256;

/**
 * Free buffers by size. A training step asks for the same sizes in the same order, so after the first step nothing is
 * created and each op gets the buffer it had before: that is what makes bind groups worth caching.
 */
export class BufferPool {
  #free = new Map<number, PooledBuffer[]>();
  #next = 1;

  constructor(
    readonly device: GPUDevice,
    readonly created: (size: number) => void,
  ) {}

  take(bytes: number): PooledBuffer {
    const size = Math.max(GRANULE, Math.ceil(bytes / GRANULE) * GRANULE);
    const reused = this.#free.get(size)?.pop();
    if (reused) return reused;
    this.device.pushErrorScope("out-of-memory");
    const buffer = this.device.createBuffer({ size, usage: STORAGE_COPY });
    this.created(size);
    return { id: this.#next++, buffer, size };
  }

  give(buffer: PooledBuffer): void {
    const list = this.#free.get(buffer.size);
    if (list) list.push(buffer);
    else this.#free.set(buffer.size, [buffer]);
  }
}
