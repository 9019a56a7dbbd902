import { ArgumentError, CheckpointError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { eachStep, type Live, liveValue } from "../recording.js";
import { sameShape } from "../shape.js";
import { batchParts, dispose, runInto, scope, Tensor, withoutScope } from "../tensor.js";
import { Arena } from "./arena.js";

/** Partial sums of squares: lane j of `lanes` adds the fours j, j + lanes, j + 2 lanes, … in that order. */
const squareSum = defineKernel({
  name: "optimizer.square_sum",
  inputs: ["x"],
  outputs: ["y"],
  params: { count: "u32", lanes: "u32" },
  groups: (p) => linear(p.lanes),
});
/** `clip = [norm, factor]` from the partial sums; `limit` 0 means no clipping. */
const clipFactor = defineKernel({
  name: "optimizer.clip_factor",
  inputs: ["partials"],
  outputs: ["clip"],
  params: { count: "u32", limit: "f32" },
  groups: () => [1, 1, 1],
});

/** Parameters that share a learning rate and a weight decay. */
export interface ParameterGroup {
  /** Names the group in the optimiser's state; unique. */
  readonly name: string;
  readonly parameters: ReadonlyMap<string, Tensor> | readonly Tensor[];
  readonly lr: number;
  /** Default 0. */
  readonly weightDecay?: number;
}

export interface StepOptions {
  /** Factor on every group's learning rate in this step: what a schedule gives. Default 1. A function is asked at each replay. */
  readonly lrScale?: Live;
  /** Largest L2 norm of all gradients together; larger ones are scaled down. Default: no limit. */
  readonly clipNorm?: number;
}

/** What an optimiser must carry over to continue with the same bits. */
export interface OptimizerState {
  /** Moments by `moment.group.parameter`, in the shape of the parameter. */
  readonly tensors: Map<string, Tensor>;
  /** Steps taken. */
  readonly step: number;
}

/** A group's part of the arenas, and its constants. */
interface Range {
  readonly lr: number;
  readonly weightDecay: number;
  readonly w: Tensor;
  readonly dw: Tensor;
  readonly moments: readonly Tensor[];
}

/** What one update of a group's range sees. Every tensor is flat, padded to a multiple of 64 elements. */
export interface Update {
  readonly w: Tensor;
  readonly dw: Tensor;
  /** In the order that the subclass named them. */
  readonly moments: readonly Tensor[];
  /** `[norm, factor]`: gradients are multiplied by the factor. */
  readonly clip: Tensor;
  readonly lr: () => number;
  readonly weightDecay: number;
  /** Of this step, from 1. */
  readonly step: () => number;
}

/** Parameters that a living optimiser holds: a second one would move them away from under it. */
const held = new WeakSet<Tensor>();

/** Most lanes of the first stage of the norm: enough for any GPU, few enough for one workgroup to add up. */
const MAX_LANES = 16384;

/**
 * What all optimisers share. On construction it moves the parameters into one flat f32 array (their handles stay
 * valid), with arrays of the same layout for gradients and moments, so that a step is one dispatch per group.
 */
export abstract class Optimizer implements Disposable {
  /** In the order in which `step` takes gradients: group by group. */
  readonly parameters: readonly Tensor[];
  /** @internal */
  readonly arena: Arena;
  /** @internal All parameters, flat. */
  readonly values: Tensor;
  readonly #gradients: Tensor;
  readonly #gradientPlaces: readonly Tensor[];
  readonly #moments: readonly Tensor[];
  readonly #ranges: readonly Range[];
  readonly #state = new Map<string, Tensor>();
  readonly #clip: Tensor;
  readonly #unclipped: Tensor;
  #step = 0;
  /** Does `#clip` hold the norm of the gradients in the arena? */
  #measured: boolean = false;

  /**
   * @param moments Names of the arrays kept per parameter.
   * @throws ArgumentError where there are no parameters, one stands twice or belongs to another optimiser, a group's
   *   name is used twice or a rate is negative or not finite; DTypeError where a parameter is not f32.
   */
  protected constructor(groups: readonly ParameterGroup[], moments: readonly string[]) {
    const op = new.target.name;
    const names = new Set<string>();
    for (const { name, lr, weightDecay = 0 } of groups) {
      if (names.has(name)) throw new ArgumentError(op, `there are two groups named "${name}"`);
      names.add(name);
      atLeastZero(op, `${name}: lr`, lr);
      atLeastZero(op, `${name}: weightDecay`, weightDecay);
    }
    const entries = groups.map(({ parameters }) => namesOf(parameters));
    this.parameters = entries.flatMap((named) => named.map(([, t]) => t));
    this.arena = new Arena(op, this.parameters);
    for (const t of this.parameters) {
      if (held.has(t)) throw new ArgumentError(op, "a parameter belongs to another optimiser", { parameter: t.spec });
    }
    const { arena } = this;
    this.values = arena.zeros();
    this.#gradients = arena.zeros();
    this.#moments = moments.map(() => arena.zeros());
    this.#gradientPlaces = this.parameters.map((_, i) => arena.place(this.#gradients, i));
    this.#clip = withoutScope(() => Tensor.from(arena.device, [0, 1]));
    this.#unclipped = withoutScope(() => Tensor.from(arena.device, [0, 1]));
    this.parameters.forEach((t, i) => {
      using place = arena.place(this.values, i);
      t.moveInto(place);
      held.add(t);
    });
    let first = 0;
    this.#ranges = groups.map(({ name, lr, weightDecay = 0 }, g) => {
      const from = first;
      for (const [key] of entries[g]!) {
        moments.forEach((moment, m) => {
          this.#state.set(`${moment}.${name}.${key}`, arena.place(this.#moments[m]!, first));
        });
        first++;
      }
      const rangeOf = (flat: Tensor) => arena.range(flat, from, first);
      const [w, dw] = [rangeOf(this.values), rangeOf(this.#gradients)];
      return { lr, weightDecay, w, dw, moments: this.#moments.map(rangeOf) };
    });
  }

  /** Updates one group: a single dispatch. */
  protected abstract update(update: Update): void;

  /**
   * One step. Gradients are copied: the caller keeps (and frees) them.
   * Clipping is PyTorch's `clip_grad_norm_`: all gradients times min(1, clipNorm / (norm + 1e-6)), before weight decay.
   * @param gradients One per parameter, in the order of `parameters`, f32.
   * @throws ArgumentError where their number differs or an option is out of range; ShapeError, DTypeError where one
   *   does not match its parameter.
   */
  step(gradients: readonly Tensor[], { lrScale = 1, clipNorm }: StepOptions = {}): void {
    const op = `${this.constructor.name}.step`;
    if (gradients.length !== this.parameters.length) {
      throw new ArgumentError(op, `${gradients.length} gradients for ${this.parameters.length} parameters`);
    }
    const scaleNow = (): number => {
      const value = liveValue(lrScale);
      atLeastZero(op, "lrScale", value);
      return value;
    };
    scaleNow();
    if (clipNorm !== undefined) positive(op, "clipNorm", clipNorm);
    gradients.forEach((gradient, i) => {
      const operands = { parameter: this.parameters[i]!.spec, gradient: gradient.spec };
      if (!sameShape(gradient.shape, this.parameters[i]!.shape)) {
        throw new ShapeError(op, `gradient ${i} does not have the shape of its parameter`, operands);
      }
      if (gradient.dtype !== "f32") throw new DTypeError(op, `gradient ${i} must be f32`, operands);
      if (gradient.device !== this.arena.device) {
        throw new ArgumentError(op, `gradient ${i} lives on another device`, operands);
      }
    });
    gradients.forEach((gradient, i) => {
      this.arena.device.copy(gradient.view, this.#gradientPlaces[i]!.view);
    });
    this.#measured = false;
    if (clipNorm !== undefined) this.#measure(clipNorm);
    const clip = clipNorm === undefined ? this.#unclipped : this.#clip;
    eachStep(() => {
      this.#step++;
    });
    const step = () => this.#step;
    for (const { lr, ...range } of this.#ranges) {
      if (range.w.size > 0) this.update({ ...range, lr: () => lr * scaleNow(), clip, step });
    }
  }

  /** The L2 norm of all gradients of the last step together, before clipping; 0 before the first step. */
  async gradientNorm(): Promise<number> {
    if (!this.#measured) this.#measure(0);
    return (await this.#clip.data())[0]!;
  }

  /**
   * The moments themselves, not copies: they change with the next step and die with the optimiser. Saved and loaded
   * together with the parameters, they continue a run with the same bits.
   */
  state(): OptimizerState {
    return { tensors: new Map(this.#state), step: this.#step };
  }

  /**
   * Takes over moments and step. Tensors that are this optimiser's own (filled in place by a loader) are left alone.
   * @throws CheckpointError where names or shapes differ from this optimiser's: nothing is changed then.
   */
  load({ tensors, step }: OptimizerState): void {
    const where = `${this.constructor.name} state`;
    if (!Number.isSafeInteger(step) || step < 0) throw new CheckpointError(where, `${step} is not a number of steps`);
    const missing = [...this.#state.keys()].filter((key) => !tensors.has(key));
    if (missing.length > 0) throw new CheckpointError(where, "entries are missing", missing);
    const extra = [...tensors.keys()].filter((key) => !this.#state.has(key));
    if (extra.length > 0) throw new CheckpointError(where, "entries of another model", extra);
    const differ = [...tensors].filter(([key, t]) => {
      const own = this.#state.get(key)!;
      return !sameShape(t.shape, own.shape) || t.dtype !== own.dtype || t.device !== own.device;
    });
    if (differ.length > 0) {
      throw new CheckpointError(
        where,
        "entries of another shape, type or device",
        differ.map(([key]) => key),
      );
    }
    for (const [key, own] of this.#state) {
      const t = tensors.get(key)!;
      if (t !== own) this.arena.device.copy(t.view, own.view);
    }
    this.#step = step;
  }

  /** Frees gradients and moments. The parameters stay valid, and may be given to another optimiser. */
  dispose(): void {
    for (const t of this.parameters) held.delete(t);
    const ranges = this.#ranges.map(({ w, dw, moments }) => [w, dw, moments]);
    dispose(this.values, this.#gradients, this.#gradientPlaces, this.#moments, ranges, this.#state);
    dispose(this.#clip, this.#unclipped);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Norm of the gradient arena, in two stages of fixed order; never read back here. */
  #measure(limit: number): void {
    scope(() => {
      const parts = batchParts("optimizer.square_sum", [this.#gradients]);
      const { device, size } = this.arena;
      // 64 at least, so that the partial sums of every part start where they can be bound.
      const lanes = Math.min(MAX_LANES, Math.ceil(device.lanes / 64) * 64, Math.ceil(size / 1024) * 64);
      const partials = Tensor.uninitialised(device, { shape: [parts.length * lanes], dtype: "f32" });
      parts.forEach(([x], i) => {
        runInto(squareSum, [x], [partials.part(i * lanes, [lanes])], { count: x.size, lanes });
      });
      runInto(clipFactor, [partials], [this.#clip], { count: partials.size, limit });
    });
    this.#measured = true;
  }
}

const namesOf = (parameters: ParameterGroup["parameters"]): [string, Tensor][] =>
  "size" in parameters ? [...parameters] : parameters.map((t, i) => [`${i}`, t]);

/** @internal */
export function atLeastZero(op: string, name: string, value: number): void {
  if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) {
    throw new ArgumentError(op, `${name} must be finite and zero or more, not ${value}`);
  }
}
/** @internal */
export function positive(op: string, name: string, value: number): void {
  if (!(value > 0 && value < Number.POSITIVE_INFINITY)) {
    throw new ArgumentError(op, `${name} must be finite and above zero, not ${value}`);
  }
}
/** @internal Rates of moving averages lie in [0, 1). */
export function belowOne(op: string, name: string, value: number): void {
  if (!(value >= 0 && value < 1)) throw new ArgumentError(op, `${name} must lie in [0, 1), not ${value}`);
}
