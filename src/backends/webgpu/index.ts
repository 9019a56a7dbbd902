import { DeviceError, MissingKernelError } from "../../errors.js";
import { fromHalfBits, toHalfBits } from "../../half.js";
import { type AnyKernel, MAX_GROUPS, packParams } from "../../kernel.js";
import { bytesPerElement, type DType, type TensorData } from "../../shape.js";
import type { Backend, BackendStats, Slot, View } from "../backend.js";
import { describeAdapter, findGPU, isSoftware, releaseGPU } from "./adapter.js";
import { KernelClock, type KernelTime } from "./kernel_clock.js";
import { BufferPool, type PooledBuffer } from "./pool.js";
import { type ShaderFile, shaderFiles, shaderOf } from "./shaders.gen.js";
import { findStore } from "./tune_store.js";
import { type TuneMode, Tuner, type TunerHost, tuneFromEnvironment } from "./tuner.js";
import type { Traits, Variant } from "./variants.js";

export type { KernelTime } from "./kernel_clock.js";

// GPUBufferUsage, GPUMapMode and GPUShaderStage are globals in browsers only.
const MAP_READ = 0x01;
const COPY_DST = 0x08;
const UNIFORM = 0x40;
const COMPUTE = 0x4;

/** Parameters of the commands of one submission, at the spacing that dynamic uniform offsets need. */
const PARAMS_STRIDE = 256;
const PARAMS_SLOTS = 512;
/** Bind groups pin nothing that the pool does not hold anyway, but their number must not grow for ever. */
const MAX_BIND_GROUPS = 32768;

