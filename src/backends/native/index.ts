import { ArgumentError, DeviceError, MissingKernelError } from "../../errors.js";
import { fromBfloatBits, toBfloatBits } from "../../half.js";
import { type AnyKernel, packParams } from "../../kernel.js";
import { bytesPerElement, type DType, type TensorData } from "../../shape.js";
import type { Backend, BackendStats, Graph, Graphs, ParamChange, Slot, View } from "../backend.js";
import { loadAddon, type NativeDevice, type NativeKernel, type NativeOptions } from "./addon.js";

export type { NativeKernel, NativeOptions } from "./addon.js";

/** Element types by the numbers that native/device.h gives them. */
const TYPES: readonly DType[] = ["f32", "i32", "u32", "bf16"];
const MOST_BUFFERS = 16;
const MOST_PARAMS_BYTES = 256;
const MOST_THREADS = 1024;

/** A device of the native addon. Commands are carried out in order by a thread of its own, which JavaScript runs ahead of. */
export class NativeBackend implements Backend {
  readonly description: string;
  readonly maxBindingBytes = Number.MAX_SAFE_INTEGER;
  readonly offsetAlignment = 256; // SIMD needs less; parts of a batch lie as they do on the other devices
  readonly lanes = 1;
  readonly graphs: Graphs | null;
  readonly allowTf32?: (allowed: boolean) => void;
  readonly #device: NativeDevice;
  readonly #types = new Map<Slot, DType>();
  readonly #kernels = new Map<string, number>();
  readonly #views = new Float64Array(3 * MOST_BUFFERS);
  readonly #params = new Uint8Array(MOST_PARAMS_BYTES);
  readonly #paramsView = new DataView(this.#params.buffer);
  #open = true;

  private constructor(
    readonly name: "cpu" | "cuda",
    device: NativeDevice,
  ) {
    this.#device = device;
    this.graphs =
      name === "cpu"
        ? null
        : {
            begin: () => this.#call(() => device.beginCapture()),
            end: () => this.#endCapture(),
            cancel: () => {
              this.#call(() => device.endCapture(false));
            },
          };
    if (name === "cuda") this.allowTf32 = (allowed) => this.#call(() => device.allowTf32(allowed));
    this.description = `${name.toUpperCase()}, ${device.description()}`;
  }

