import { type AnyKernel, type Groups, packParams } from "../../kernel.js";
import type { DType } from "../../shape.js";
import type { Graph, ParamChange, View } from "../backend.js";
import { BindGroups } from "./bind_groups.js";
import { Memory, type Owner, wholeWords } from "./memory.js";
import { PARAMS_STRIDE, paramsBuffer } from "./params.js";
import type { Pipeline } from "./pipelines.js";
import { planBuffers } from "./plan.js";
import { type BufferPool, type PooledBuffer, roundedBytes } from "./pool.js";
import type { CommandStream } from "./stream.js";

/**
 * Dispatches in one submission: the device starts on the first ones while JavaScript is at the next, and none is so long
 * that the system takes a slow GPU for hung (two seconds on Windows).
 */
const SUBMITTED_AT_ONCE = 256;
// GPUBufferUsage is a global in browsers only.
const COPY_SRC_DST = 0x04 | 0x08;

type Params = Readonly<Record<string, number>>;

/** The kernel, or the variant of it that runs. */
type Grid = Pick<AnyKernel, "groups">;

/** What a step asked for while it was captured. */
type Noted = NotedDispatch | NotedCopy;
export interface NotedDispatch {
  readonly kernel: AnyKernel;
  readonly grid: Grid;
  readonly pipeline: Pipeline;
  readonly views: readonly View[];
  readonly memories: readonly Memory[];
  readonly params: Params;
  /** Of `params`, what is this part's own where a kernel is dispatched in parts. */
  readonly part: Params;
}
interface NotedCopy {
  readonly bytes: number;
  /** Null: from the constants. */
  readonly source: Memory | null;
  readonly sourceOffset: number;
  readonly target: Memory;
  readonly targetOffset: number;
}

class Dispatch {
  constructor(
    readonly kernel: AnyKernel,
    readonly grid: Grid,
    readonly pipeline: GPUComputePipeline,
    readonly group: GPUBindGroup,
    /** Offset of its parameters: what `setBindGroup` takes. */
    readonly at: readonly [number],
    readonly part: Params,
    public groups: Groups,
  ) {}
}
class Copy {
  constructor(
    readonly source: GPUBuffer,
    readonly sourceOffset: number,
    readonly target: GPUBuffer,
    readonly targetOffset: number,
    readonly bytes: number,
  ) {}
}

interface Tenant {
  readonly memory: Memory;
  readonly bytes: number;
  readonly from: number;
  to: number;
}

/** Takes down what a step does instead of doing it. */
export class Recorder {
  /** Memory that the step allocated, in order. */
  readonly #tenants = new Map<Memory, Tenant>();
  readonly #noted: Noted[] = [];
  /** The dispatches of each call of `run`. */
  readonly #runs: number[][] = [];
  readonly #constants: Uint8Array[] = [];
  #constantBytes = 0;
  readonly #memory: GraphMemory;

  constructor(
    readonly device: GPUDevice,
    readonly pool: BufferPool,
    readonly stream: CommandStream,
  ) {
    this.#memory = new GraphMemory(pool);
  }

