import { DeviceError } from "../../errors.js";
import { fromHalfBits, toHalfBits } from "../../half.js";
import { type AnyKernel, MAX_GROUPS } from "../../kernel.js";
import { bytesPerElement, type DType, type TensorData } from "../../shape.js";
import type { Backend, BackendStats, Graph, Graphs, Slot, View } from "../backend.js";
import { describeAdapter, findGPU, isSoftware, releaseGPU } from "./adapter.js";
import { BindGroups } from "./bind_groups.js";
import { KernelClock, type KernelTime } from "./kernel_clock.js";
import { Memory, offsetOf, sizeOfView, wholeWords } from "./memory.js";
import { Pipelines, shaderFor } from "./pipelines.js";
import { BufferPool, roundedBytes } from "./pool.js";
import { Recorder } from "./replay.js";
import { CommandStream, MOST_DISPATCHES } from "./stream.js";
import { findStore } from "./tune_store.js";
import { type TuneMode, Tuner, type TunerHost, tuneFromEnvironment } from "./tuner.js";
import type { Traits, Variant } from "./variants.js";

export type { KernelTime } from "./kernel_clock.js";

// GPUBufferUsage and GPUMapMode are globals in browsers only.
const MAP_READ = 0x01;
const COPY_DST = 0x08;

const NO_PART: Readonly<Record<string, number>> = {};

export interface WebGPUOptions {
  /** Refuses adapters that are a CPU in disguise. Default false. */
  readonly hardware?: boolean;
  /** Options of Dawn (`backend=null`, `adapter=…`); Node only. */
  readonly dawn?: readonly string[];
  /** Pretend that the device binds no more than this: for testing the split over the batch. */
  readonly maxBindingBytes?: number;
  /**
   * Whether to measure which variant of a kernel is the fastest for each shape, and to keep what was found. Default: the
   * environment variable `LACUNA_TUNE`, else "on" for GPUs and "off" for software adapters.
   */
  readonly tune?: TuneMode;
  /** Take the variants of this name wherever they fit ("plain": none), and measure nothing: for tests and comparisons. */
  readonly variant?: string;
  /** Measure the GPU time of each kernel (`kernelTimes`), in a pass of its own, which costs time. Default false. */
  readonly timestamps?: boolean;
}

/** Commands gather in one encoder and go out together when data is read or written, or when enough have gathered. */
export class WebGPUBackend implements Backend {
  readonly name = "webgpu";
  readonly description: string;
  /** A CPU in disguise. */
  readonly software: boolean;
  /** What decides which variants of a kernel it takes. */
  readonly traits: Traits;
  readonly offsetAlignment = 256; // the specification's own upper bound, whatever the adapter says
  readonly lanes: number;
  readonly graphs: Graphs = {
    begin: () => this.#beginCapture(),
    end: () => this.#endCapture(),
    cancel: () => this.#cancelCapture(),
  };
  readonly maxBindingBytes: number;
  readonly #maxBufferBytes: number;
  readonly #slots = new Map<Slot, Memory>();
  #next: Slot = 1;
  readonly #pool: BufferPool;
  readonly #stream: CommandStream;
  readonly #pipelines: Pipelines;
  readonly #bindGroups: BindGroups;
  readonly #tuner: Tuner;
  /** While a step is captured. */
  #recorder: Recorder | null = null;
  #failure: DeviceError | null = null;
  /** An error outside every scope: a consequence of one inside, or a mistake of ours. */
  #uncaptured: DeviceError | null = null;
  #checks: Promise<void>[] = [];
  #disposed = false;
  #stats = { bytes: 0, peakBytes: 0 };

