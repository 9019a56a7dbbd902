import type { AnyKernel } from "../kernel.js";
import type { DType, TensorData } from "../shape.js";

export type BackendName = "cuda" | "webgpu" | "cpu" | "reference";
/** A handle on device memory. */
export type Slot = number;

/** A part of a slot, in elements of the slot's type. */
export interface View {
  readonly slot: Slot;
  readonly offset: number;
  readonly size: number;
}

/** How a device keeps commands. */
export interface Graphs {
  /** From here to `end` commands are kept rather than carried out, and nothing can be read. */
  begin(): void;
  /** What was kept. */
  end(): Graph;
  /** Ends without keeping anything. */
  cancel(): void;
}

/** Commands that a device kept, to carry them out as often as wanted. It holds the memory that they allocated. */
export interface Graph {
  /** `changes`: other parameters for some of its kernels, from now on; `run` counts them from 0. */
  replay(changes: readonly ParamChange[]): void;
  dispose(): void;
}
export interface ParamChange {
  readonly run: number;
  readonly kernel: AnyKernel;
  readonly params: Readonly<Record<string, number>>;
}

export interface BackendStats {
  /** Slots allocated and not yet freed. */
  readonly live: number;
  /** Bytes in live slots, now and at most. */
  readonly bytes: number;
  readonly peakBytes: number;
  /** Kernels run and command buffers submitted so far. */
  readonly dispatches: number;
  readonly submits: number;
}

/**
 * A device that owns memory and runs named kernels in order. It knows nothing of gradients or shapes.
 * Operations validate; backends trust. What `open()` returns, and what tensors are created on.
 */
export interface Backend extends Disposable {
  readonly name: BackendName;
  /** The adapter or library behind it, for people. */
  readonly description: string;
  /** Largest buffer one kernel may bind, in bytes; reductions over the batch are split by their op beyond it. */
  readonly maxBindingBytes: number;
  /** Views handed to kernels start at multiples of this many bytes. */
  readonly offsetAlignment: number;
  /**
   * Threads that one stage of a reduction is cut for; 1 where kernels split their work and block long sums themselves, so
   * that the stage need not be cut at all.
   */
  readonly lanes: number;
  readonly stats: BackendStats;
  /** Null where commands can only be carried out one by one. */
  readonly graphs: Graphs | null;
  supports(dtype: DType): boolean;
  /**
   * May products of f32 be rounded to tf32 (10 bits of fraction) on the way in? Default: no. Absent where the device has no
   * such arithmetic.
   */
  allowTf32?(allowed: boolean): void;
  alloc(elements: number, dtype: DType): Slot;
  /** Hands the slot back for reuse; safe at once, as every command runs in submission order. */
  free(slot: Slot): void;
  write(view: View, data: ArrayLike<number>): void;
  read(view: View): Promise<TensorData>;
  /** Copies between slots of one type. Views of different slots only. */
  copy(source: View, target: View): void;
  run(
    kernel: AnyKernel,
    inputs: readonly View[],
    outputs: readonly View[],
    params: Readonly<Record<string, number>>,
  ): void;
  /** Resolves when everything issued so far has run; rejects with DeviceError where it failed. */
  sync(): Promise<void>;
  dispose(): void;
}