interface Memory {
  readonly held: PooledBuffer;
  readonly dtype: DType;
  readonly bytes: number;
}
interface Layout {
  readonly key: string;
  readonly group: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
}

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
  readonly graphs = null;
  readonly maxBindingBytes: number;
  readonly #maxBufferBytes: number;
  #slots = new Map<Slot, Memory>();
  #next: Slot = 1;
  #pool: BufferPool;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #params: GPUBuffer;
  #paramBytes = new DataView(new ArrayBuffer(PARAMS_STRIDE * PARAMS_SLOTS));
  #paramSlots = 0;
  #layouts = new Map<string, Layout>();
  #modules = new Map<string, GPUShaderModule>();
  #pipelines = new Map<string, GPUComputePipeline>();
  #bindGroups = new Map<string, GPUBindGroup>();
  readonly #clock: KernelClock | null;
  readonly #tuner: Tuner;
  #failure: DeviceError | null = null;
  /** An error outside every scope: a consequence of one inside, or a mistake of ours. */
  #uncaptured: DeviceError | null = null;
  #checks: Promise<void>[] = [];
  #disposed = false;
  #stats = { bytes: 0, peakBytes: 0, dispatches: 0, submits: 0 };

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
    const { maxStorageBufferBindingSize, maxBufferSize, maxComputeWorkgroupStorageSize } = device.limits;
    this.traits = {
      software: this.software,
      subgroups: device.features.has("subgroups"),
      subgroupLanes: device.features.has("subgroups") ? (adapter.info.subgroupMinSize ?? 0) : 0,
      f16: device.features.has("shader-f16"),
      workgroupBytes: maxComputeWorkgroupStorageSize,
    };
    this.maxBindingBytes = Math.min(options.maxBindingBytes ?? Number.POSITIVE_INFINITY, maxStorageBufferBindingSize);
    this.#maxBufferBytes = maxBufferSize;
    this.#params = device.createBuffer({
      label: "params",
      size: PARAMS_STRIDE * PARAMS_SLOTS,
      usage: UNIFORM | COPY_DST,
    });
    const timed = options.timestamps && device.features.has("timestamp-query");
    this.#clock = timed ? new KernelClock(device, PARAMS_SLOTS) : null;
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
    return { live: this.#slots.size, ...this.#stats };
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
    const held = this.#pool.take(bytes);
    this.#slots.set(this.#next, { held, dtype, bytes: held.size });
    this.#stats.bytes += held.size;
    this.#stats.peakBytes = Math.max(this.#stats.peakBytes, this.#stats.bytes);
    return this.#next++;
  }

  free(slot: Slot): void {
    const memory = this.#slots.get(slot);
    if (!memory) return; // the device was disposed before its tensors
    this.#slots.delete(slot);
    this.#stats.bytes -= memory.bytes;
    this.#pool.give(memory.held);
  }

  write(view: View, data: ArrayLike<number>): void {
    this.#alive();
    if (view.size === 0) return;
    this.flush(); // a recycled buffer may still be read by commands that are not submitted yet
    const { held, dtype } = this.#memory(view.slot);
    const bytes = encode(data, dtype);
    this.device.queue.writeBuffer(held.buffer, view.offset * bytesPerElement(dtype), bytes);
  }

  async read(view: View): Promise<TensorData> {
    this.#alive();
    const { held, dtype } = this.#memory(view.slot);
    const bytes = view.size * bytesPerElement(dtype);
    if (bytes === 0) return decode(new ArrayBuffer(0), dtype, 0);
    const size = Math.ceil(bytes / 4) * 4;
    const staging = this.device.createBuffer({ label: "staging", size, usage: MAP_READ | COPY_DST });
    const encoder = this.#commands();
    encoder.copyBufferToBuffer(held.buffer, view.offset * bytesPerElement(dtype), staging, 0, size);
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
    const width = bytesPerElement(from.dtype);
    const bytes = Math.ceil((source.size * width) / 4) * 4;
    this.#commands().copyBufferToBuffer(
      from.held.buffer,
      source.offset * width,
      to.held.buffer,
      target.offset * width,
      bytes,
    );
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
    const fits = views.every((v, i) => v.size * bytesPerElement(memories[i]!.dtype) <= this.maxBindingBytes);
    if (fits) this.#dispatch(kernel, views, memories, params);
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
      const bytes = v.size * bytesPerElement(memories[i]!.dtype);
      if (split[i]) count = Math.min(count, Math.floor(this.maxBindingBytes / itemBytes[i]!));
      else if (bytes > this.maxBindingBytes) count = 0;
    });
    const aligned = (n: number) => itemBytes.every((bytes, i) => !split[i] || (bytes * n) % this.offsetAlignment === 0);
    while (count > 0 && !aligned(count)) count--;
    if (count === 0) {
      throw new DeviceError("webgpu", "limit", `${kernel.name} binds more than this device allows at once`, {
        largest: Math.max(...views.map((v, i) => v.size * bytesPerElement(memories[i]!.dtype))),
        limit: this.maxBindingBytes,
      });
    }
    for (let start = 0; start < items; start += count) {
      const n = Math.min(count, items - start);
      const parts = views.map((v, i) =>
        split[i] ? { ...v, offset: v.offset + (v.size / items) * start, size: (v.size / items) * n } : v,
      );
      this.#dispatch(kernel, parts, memories, { ...params, [kernel.batch!.count]: n });
    }
  }

  #dispatch(
    kernel: AnyKernel,
    views: readonly View[],
    memories: readonly Memory[],
    params: Readonly<Record<string, number>>,
  ): void {
    if (this.#paramSlots === PARAMS_SLOTS) this.flush();
    const half = memories.some((m) => m.dtype === "f16");
    const variant = this.#tuner.choose(kernel, params, half, () =>
      views.map((v, i) => v.size * bytesPerElement(memories[i]!.dtype)),
    );
    const groups = (variant ?? kernel).groups(params);
    if (groups.some((n) => n > MAX_GROUPS)) {
      throw new DeviceError("webgpu", "limit", `${kernel.name} asks for ${groups.join(" x ")} workgroups`, {
        limit: MAX_GROUPS,
      });
    }
    const layout = this.#layout(kernel);
    const pipeline = this.#pipeline(kernel, layout, half, variant, variant?.constants?.(params) ?? {});
    const at = PARAMS_STRIDE * this.#paramSlots++;
    packParams(kernel, params, this.#paramBytes, at);
    if (this.#clock) {
      this.#pass = this.#commands().beginComputePass({ timestampWrites: this.#clock.next(kernel.name) });
    }
    this.#pass ??= this.#commands().beginComputePass();
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, this.#bindGroup(layout, views, memories), [at]);
    this.#pass.dispatchWorkgroups(...groups);
    this.#stats.dispatches++;
  }

  /**
   * Compiles a kernel, or a variant of it, ahead of its first use, against the layout that its contract gives.
   * @throws DeviceError with Dawn's message where the shader is wrong or disagrees with the contract.
   */
  async compile(kernel: AnyKernel, half = false, variant: Variant | null = null): Promise<void> {
    this.#pipeline(kernel, this.#layout(kernel), half, variant, {}); // overrides at their defaults
    await this.#settle();
    const failure = this.#failure;
    this.#failure = null;
    if (failure) throw failure;
  }

  /** Submits what has gathered. */
  flush(): void {
    if (!this.#encoder) return;
    this.#pass?.end();
    if (this.#paramSlots > 0) {
      // Queue order: these bytes arrive after every earlier submission and before this one.
      this.device.queue.writeBuffer(this.#params, 0, this.#paramBytes.buffer, 0, this.#paramSlots * PARAMS_STRIDE);
    }
    const submitted = this.#clock?.resolve(this.#encoder);
    this.device.queue.submit([this.#encoder.finish()]);
    submitted?.();
    this.#stats.submits++;
    this.#encoder = null;
    this.#pass = null;
    this.#paramSlots = 0;
  }

  async sync(): Promise<void> {
    this.#alive();
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
    return this.#clock ? this.#clock.take() : null;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#encoder = null;
    this.#pass = null;
    this.#slots.clear();
    this.#bindGroups.clear();
    this.device.destroy();
    releaseGPU(this.gpu);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The encoder that commands gather in, outside any compute pass. */
  #commands(): GPUCommandEncoder {
    this.#pass?.end();
    this.#pass = null;
    this.#encoder ??= this.device.createCommandEncoder();
    return this.#encoder;
  }

  #layout(kernel: AnyKernel): Layout {
    const [reads, writes, words] = [kernel.inputs.length, kernel.outputs.length, Object.keys(kernel.params).length];
    const key = `${reads} ${writes} ${words}`;
    let layout = this.#layouts.get(key);
    if (!layout) {
      // Built from the contract, so a shader that disagrees with it fails when its pipeline is made.
      const types: GPUBufferBindingType[] = [
        ...new Array(reads).fill("read-only-storage"),
        ...new Array(writes).fill("storage"),
      ];
      const entries: GPUBindGroupLayoutEntry[] = types.map((type, binding) => ({
        binding,
        visibility: COMPUTE,
        buffer: { type },
      }));
      entries.push({
        binding: types.length,
        visibility: COMPUTE,
        buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: words * 4 },
      });
      const group = this.device.createBindGroupLayout({ label: key, entries });
      layout = { key, group, pipeline: this.device.createPipelineLayout({ bindGroupLayouts: [group] }) };
      this.#layouts.set(key, layout);
    }
    return layout;
  }

  #pipeline(
    kernel: AnyKernel,
    layout: Layout,
    half: boolean,
    variant: Variant | null,
    constants: Readonly<Record<string, number>>,
  ): GPUComputePipeline {
    let key = shaderName(kernel, variant);
    if (half) key += " f16";
    for (const name in constants) key += ` ${name}=${constants[name]}`;
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      const { file, code } = this.#shader(kernel, variant);
      const moduleKey = half ? `${file} f16` : file;
      this.device.pushErrorScope("validation");
      let module = this.#modules.get(moduleKey);
      if (!module) {
        module = this.device.createShaderModule({ label: file, code: half ? inHalfPrecision(code) : code });
        this.#modules.set(moduleKey, module);
      }
      const entryPoint = kernel.name.slice(kernel.name.indexOf(".") + 1);
      pipeline = this.device.createComputePipeline({
        label: key,
        layout: layout.pipeline,
        compute: { module, entryPoint, constants },
      });
      this.#pipelines.set(key, pipeline);
      this.#check(this.device.popErrorScope(), (error) => {
        return new DeviceError("webgpu", "shader", `${key} does not compile: ${error.message}`, {
          kernel: kernel.name,
          file,
        });
      });
    }
    return pipeline;
  }

  #shader(kernel: AnyKernel, variant: Variant | null): ShaderFile {
    const name = shaderName(kernel, variant);
    const index = shaderOf[name];
    if (index === undefined) throw new MissingKernelError(name, this.name);
    return shaderFiles[index]!;
  }

  #makeTuner(options: WebGPUOptions): Tuner {
    const { device, adapter, traits } = this;
    const mode = options.tune ?? (traits.software ? "off" : "on");
    const host: TunerHost = {
      device,
      traits,
      adapter: `${this.description}; ${adapter.info.description}`,
      layoutOf: (kernel) => this.#layout(kernel).group,
      pipelineOf: (kernel, half, variant, params) =>
        this.#pipeline(kernel, this.#layout(kernel), half, variant, variant?.constants?.(params) ?? {}),
      shaderCode: (kernel, variant) => this.#shader(kernel, variant).code,
    };
    return new Tuner(host, mode, mode === "off" ? null : findStore(), options.variant);
  }

  #bindGroup(layout: Layout, views: readonly View[], memories: readonly Memory[]): GPUBindGroup {
    let key = layout.key;
    for (let i = 0; i < views.length; i++)
      key += `|${memories[i]!.held.id}:${views[i]!.offset}:${views[i]!.size}:${memories[i]!.dtype}`;
    let group = this.#bindGroups.get(key);
    if (!group) {
      const entries: GPUBindGroupEntry[] = views.map((view, binding) => {
        const { held, dtype } = memories[binding]!;
        const width = bytesPerElement(dtype);
        const size = Math.max(4, Math.ceil((view.size * width) / 4) * 4);
        return { binding, resource: { buffer: held.buffer, offset: view.offset * width, size } };
      });
      entries.push({ binding: views.length, resource: { buffer: this.#params, size: PARAMS_STRIDE } });
      group = this.device.createBindGroup({ layout: layout.group, entries });
      if (this.#bindGroups.size >= MAX_BIND_GROUPS) this.#bindGroups.clear();
      this.#bindGroups.set(key, group);
    }
    return group;
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

/** The name of its entry in `shaderOf`. */
const shaderName = (kernel: AnyKernel, variant: Variant | null): string =>
  variant ? `${kernel.name}.${variant.name}` : kernel.name;

/** The same file with `T` as f16. On one line, so that line numbers in messages stay true. */
export function inHalfPrecision(code: string): string {
  return `enable f16; ${code.replace(/^alias T = f32;/m, "alias T = f16;")}`;
}

function encode(data: ArrayLike<number>, dtype: DType): ArrayBuffer | ArrayBufferView<ArrayBuffer> {
  if (dtype === "f16") {
    const bits = new Uint16Array(Math.ceil(data.length / 2) * 2); // writes are multiples of four bytes
    for (let i = 0; i < data.length; i++) bits[i] = toHalfBits(data[i]!);
    return bits;
  }
  const kind = dtype === "f32" ? Float32Array : dtype === "i32" ? Int32Array : Uint32Array;
  return data instanceof kind && data.buffer instanceof ArrayBuffer
    ? (data as ArrayBufferView<ArrayBuffer>)
    : kind.from(data);
}

/** Copies out of a mapped range, which goes away. */
function decode(bytes: ArrayBuffer, dtype: DType, size: number): TensorData {
  if (dtype === "f16") return Float32Array.from(new Uint16Array(bytes).subarray(0, size), fromHalfBits);
  const kind = dtype === "f32" ? Float32Array : dtype === "i32" ? Int32Array : Uint32Array;
  return new kind(bytes).slice(0, size);
}
