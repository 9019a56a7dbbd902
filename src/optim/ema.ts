import { ArgumentError, CheckpointError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { type Live, liveValue } from "../recording.js";
import { sameShape } from "../shape.js";
import { dispose, runInto, scope, Tensor } from "../tensor.js";
import { Arena } from "./arena.js";
import { belowOne, Optimizer } from "./optimizer.js";

const ema = defineKernel({
  name: "optimizer.ema",
  inputs: ["w"],
  outputs: ["y"],
  params: { count: "u32", rate: "f32" },
  groups: (p) => linear(p.count),
  batch: { count: "count", buffers: ["w", "y"] },
});

/**
 * A moving average of parameters: y += (1 − d)·(w − y) with d = min(1 − 1 / (t + 1), decay), so that the first updates
 * are a plain mean (Tarvainen & Valpola, NeurIPS 2017). Running statistics are not averaged. Starts as a copy.
 */
export class EMA implements Disposable {
  /** Averages, in the order of the optimiser's parameters or of the tensors given. */
  readonly averages: readonly Tensor[];
  readonly #sources: readonly Tensor[];
  readonly #shadow: Tensor;
  /** What one dispatch updates: the whole arena of an optimiser, or tensor by tensor. */
  readonly #pairs: readonly (readonly [source: Tensor, shadow: Tensor])[];
  readonly #decay: number;

  /**
   * @param of An optimiser (one dispatch an update; keep it alive as long) or f32 tensors (one each).
   * @throws ArgumentError where decay is outside [0, 1), or there are no tensors.
   */
  constructor(of: Optimizer | readonly Tensor[], decay: number) {
    belowOne("EMA", "decay", decay);
    this.#decay = decay;
    this.#sources = of instanceof Optimizer ? of.parameters : [...of];
    const arena = of instanceof Optimizer ? of.arena : new Arena("EMA", of);
    this.#shadow = arena.zeros();
    this.averages = this.#sources.map((_, i) => arena.place(this.#shadow, i));
    this.#pairs =
      of instanceof Optimizer
        ? [[of.values, this.#shadow]]
        : this.#sources.map((source, i) => [source, this.averages[i]!] as const);
    for (const [source, shadow] of this.#pairs) arena.device.copy(source.view, shadow.view);
  }

  /**
   * Takes the parameters of step `step` (from 0) into the average; a function is asked at each replay of a captured step.
   * @throws ArgumentError where `step` is negative or not a whole number.
   */
  update(step: Live): void {
    const rate = (): number => {
      const value = liveValue(step);
      if (!Number.isSafeInteger(value) || value < 0) throw new ArgumentError("EMA.update", `there is no step ${value}`);
      return Math.max(1 / (value + 1), 1 - this.#decay);
    };
    for (const [source, shadow] of this.#pairs) runInto(ema, [source], [shadow], { count: source.size, rate });
  }

  /** Exchanges parameters and averages: before an evaluation, and again after it. */
  swap(): void {
    scope(() => {
      for (const [source, shadow] of this.#pairs) {
        const { device } = source;
        const kept = Tensor.uninitialised(device, source.spec);
        device.copy(source.view, kept.view);
        device.copy(shadow.view, source.view);
        device.copy(kept.view, shadow.view);
      }
    });
  }

  /**
   * Writes the averages into the parameters of a model of the same make, such as a teacher.
   * @throws ShapeError where number or shapes differ: nothing is written then.
   */
  copyTo(tensors: readonly Tensor[]): void {
    if (tensors.length !== this.averages.length) {
      throw new ShapeError("EMA.copyTo", `${tensors.length} tensors for ${this.averages.length} averages`);
    }
    this.averages.forEach((average, i) => {
      if (!sameShape(tensors[i]!.shape, average.shape) || tensors[i]!.dtype !== "f32") {
        throw new ShapeError("EMA.copyTo", `tensor ${i} does not match`, {
          average: average.spec,
          tensor: tensors[i]!.spec,
        });
      }
    });
    this.averages.forEach((average, i) => {
      average.device.copy(average.view, tensors[i]!.view);
    });
  }

  /**
   * The averages themselves by name, to save and to load in place.
   * @param names One per average, in order.
   * @throws CheckpointError where there are more or fewer names than averages, or one stands twice.
   */
  state(names: Iterable<string>): Map<string, Tensor> {
    const list = [...names];
    if (new Set(list).size !== list.length || list.length !== this.averages.length) {
      throw new CheckpointError("EMA state", `${this.averages.length} averages need as many different names`, list);
    }
    return new Map(list.map((name, i) => [name, this.averages[i]!]));
  }

  dispose(): void {
    dispose(this.averages, this.#shadow);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