  private constructor(
    readonly gpu: GPU,
    readonly adapter: GPUAdapter,
    readonly device: GPUDevice,
    options: WebGPUOptions,
  ) {
    this.description = describeAdapter(adapter);
    this.software = isSoftware(adapter);
    // Fills the largest of today's GPUs with threads that each have some work left, or a CPU of many cores.
    this.lanes = this.software ? 4096 : 65536;
    const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
    this.traits = {
      software: this.software,
      subgroupLanes: device.features.has("subgroups") ? (adapter.info.subgroupMinSize ?? 0) : 0,
    };
    this.maxBindingBytes = Math.min(options.maxBindingBytes ?? Number.POSITIVE_INFINITY, maxStorageBufferBindingSize);
    this.#maxBufferBytes = maxBufferSize;
    const timed = options.timestamps && device.features.has("timestamp-query");
    this.#stream = new CommandStream(device, timed ? new KernelClock(device, MOST_DISPATCHES) : null);
    this.#pipelines = new Pipelines(device, (scope, describe) => this.#check(scope, describe));
    this.#bindGroups = new BindGroups(device, this.#stream.params);
    this.#pool = new BufferPool(device, (size) => {
      const live = this.#stats.bytes;
      this.#check(device.popErrorScope(), () => {
        return new DeviceError("webgpu", "out-of-memory", "the device has no memory left", { asked: size, live });
      });
    });
    this.#tuner = this.#makeTuner(options);
    device.lost.then(({ reason, message }) => {
      if (!this.#disposed) this.#fail(new DeviceError("webgpu", "lost", `the device was lost (${reason}): ${message}`));
    });
    device.addEventListener("uncapturederror", (event) => {
      this.#uncaptured ??= new DeviceError("webgpu", "shader", (event as GPUUncapturedErrorEvent).error.message);
    });
  }

  /** @throws DeviceError where there is no adapter, or it gives no device; ArgumentError for a wrong `LACUNA_TUNE`. */
  static async open(options: WebGPUOptions = {}): Promise<WebGPUBackend> {
    const tune = options.tune ?? tuneFromEnvironment();
    const gpu = await findGPU(options.dawn);
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) {
      releaseGPU(gpu);
      throw new DeviceError("webgpu", "unavailable", "no adapter: no GPU driver that Dawn accepts was found");
    }
    if (options.hardware && isSoftware(adapter)) {
      releaseGPU(gpu);
      throw new DeviceError("webgpu", "unavailable", `${describeAdapter(adapter)} is no GPU, but software`);
    }
    const wanted: GPUFeatureName[] = ["shader-f16", "subgroups", "timestamp-query"];
    const limits = adapter.limits;
    try {
      const device = await adapter.requestDevice({
        requiredFeatures: wanted.filter((name) => adapter.features.has(name)),
        requiredLimits: {
          maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
          maxBufferSize: limits.maxBufferSize,
          maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
          maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
          maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
        },
      });
      return new WebGPUBackend(gpu, adapter, device, tune ? { ...options, tune } : options);
    } catch (cause) {
      releaseGPU(gpu);
      throw new DeviceError("webgpu", "unavailable", `${describeAdapter(adapter)} gives no device`, {}, { cause });
    }
  }

  get stats(): BackendStats {
    const { dispatches, submits } = this.#stream;
    return { live: this.#slots.size, ...this.#stats, dispatches, submits };
  }
  /** Bytes taken from the device: in use, held by graphs, or kept for the next allocation. */
  get reservedBytes(): number {
    return this.#pool.bytes;
  }

  supports(dtype: DType): boolean {
    return dtype !== "f16" || this.device.features.has("shader-f16");
  }

  alloc(elements: number, dtype: DType): Slot {
    this.#alive();
    const bytes = elements * bytesPerElement(dtype);
    if (bytes > this.#maxBufferBytes) {
      throw new DeviceError("webgpu", "limit", "one tensor exceeds the largest buffer of this device", {
        asked: bytes,
        limit: this.#maxBufferBytes,
      });
    }
    const memory = this.#recorder
      ? this.#recorder.alloc(bytes, dtype)
      : new Memory(dtype, roundedBytes(bytes), this.#pool).place(this.#pool.take(bytes));
    this.#slots.set(this.#next, memory);
    this.#stats.bytes += memory.bytes;
    this.#stats.peakBytes = Math.max(this.#stats.peakBytes, this.#stats.bytes);
    return this.#next++;
  }

  free(slot: Slot): void {
    const memory = this.#slots.get(slot);
    if (!memory) return; // the device was disposed before its tensors
    this.#slots.delete(slot);
    this.#stats.bytes -= memory.bytes;
    if (this.#recorder) this.#recorder.free(memory);
    else memory.release();
  }

  write(view: View, data: ArrayLike<number>): void {
    this.#alive();
    if (view.size === 0) return;
    const memory = this.#memory(view.slot);
    const bytes = encode(data, memory.dtype);
    if (this.#recorder) {
      this.#recorder.write(memory, offsetOf(view, memory), bytes);
      return;
    }
    this.flush(); // a recycled buffer may still be read by commands that are not submitted yet
    this.device.queue.writeBuffer(memory.held.buffer, offsetOf(view, memory), bytes);
  }

  async read(view: View): Promise<TensorData> {
    this.#alive();
    this.#refuseInCapture("reading");
    const memory = this.#memory(view.slot);
    const { dtype } = memory;
    if (view.size === 0) return decode(new ArrayBuffer(0), dtype, 0);
    const size = wholeWords(sizeOfView(view, memory));
    const staging = this.device.createBuffer({ label: "staging", size, usage: MAP_READ | COPY_DST });
    this.#stream.commands().copyBufferToBuffer(memory.held.buffer, offsetOf(view, memory), staging, 0, size);
    this.flush();
    try {
      await staging.mapAsync(MAP_READ);
    } catch (cause) {
      await this.#settle();
      throw this.#failure ?? new DeviceError("webgpu", "lost", "the device gave no data back", {}, { cause });
    }
    await this.#settle();
    if (this.#failure) throw this.#failure;
    const out = decode(staging.getMappedRange(), dtype, view.size);
    staging.destroy();
    await this.#tuner.measure();
    return out;
  }

  copy(source: View, target: View): void {
    this.#alive();
    if (source.size === 0) return;
    const [from, to] = [this.#memory(source.slot), this.#memory(target.slot)];
    const bytes = wholeWords(sizeOfView(source, from));
    const [start, end] = [offsetOf(source, from), offsetOf(target, to)];
    if (this.#recorder) this.#recorder.copy(from, start, to, end, bytes);
    else this.#stream.commands().copyBufferToBuffer(from.held.buffer, start, to.held.buffer, end, bytes);
  }

  run(
    kernel: AnyKernel,
    inputs: readonly View[],
    outputs: readonly View[],
    params: Readonly<Record<string, number>>,
  ): void {
    this.#alive();
    const views = [...inputs, ...outputs];
    const memories = views.map((v) => this.#memory(v.slot));
    const fits = views.every((v, i) => sizeOfView(v, memories[i]!) <= this.maxBindingBytes);
    this.#recorder?.nextRun();
    if (fits) this.#dispatch(kernel, views, memories, params, NO_PART);
    else this.#dispatchInParts(kernel, views, memories, params);
  }

  /** Splits a kernel over its independent items, so that each part binds no more than the device allows. */
  #dispatchInParts(
    kernel: AnyKernel,
    views: readonly View[],
    memories: readonly Memory[],
    params: Readonly<Record<string, number>>,
  ): void {
    const names: readonly string[] = [...kernel.inputs, ...kernel.outputs];
    const split = names.map((name) => kernel.batch?.buffers.includes(name) ?? false);
    const items = kernel.batch ? params[kernel.batch.count]! : 1;
    const itemBytes = views.map((v, i) => (v.size / items) * bytesPerElement(memories[i]!.dtype));
    let count = items;
    views.forEach((v, i) => {
      const bytes = sizeOfView(v, memories[i]!);
      if (split[i]) count = Math.min(count, Math.floor(this.maxBindingBytes / itemBytes[i]!));
      else if (bytes > this.maxBindingBytes) count = 0;
    });
    const aligned = (n: number) => itemBytes.every((bytes, i) => !split[i] || (bytes * n) % this.offsetAlignment === 0);
    while (count > 0 && !aligned(count)) count--;
    if (count === 0) {
      throw new DeviceError("webgpu", "limit", `${kernel.name} binds more than this device allows at once`, {
        largest: Math.max(...views.map((v, i) => sizeOfView(v, memories[i]!))),
        limit: this.maxBindingBytes,
      });
    }
    for (let start = 0; start < items; start += count) {
      const n = Math.min(count, items - start);
      const parts = views.map((v, i) =>
        split[i] ? { ...v, offset: v.offset + (v.size / items) * start, size: (v.size / items) * n } : v,
      );
      this.#dispatch(kernel, parts, memories, params, { [kernel.batch!.count]: n });
    }
  }

  /** @param part what this part has instead of `params`, where the kernel is dispatched in parts */
  #dispatch(
    kernel: AnyKernel,
    views: readonly View[],
    memories: readonly Memory[],
    params: Readonly<Record<string, number>>,
    part: Readonly<Record<string, number>>,
  ): void {
    const all = part === NO_PART ? params : { ...params, ...part };
    const half = memories.some((m) => m.dtype === "f16");
    const variant = this.#tuner.choose(kernel, all, half, () => views.map((v, i) => sizeOfView(v, memories[i]!)));
    const grid = variant ?? kernel;
    const groups = grid.groups(all);
    if (groups.some((n) => n > MAX_GROUPS)) {
      throw new DeviceError("webgpu", "limit", `${kernel.name} asks for ${groups.join(" x ")} workgroups`, {
        limit: MAX_GROUPS,
      });
    }
    const pipeline = this.#pipelines.of(kernel, half, variant, all);
    if (this.#recorder) {
      this.#recorder.dispatch({ kernel, grid, pipeline, views, memories, params, part });
      return;
    }
    const group = this.#bindGroups.of(pipeline.layout, views, memories);
    this.#stream.dispatch(kernel, pipeline.pipeline, group, all, groups);
  }

  #beginCapture(): void {
    this.#alive();
    this.#refuseInCapture("a capture");
    this.flush();
    this.#recorder = new Recorder(this.device, this.#pool, this.#stream);
  }

  #endCapture(): Graph {
    const recorder = this.#recorder;
    if (!recorder) throw new DeviceError("webgpu", "limit", "no capture is under way");
    this.#recorder = null;
    this.#alive();
    const graph = recorder.end();
    this.#bindGroups.clear(); // of buffers that are gone
    return {
      replay: (changes) => {
        this.#alive();
        this.#refuseInCapture("replaying");
        graph.replay(changes);
      },
      dispose: () => {
        if (!this.#disposed) graph.dispose();
      },
    };
  }

  /** Tensors that were made in the capture have no memory then, and never will. */
  #cancelCapture(): void {
    const recorder = this.#recorder;
    this.#recorder = null;
    if (!recorder) return;
    for (const [slot, memory] of this.#slots) if (recorder.owns(memory)) this.free(slot);
    recorder.cancel();
  }

  #refuseInCapture(what: string): void {
    if (!this.#recorder) return;
    throw new DeviceError("webgpu", "limit", `${what} is not possible while commands are captured`);
  }

  /**
   * Compiles a kernel, or a variant of it, ahead of its first use, against the layout that its contract gives.
   * @throws DeviceError with Dawn's message where the shader is wrong or disagrees with the contract.
   */
  async compile(kernel: AnyKernel, half = false, variant: Variant | null = null): Promise<void> {
    this.#pipelines.withDefaults(kernel, half, variant);
    await this.#settle();
    const failure = this.#failure;
    this.#failure = null;
    if (failure) throw failure;
  }

  /** Submits what has gathered. */
  flush(): void {
    this.#stream.flush();
  }

  async sync(): Promise<void> {
    this.#alive();
    this.#refuseInCapture("waiting");
    this.flush();
    await this.device.queue.onSubmittedWorkDone();
    await this.#settle();
    if (this.#failure) throw this.#failure;
    await this.#tuner.measure();
  }

  /**
   * GPU time of each kernel since the last call, longest first; null where the device was not opened with `timestamps`, or
   * its adapter has none.
   * @throws DeviceError as `sync`.
   */
  async kernelTimes(): Promise<KernelTime[] | null> {
    await this.sync();
    return this.#stream.clock?.take() ?? null;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#recorder = null;
    this.#stream.drop();
    this.#slots.clear();
    this.#bindGroups.clear();
    this.device.destroy();
    releaseGPU(this.gpu);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  #makeTuner(options: WebGPUOptions): Tuner {
    const { device, traits, description } = this;
    const mode = options.tune ?? (traits.software ? "off" : "on");
    const host: TunerHost = {
      device,
      traits,
      adapter: description,
      layoutOf: (kernel) => this.#pipelines.layoutOf(kernel).group,
      pipelineOf: (kernel, half, variant, params) => this.#pipelines.of(kernel, half, variant, params).pipeline,
      shaderCode: (kernel, variant) => shaderFor(kernel, variant).code,
    };
    return new Tuner(host, mode, mode === "off" ? null : findStore(), options.variant);
  }

  #memory(slot: Slot): Memory {
    const memory = this.#slots.get(slot);
    if (!memory)
      throw new DeviceError(this.name, "disposed", `slot ${slot} is not allocated: was the device disposed?`);
    return memory;
  }

  #alive(): void {
    if (this.#disposed) throw new DeviceError("webgpu", "disposed", "the device was disposed");
    if (this.#failure) throw this.#failure;
  }

  #fail(error: DeviceError): void {
    this.#failure ??= error; // the first failure is the cause, what follows its consequences
  }

  /** Remembers an error scope that is still open; `#settle` waits for its answer. */
  #check(scope: Promise<GPUError | null>, describe: (error: GPUError) => DeviceError): void {
    this.#checks.push(
      scope.then(
        (error) => {
          if (error) this.#fail(describe(error));
        },
        () => {}, // the device is lost, and says so itself
      ),
    );
  }

  async #settle(): Promise<void> {
    const checks = this.#checks;
    this.#checks = [];
    await Promise.all(checks);
    if (this.#uncaptured) this.#fail(this.#uncaptured);
  }
}

function encode(data: ArrayLike<number>, dtype: DType): Uint8Array<ArrayBuffer> {
  if (dtype === "f16") {
    const bits = new Uint16Array(Math.ceil(data.length / 2) * 2); // writes are multiples of four bytes
    for (let i = 0; i < data.length; i++) bits[i] = toHalfBits(data[i]!);
    return new Uint8Array(bits.buffer);
  }
  const kind = dtype === "f32" ? Float32Array : dtype === "i32" ? Int32Array : Uint32Array;
  const values = data instanceof kind && data.buffer instanceof ArrayBuffer ? data : kind.from(data);
  return new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength); // looked at above
}

/** Copies out of a mapped range, which goes away. */
function decode(bytes: ArrayBuffer, dtype: DType, size: number): TensorData {
  if (dtype === "f16") return Float32Array.from(new Uint16Array(bytes).subarray(0, size), fromHalfBits);
  const kind = dtype === "f32" ? Float32Array : dtype === "i32" ? Int32Array : Uint32Array;
  return new kind(bytes).slice(0, size);
}
