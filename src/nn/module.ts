import type { Backend } from "../backends/backend.js";
import { Generator } from "../random.js";
import type { Tensor } from "../tensor.js";
import { Parameter } from "./parameter.js";

/**
 * A part of a network that owns parameters. They are found by walking fields: `Parameter`s, `Module`s and arrays of
 * them, named by the path of fields, in snake case, as PyTorch does: `encoder.layer1.0.conv1.weight`,
 * `encoder.bn1.running_mean`. Everything else in a field is left alone.
 *
 * A root module ends its constructor with `this.place(device, seed)`.
 */
export abstract class Module implements Disposable {
  #training = true;

  /** Whether normalisation uses batch statistics and dropout drops. */
  get training(): boolean {
    return this.#training;
  }

  /** What is walked: fields by name. */
  protected fields(): Iterable<readonly [name: string, value: unknown]> {
    return Object.entries(this);
  }

  /** Says where the parameters live; each one's first values depend on `seed` and its name alone. */
  protected place(device: Backend, seed: number): void {
    const root = new Generator(seed);
    for (const [name, parameter] of this.declared()) parameter.place(device, () => root.fork(name));
  }

  /** This module (named "") and those inside, by dotted name. */
  modules(): Map<string, Module> {
    const found = new Map<string, Module>();
    for (const [name, value] of Module.walk(this)) if (value instanceof Module) found.set(name, value);
    return found;
  }

  /** Every parameter and running statistic as declared, by dotted name; makes no tensors. */
  declared(): Map<string, Parameter> {
    const found = new Map<string, Parameter>();
    for (const [name, value] of Module.walk(this)) if (value instanceof Parameter) found.set(name, value);
    return found;
  }

  /** What an optimiser trains, by dotted name. */
  parameters(): Map<string, Tensor> {
    return tensorsWhere(this.declared(), true);
  }

  /** Running statistics, by dotted name: part of a checkpoint, not of an optimiser. */
  buffers(): Map<string, Tensor> {
    return tensorsWhere(this.declared(), false);
  }

  /** Number of trainable values; makes no tensors. */
  get parameterCount(): number {
    let count = 0;
    for (const parameter of this.declared().values()) if (parameter.trainable) count += parameter.size;
    return count;
  }

  /** Batch statistics and dropout, here and inside. */
  train(): this {
    for (const module of this.modules().values()) module.#training = true;
    return this;
  }

  /** Running statistics and no dropout, here and inside. */
  eval(): this {
    for (const module of this.modules().values()) module.#training = false;
    return this;
  }

  /**
   * Makes every batch normalisation inside use its running statistics in training too, and its weight and bias get no
   * gradient (zeros): for batches too small for statistics of their own. Holds through `train()` until set to false.
   */
  freezeBatchNorm(frozen = true): this {
    for (const module of this.modules().values()) module.setFrozen(frozen);
    return this;
  }

  /** What `freezeBatchNorm` does to this module alone: nothing but in batch normalisation. */
  protected setFrozen(_frozen: boolean): void {}

  /** Frees every parameter and running statistic. */
  dispose(): void {
    for (const parameter of this.declared().values()) parameter.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal `value` and the modules and parameters it holds, outermost first, by dotted name. */
  static *walk(value: unknown, name = ""): IterableIterator<readonly [string, Module | Parameter]> {
    if (value instanceof Module || value instanceof Parameter) yield [name, value];
    const inside = value instanceof Module ? value.fields() : Array.isArray(value) ? Object.entries(value) : [];
    for (const [field, held] of inside) {
      const part = field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      yield* Module.walk(held, name ? `${name}.${part}` : part);
    }
  }
}

/** A module that maps one tensor to one. */
export abstract class Layer extends Module {
  abstract forward(x: Tensor): Tensor;
}

function tensorsWhere(declared: Map<string, Parameter>, trainable: boolean): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const [name, parameter] of declared) if (parameter.trainable === trainable) found.set(name, parameter.tensor);
  return found;
}