  alloc(bytes: number, dtype: DType): Memory {
    const memory = new Memory(dtype, roundedBytes(bytes), this.#memory);
    const from = this.#noted.length;
    this.#tenants.set(memory, { memory, bytes: memory.bytes, from, to: Number.POSITIVE_INFINITY });
    return memory;
  }
  free(memory: Memory): void {
    const tenant = this.#tenants.get(memory);
    if (tenant) tenant.to = this.#noted.length;
    else this.#memory.keep(memory); // the step may use it, and does so again at each replay
  }
  /** Was it allocated by the step? */
  owns(memory: Memory): boolean {
    return this.#tenants.has(memory);
  }

  /** What follows, up to the next call, is one call of `run`. */
  nextRun(): void {
    this.#runs.push([]);
  }
  dispatch(dispatch: NotedDispatch): void {
    this.#runs.at(-1)!.push(this.#noted.length);
    this.#noted.push(dispatch);
  }
  copy(source: Memory, sourceOffset: number, target: Memory, targetOffset: number, bytes: number): void {
    this.#noted.push({ bytes, source, sourceOffset, target, targetOffset });
  }
  /** Each replay writes the same. */
  write(target: Memory, targetOffset: number, data: Uint8Array): void {
    const bytes = wholeWords(data.length);
    this.#noted.push({ bytes, source: null, sourceOffset: this.#constantBytes, target, targetOffset });
    const kept = new Uint8Array(bytes);
    kept.set(data);
    this.#constants.push(kept);
    this.#constantBytes += bytes;
  }

  /** Memory of others that was freed meanwhile goes where it belongs. */
  cancel(): void {
    this.#memory.dispose();
  }
  /** Gives everything its place. */
  end(): StepGraph {
    const tenants = [...this.#tenants.values()].filter(({ from, to }) => from < to);
    this.#memory.place(planBuffers(tenants));
    const constants = this.#constantBytes > 0 ? this.#constantsBuffer() : null;
    const params = paramsBuffer(this.device, this.#noted.length);
    const packed = new DataView(new ArrayBuffer(params.size));
    const bindGroups = new BindGroups(this.device, params);
    const commands = this.#noted.map((noted, i) => {
      if (!("kernel" in noted)) {
        const { source, sourceOffset, target, targetOffset, bytes } = noted;
        return new Copy(source?.held.buffer ?? constants!, sourceOffset, target.held.buffer, targetOffset, bytes);
      }
      const { kernel, grid, pipeline, views, memories, part } = noted;
      const all = { ...noted.params, ...part };
      const at = PARAMS_STRIDE * i;
      packParams(kernel, all, packed, at);
      const group = bindGroups.of(pipeline.layout, views, memories);
      return new Dispatch(kernel, grid, pipeline.pipeline, group, [at], part, grid.groups(all));
    });
    this.device.queue.writeBuffer(params, 0, packed.buffer);
    return new StepGraph(this.device, this.stream, commands, this.#runs, params, constants, this.#memory);
  }

  #constantsBuffer(): GPUBuffer {
    const buffer = this.device.createBuffer({ label: "constants", size: this.#constantBytes, usage: COPY_SRC_DST });
    let at = 0;
    for (const data of this.#constants) {
      this.device.queue.writeBuffer(buffer, at, data);
      at += data.length;
    }
    return buffer;
  }
}

/** The buffers of a graph: nobody else gets them while it lives. */
class GraphMemory implements Owner {
  #open = true;
  #buffers: PooledBuffer[] = [];
  /** Those of tensors that outlived the capture, and were not freed since. */
  readonly #used = new Set<PooledBuffer>();
  readonly #kept: Memory[] = [];

  constructor(readonly pool: BufferPool) {}

  keep(memory: Memory): void {
    this.#kept.push(memory);
  }

  place(plan: readonly { readonly bytes: number; readonly tenants: readonly Tenant[] }[]): void {
    // What the same step left behind when it was run without a graph has other sizes: more bytes than the plan's.
    const found = plan.map(({ bytes }) => this.pool.takeExact(bytes));
    this.pool.trim();
    this.#buffers = plan.map(({ bytes, tenants }, i) => {
      const buffer = found[i] ?? this.pool.create(bytes);
      for (const { memory, to } of tenants) {
        memory.place(buffer);
        if (to === Number.POSITIVE_INFINITY) this.#used.add(buffer);
      }
      return buffer;
    });
  }

  give(buffer: PooledBuffer): void {
    this.#used.delete(buffer);
    if (!this.#open) this.pool.give(buffer);
  }

  dispose(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const buffer of this.#buffers) if (!this.#used.has(buffer)) this.pool.give(buffer);
    for (const memory of this.#kept) memory.release();
  }
}

/** A captured step: its commands with all that they bind, in the memory that it holds. */
export class StepGraph implements Graph {
  readonly #patch = new DataView(new ArrayBuffer(PARAMS_STRIDE));

  constructor(
    readonly device: GPUDevice,
    readonly stream: CommandStream,
    readonly commands: readonly (Dispatch | Copy)[],
    readonly runs: readonly (readonly number[])[],
    readonly params: GPUBuffer,
    readonly constants: GPUBuffer | null,
    readonly memory: GraphMemory,
  ) {}

  replay(changes: readonly ParamChange[]): void {
    const { stream } = this;
    stream.flush(); // so that changes do not reach what was there before
    for (const change of changes) this.#change(change);
    let gathered = 0;
    for (const command of this.commands) {
      if (command instanceof Copy) {
        const { source, sourceOffset, target, targetOffset, bytes } = command;
        stream.commands().copyBufferToBuffer(source, sourceOffset, target, targetOffset, bytes);
        continue;
      }
      if (gathered++ === SUBMITTED_AT_ONCE) {
        stream.flush();
        gathered = 1;
      }
      const { kernel, pipeline, group, at, groups } = command;
      const pass = stream.pass(kernel);
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group, at);
      pass.dispatchWorkgroups(groups[0], groups[1], groups[2]);
    }
    stream.flush();
  }

  dispose(): void {
    this.params.destroy();
    this.constants?.destroy();
    this.memory.dispose();
  }

  #change({ run, kernel, params }: ParamChange): void {
    for (const i of this.runs[run]!) {
      const dispatch = this.commands[i] as Dispatch; // runs are of dispatches only
      const all = { ...params, ...dispatch.part };
      dispatch.groups = dispatch.grid.groups(all);
      const bytes = packParams(kernel, all, this.#patch, 0);
      this.device.queue.writeBuffer(this.params, dispatch.at[0], this.#patch.buffer, 0, bytes);
    }
  }
}
