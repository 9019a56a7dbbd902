import type { Backend, Slot, View } from "./backends/backend.js";
import {
  ArgumentError,
  DeviceError,
  DisposedError,
  DTypeError,
  OperandError,
  ScopeError,
  ShapeError,
} from "./errors.js";
import { type AnyKernel, defineKernel, type Kernel, linear, type ParamSchema } from "./kernel.js";
import { issue, type Live, type LiveParams } from "./recording.js";
import {
  bytesPerElement,
  type DType,
  formatSpec,
  isFloat,
  type Shape,
  type Spec,
  sizeOf,
  type TensorData,
} from "./shape.js";

/** Device memory shared by a tensor, its views and the tape. Counted here, never by the user. */
class Storage {
  #holders = 1;
  constructor(
    readonly backend: Backend,
    readonly slot: Slot,
  ) {}
  retain(): this {
    this.#holders++;
    return this;
  }
  release(): void {
    if (--this.#holders === 0) this.backend.free(this.slot);
  }
}

const fillConstant = defineKernel({
  name: "fill.constant",
  inputs: [],
  outputs: ["y"],
  params: { count: "u32", value: "f32" },
  groups: (p) => linear(p.count),
  batch: { count: "count", buffers: ["y"] },
});
const fillInteger = defineKernel({
  name: "fill.integer",
  inputs: [],
  outputs: ["y"],
  params: { count: "u32", value: "i32" },
  groups: (p) => linear(p.count),
  batch: { count: "count", buffers: ["y"] },
});

/**
 * A handle on a dense row-major array in device memory. Images are `[n, h, w, c]`, convolution weights
 * `[cout, kh, kw, cin / groups]`. Tensors are immutable but for parameters, optimiser state and running statistics.
 *
 * Whatever is made inside `scope` or `differentiate` is freed there unless returned; the rest is freed by `dispose()`
 * or `using`.
 */
export class Tensor implements Disposable {
  #storage: Storage | null;
  #offset: number;

  /** @internal Use `Tensor.from`, `Tensor.zeros`, … */
  constructor(
    storage: Storage,
    readonly spec: Spec,
    offset = 0,
  ) {
    this.#storage = storage;
    this.#offset = offset;
    currentScope?.owned.add(this);
  }

  /**
   * A tensor with the given values, in row-major order.
   * @throws ShapeError where the number of values is not the product of `shape`; DTypeError where the device does not have the type.
   */
  static from(device: Backend, data: ArrayLike<number>, shape: Shape = [data.length], dtype: DType = "f32"): Tensor {
    const t = Tensor.uninitialised(device, { shape, dtype });
    if (t.size !== data.length) {
      t.dispose();
      throw new ShapeError("Tensor.from", `${data.length} values do not fill the shape`, { tensor: { shape, dtype } });
    }
    device.write(t.view, data);
    return t;
  }

  /** @internal Memory with no defined content (NaN on the reference backend): a kernel is to write all of it. */
  static uninitialised(device: Backend, spec: Spec): Tensor {
    if (spec.shape.some((size) => !Number.isSafeInteger(size) || size < 0)) {
      throw new ShapeError("Tensor", "sizes must be whole numbers, zero or more", { tensor: spec });
    }
    if (!device.supports(spec.dtype)) {
      throw new DTypeError("Tensor", `${spec.dtype} is not available on ${device.description}`, { tensor: spec });
    }
    return new Tensor(new Storage(device, allocate(device, spec)), spec);
  }

  /** Every element `value`. */
  static full(device: Backend, shape: Shape, value: number, dtype: DType = "f32"): Tensor {
    const t = Tensor.uninitialised(device, { shape, dtype });
    if (t.size > 0) {
      const kernel = isFloat(dtype) ? fillConstant : fillInteger;
      issue(device, kernel, [], [t.view], { count: t.size, value });
    }
    return t;
  }

  static zeros(device: Backend, shape: Shape, dtype: DType = "f32"): Tensor {
    return Tensor.full(device, shape, 0, dtype);
  }

  static ones(device: Backend, shape: Shape, dtype: DType = "f32"): Tensor {
    return Tensor.full(device, shape, 1, dtype);
  }

  static scalar(device: Backend, value: number): Tensor {
    return Tensor.from(device, [value], []);
  }

