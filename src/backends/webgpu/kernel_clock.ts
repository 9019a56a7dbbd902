/** GPU time of a kernel over several runs. */
export interface KernelTime {
  readonly kernel: string;
  readonly runs: number;
  readonly ms: number;
}

const TIMESTAMP_BYTES = 8;
// GPUBufferUsage and GPUMapMode are globals in browsers only.
const MAP_READ = 0x01;
const STAGING = 0x01 | 0x08; // MAP_READ | COPY_DST
const RESOLVED = 0x04 | 0x200; // COPY_SRC | QUERY_RESOLVE

/** Adds up the GPU time of kernels, each of which must have a pass of its own. The device must have "timestamp-query". */
export class KernelClock {
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  /** Kernels of the submission that is being gathered. */
  #kernels: string[] = [];
  #pending: Promise<void>[] = [];
  #times = new Map<string, { runs: number; ms: number }>();

  /** @param most kernels in one submission */
  constructor(
    readonly device: GPUDevice,
    most: number,
  ) {
    this.#queries = device.createQuerySet({ type: "timestamp", count: 2 * most });
    this.#resolved = device.createBuffer({ size: 2 * TIMESTAMP_BYTES * most, usage: RESOLVED });
  }

  /** For the descriptor of the kernel's pass. */
  next(kernel: string): GPUComputePassTimestampWrites {
    const at = 2 * this.#kernels.push(kernel) - 2;
    return { querySet: this.#queries, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  /** Call with the encoder before it is finished, and the result when it was submitted. */
  resolve(encoder: GPUCommandEncoder): () => void {
    const kernels = this.#kernels;
    this.#kernels = [];
    if (kernels.length === 0) return () => {};
    const size = 2 * TIMESTAMP_BYTES * kernels.length;
    const staging = this.device.createBuffer({ label: "timestamps", size, usage: STAGING });
    encoder.resolveQuerySet(this.#queries, 0, 2 * kernels.length, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, staging, 0, size);
    return () => this.#pending.push(this.#collect(staging, kernels));
  }

  /** Times since the last call, longest first. Everything must have been submitted. */
  async take(): Promise<KernelTime[]> {
    const pending = this.#pending;
    this.#pending = [];
    await Promise.all(pending);
    const times = [...this.#times].map(([kernel, { runs, ms }]) => ({ kernel, runs, ms }));
    this.#times.clear();
    return times.sort((a, b) => b.ms - a.ms);
  }

  async #collect(staging: GPUBuffer, kernels: readonly string[]): Promise<void> {
    try {
      await staging.mapAsync(MAP_READ);
    } catch {
      return; // the device is lost, and says so itself
    }
    const nanoseconds = new BigUint64Array(staging.getMappedRange());
    kernels.forEach((kernel, i) => {
      const [begin, end] = [nanoseconds[2 * i]!, nanoseconds[2 * i + 1]!];
      const before = this.#times.get(kernel) ?? { runs: 0, ms: 0 };
      // Clocks of some GPUs step back: the specification allows it.
      const ms = end > begin ? Number(end - begin) / 1e6 : 0;
      this.#times.set(kernel, { runs: before.runs + 1, ms: before.ms + ms });
    });
    staging.destroy();
  }
}