  /** @throws DeviceError where the addon is not built or cannot be loaded; ArgumentError for a wrong number of threads. */
  static open(name: "cpu" | "cuda", options: NativeOptions = {}): NativeBackend {
    const { NativeDevice } = loadAddon(name, options.addon);
    const asked = process.env.LACUNA_THREADS;
    const threads = options.threads ?? (asked ? Number(asked) : undefined);
    if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS)) {
      throw new ArgumentError("open", `threads must be a whole number from 1 to ${MOST_THREADS}, not ${threads}`);
    }
    const guard = options.guard ?? process.env.LACUNA_GUARD === "1";
    const isa = options.isa ?? process.env.LACUNA_ISA;
    const device = native(
      name,
      () => new NativeDevice(name, { ...options, guard, ...(threads && { threads }), ...(isa && { isa }) }),
    );
    return new NativeBackend(name, device);
  }

  get stats(): BackendStats {
    if (!this.#open) return { live: 0, bytes: 0, peakBytes: 0, dispatches: 0, submits: 0 };
    const { live, bytes, peakBytes, dispatches } = this.#device.stats();
    return { live, bytes, peakBytes, dispatches, submits: dispatches };
  }
  /** Bytes taken from the system: in use, or kept for the next allocation. */
  get reservedBytes(): number {
    return this.#open ? this.#device.stats().reserved : 0;
  }
  /** The kernels that were compiled in. */
  get kernels(): readonly NativeKernel[] {
    return this.#device.kernels();
  }

  supports(dtype: DType): boolean {
    return dtype === "bf16" ? this.name === "cuda" : dtype !== "f16";
  }
  alloc(elements: number, dtype: DType): Slot {
    const bytes = elements * bytesPerElement(dtype);
    const slot = this.#call(() => this.#device.alloc(bytes, TYPES.indexOf(dtype)), { bytes });
    this.#types.set(slot, dtype);
    return slot;
  }
  free(slot: Slot): void {
    if (!this.#open) return; // the device was disposed before its tensors
    this.#types.delete(slot);
    this.#call(() => this.#device.free(slot));
  }
  write({ slot, offset }: View, data: ArrayLike<number>): void {
    const type = this.#typeOf(slot);
    this.#call(() => this.#device.write(slot, offset * bytesPerElement(type), asMemory(type, data)));
  }
  async read({ slot, offset, size }: View): Promise<TensorData> {
    const type = this.#typeOf(slot);
    const bytes = bytesPerElement(type);
    return fromMemory(type, await this.#settled(() => this.#device.read(slot, offset * bytes, size * bytes)));
  }
  copy(source: View, target: View): void {
    const bytes = bytesPerElement(this.#typeOf(source.slot));
    const [from, to] = [source.offset * bytes, target.offset * bytes];
    this.#call(() => this.#device.copy(source.slot, from, target.slot, to, source.size * bytes));
  }
  run(
    kernel: AnyKernel,
    inputs: readonly View[],
    outputs: readonly View[],
    params: Readonly<Record<string, number>>,
  ): void {
    const number = this.#numberOf(kernel.name);
    const views = this.#views;
    let at = 0;
    for (const list of [inputs, outputs]) {
      for (const { slot, offset, size } of list) {
        const bytes = bytesPerElement(this.#typeOf(slot));
        views[at] = slot;
        views[at + 1] = offset * bytes;
        views[at + 2] = size * bytes;
        at += 3;
      }
    }
    const bytes = packParams(kernel, params, this.#paramsView, 0);
    this.#call(() => this.#device.run(number, views, at / 3, this.#params, bytes));
  }
  #endCapture(): Graph {
    const graph = this.#call(() => this.#device.endCapture(true));
    return {
      replay: (changes) => this.#replay(graph, changes),
      dispose: () => {
        if (this.#open) this.#call(() => this.#device.freeGraph(graph));
      },
    };
  }
  #replay(graph: number, changes: readonly ParamChange[]): void {
    const patches = new Float64Array(2 * changes.length);
    const params = new DataView(new ArrayBuffer(MOST_PARAMS_BYTES * changes.length));
    let at = 0;
    changes.forEach((change, i) => {
      const end = packParams(change.kernel, change.params, params, at);
      patches.set([change.run, end - at], 2 * i);
      at = end;
    });
    this.#call(() => this.#device.replay(graph, patches, new Uint8Array(params.buffer, 0, at)));
  }
  async sync(): Promise<void> {
    await this.#settled(() => this.#device.sync());
  }
  dispose(): void {
    if (this.#open) this.#device.dispose();
    this.#open = false;
    this.#types.clear();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  #numberOf(name: string): number {
    let number = this.#kernels.get(name);
    if (number === undefined) {
      number = this.#call(() => this.#device.kernel(name));
      if (number < 0) throw new MissingKernelError(name, this.name);
      this.#kernels.set(name, number);
    }
    return number;
  }
  #typeOf(slot: Slot): DType {
    const type = this.#types.get(slot);
    if (type) return type;
    throw new DeviceError(this.name, "disposed", `slot ${slot} is not allocated: was the device disposed?`);
  }
  #call<T>(f: () => T, details: Readonly<Record<string, number>> = {}): T {
    return native(this.name, f, details);
  }
  async #settled<T>(f: () => Promise<T>): Promise<T> {
    try {
      return await f();
    } catch (error) {
      throw deviceError(this.name, error, {});
    }
  }
}

const arrayOf = (dtype: DType) => (dtype === "i32" ? Int32Array : dtype === "u32" ? Uint32Array : Float32Array);

function asMemory(dtype: DType, data: ArrayLike<number>): NodeJS.TypedArray {
  if (dtype === "bf16") return Uint16Array.from(data, toBfloatBits);
  const Memory = arrayOf(dtype);
  return data instanceof Memory ? data : new Memory(data);
}
function fromMemory(dtype: DType, memory: ArrayBuffer): TensorData {
  if (dtype === "bf16") return Float32Array.from(new Uint16Array(memory), fromBfloatBits);
  return new (arrayOf(dtype))(memory);
}

function native<T>(backend: string, f: () => T, details: Readonly<Record<string, number>> = {}): T {
  try {
    return f();
  } catch (error) {
    throw deviceError(backend, error, details);
  }
}

/** The addon's codes (native/device.h) as failures of a device. */
function deviceError(backend: string, error: unknown, details: Readonly<Record<string, number>>): unknown {
  const { code, message } = error as { code?: string; message: string };
  const failure = (
    {
      memory: "out-of-memory",
      disposed: "disposed",
      handle: "disposed",
      unavailable: "unavailable",
      failed: "lost",
      range: "limit",
      argument: "limit",
      kernel: "limit",
    } as const
  )[code ?? ""];
  return failure ? new DeviceError(backend, failure, message, { ...details }, { cause: error }) : error;
}