  get shape(): Shape {
    return this.spec.shape;
  }
  get dtype(): DType {
    return this.spec.dtype;
  }
  get rank(): number {
    return this.spec.shape.length;
  }
  /** Number of elements. */
  get size(): number {
    return sizeOf(this.spec.shape);
  }
  get bytes(): number {
    return this.size * bytesPerElement(this.spec.dtype);
  }
  /** The device this tensor lives on: what `open()` returned. */
  get device(): Backend {
    return this.#held.backend;
  }
  get disposed(): boolean {
    return this.#storage === null;
  }
  /** @internal What backends see. */
  get view(): View {
    return { slot: this.#held.slot, offset: this.#offset, size: this.size };
  }

  /** Copies the values to JavaScript, in row-major order: the one place where the program waits for the device. */
  async data(): Promise<TensorData> {
    return this.device.read(this.view);
  }

  /** The value of a tensor of one element. */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new ShapeError("item", "the tensor must have exactly one element", { tensor: this.spec });
    return (await this.data())[0]!;
  }

  /** Overwrites a parameter or buffer. Not for intermediate results: the tape may have saved them. */
  assign(data: ArrayLike<number>): void {
    if (data.length !== this.size) {
      throw new ShapeError("assign", `${data.length} values do not fill the tensor`, { tensor: this.spec });
    }
    this.device.write(this.view, data);
  }

