import type { OnnxAttribute, OnnxConstant, OnnxNode } from "./model.js";

/** The name of a value in a graph. */
export type ValueName = string;

/** Builds a graph node by node. Values are known by name; each node's is named after the layer that asks for it. */
export class OnnxGraph {
  readonly nodes: OnnxNode[] = [];
  readonly #constants = new Map<ValueName, OnnxConstant>();
  readonly #taken = new Map<ValueName, number>();

  get constants(): readonly OnnxConstant[] {
    return [...this.#constants.values()];
  }

  /** Adds an operation; `name` is that of its value, numbered where it is taken. */
  add(
    op: string,
    name: string,
    inputs: readonly ValueName[],
    attributes: Readonly<Record<string, OnnxAttribute>> = {},
  ): ValueName {
    const times = this.#taken.get(name) ?? 0;
    this.#taken.set(name, times + 1);
    const output = times === 0 ? name : `${name}_${times}`;
    this.nodes.push({ op, inputs, output, attributes });
    return output;
  }

  /** Float32 values under this name; those of a name in use are taken to be the same. */
  floats(name: ValueName, dims: readonly number[], data: Float32Array): ValueName {
    if (!this.#constants.has(name)) this.#constants.set(name, { name, dims, data });
    return name;
  }

  /** Whole numbers as a vector of int64, shared by all that ask for the same. */
  integers(...values: readonly number[]): ValueName {
    const name = `int64[${values.join(",")}]`;
    if (!this.#constants.has(name)) {
      this.#constants.set(name, { name, dims: [values.length], data: BigInt64Array.from(values, BigInt) });
    }
    return name;
  }

  /** One float, shared by all that ask for the same. */
  scalar(value: number): ValueName {
    return this.floats(`float[${value}]`, [], Float32Array.of(value));
  }
}