  /** @internal Another handle on the same memory, with any shape of the same size. */
  alias(shape: Shape = this.spec.shape): Tensor {
    return new Tensor(this.#held.retain(), { shape, dtype: this.spec.dtype }, this.#offset);
  }

  /** @internal A handle on a contiguous part, `start` in elements; must respect the device's offset alignment. */
  part(start: number, shape: Shape): Tensor {
    return new Tensor(this.#held.retain(), { shape, dtype: this.spec.dtype }, this.#offset + start);
  }

  /** @internal Moves this handle onto `home`'s memory, keeping its values: how an optimiser gathers parameters in an arena. */
  moveInto(home: Tensor): void {
    this.device.copy(this.view, home.view);
    const moved = home.#held.retain();
    this.#held.release();
    this.#storage = moved;
    this.#offset = home.#offset;
  }

  dispose(): void {
    this.#storage?.release();
    this.#storage = null;
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  get #held(): Storage {
    if (!this.#storage) {
      throw new DisposedError("tensor", "used after its scope closed or dispose() was called", { tensor: this.spec });
    }
    return this.#storage;
  }
}

/** A slot for a tensor; where there is no room, the error names it. */
function allocate(device: Backend, spec: Spec): Slot {
  try {
    return device.alloc(sizeOf(spec.shape), spec.dtype);
  } catch (error) {
    if (!(error instanceof DeviceError) || error.failure !== "out-of-memory") throw error;
    const { backend, failure, reason, details } = error;
    throw new DeviceError(backend, failure, `no room for ${formatSpec(spec)}: ${reason}`, details, { cause: error });
  }
}

/** Parameters of a kernel; functions give theirs anew when a captured step is replayed. */
export type ParamValues<S extends ParamSchema> = { readonly [K in keyof S]: Live };

/** Runs one kernel on freshly allocated outputs and returns them. */
export function run<S extends ParamSchema, const I extends readonly string[], const O extends readonly string[]>(
  kernel: Kernel<S, I, O>,
  inputs: { readonly [K in keyof I]: Tensor },
  outputs: { readonly [K in keyof O]: Spec },
  params: ParamValues<S>,
): { -readonly [K in keyof O]: Tensor } {
  const ins = inputs as readonly Tensor[];
  const device = commonDevice(kernel.name, ins);
  const outs = (outputs as readonly Spec[]).map((spec) => Tensor.uninitialised(device, spec));
  dispatch(kernel, device, ins, outs, params);
  return outs as { -readonly [K in keyof O]: Tensor };
}

/** Runs one kernel on existing outputs, which it overwrites or updates: optimisers and running statistics. */
export function runInto<S extends ParamSchema, const I extends readonly string[], const O extends readonly string[]>(
  kernel: Kernel<S, I, O>,
  inputs: { readonly [K in keyof I]: Tensor },
  outputs: { readonly [K in keyof O]: Tensor },
  params: ParamValues<S>,
): void {
  const [ins, outs] = [inputs as readonly Tensor[], outputs as readonly Tensor[]];
  dispatch(kernel, commonDevice(kernel.name, [...ins, ...outs]), ins, outs, params);
}

function dispatch(
  kernel: AnyKernel,
  device: Backend,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  params: LiveParams,
): void {
  if (outputs.every((t) => t.size === 0)) return;
  issue(
    device,
    kernel,
    inputs.map((t) => t.view),
    outputs.map((t) => t.view),
    params,
  );
}

function commonDevice(op: string, tensors: readonly Tensor[]): Backend {
  const device = tensors[0]!.device;
  if (tensors.some((t) => t.device !== device)) {
    throw new OperandError(
      op,
      "operands live on different devices",
      Object.fromEntries(tensors.map((t, i) => [`${i}`, t.spec])),
    );
  }
  return device;
}

class Scope {
  readonly owned = new Set<Tensor>();
  constructor(readonly parent: Scope | null) {}
}
let currentScope: Scope | null = null;

/**
 * Frees every tensor made inside `fn`, except those it returns (alone, or in arrays, plain objects and maps), which
 * pass to the enclosing scope.
 * @throws ScopeError where `fn` is async: results are read after the scope returned.
 */
export function scope<T>(fn: () => T): T {
  const here = new Scope(currentScope);
  currentScope = here;
  try {
    const result = fn();
    if (result instanceof Promise) {
      result.catch(() => {}); // the misuse is what we report
      throw new ScopeError("scope: the function must not be async; read results after the scope returned");
    }
    for (const t of tensorsIn(result)) if (here.owned.delete(t)) here.parent?.owned.add(t);
    return result;
  } finally {
    currentScope = here.parent;
    for (const t of here.owned) t.dispose();
  }
}

/** Makes tensors that no scope owns: parameters, running statistics, and what the tape saves. */
export function withoutScope<T>(fn: () => T): T {
  const before = currentScope;
  currentScope = null;
  try {
    return fn();
  } finally {
    currentScope = before;
  }
}

/** Disposes every tensor found in `values` (arrays, plain objects and maps are searched). */
export function dispose(...values: readonly unknown[]): void {
  for (const t of tensorsIn(values)) t.dispose();
}

/** @internal The tensors of a value: itself, or in arrays, plain objects and maps. */
export function* tensorsIn(value: unknown): Generator<Tensor> {
  if (value instanceof Tensor) yield value;
  else if (value instanceof Map) yield* tensorsIn([...value.values()]);
  else if (Array.isArray(value)) for (const v of value) yield* tensorsIn(v);
  else if (value && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
    yield* tensorsIn(Object.values(value));
  }
}

/**
 * Splits tensors along their first axis where any of them exceeds the device's binding limit, for ops that reduce over
 * the batch and combine the parts themselves. One part, the tensors as they are, where nothing exceeds it.
 */
export function batchParts<const T extends readonly Tensor[]>(
  op: string,
  tensors: T,
): { -readonly [K in keyof T]: Tensor }[] {
  const device = tensors[0]!.device;
  const largest = Math.max(...tensors.map((t) => t.bytes));
  if (largest <= device.maxBindingBytes) return [[...tensors] as { -readonly [K in keyof T]: Tensor }];
  const n = tensors[0]!.shape[0]!;
  let count = Math.floor((device.maxBindingBytes / largest) * n);
  const aligned = (images: number) => tensors.every((t) => ((t.bytes / n) * images) % device.offsetAlignment === 0);
  while (count > 1 && !aligned(count)) count--;
  if (count < 1 || !aligned(count)) {
    throw new ArgumentError(op, `one image exceeds what this device binds at once (${device.maxBindingBytes} bytes)`, {
      largest: tensors.find((t) => t.bytes === largest)!.spec,
    });
  }
  const parts = [];
  for (let start = 0; start < n; start += count) {
    const images = Math.min(count, n - start);
    parts.push(tensors.map((t) => t.part((t.size / n) * start, [images, ...t.shape.slice(1)])));
  }
  return parts as { -readonly [K in keyof T]: Tensor }[];
}
