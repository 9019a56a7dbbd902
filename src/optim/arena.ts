import type { Backend } from "../backends/backend.js";
import { ArgumentError, DTypeError } from "../errors.js";
import { bytesPerElement } from "../shape.js";
import { Tensor, withoutScope } from "../tensor.js";

/**
 * The layout of many f32 tensors in one flat array: each starts at a multiple of the device's offset alignment (64
 * elements), so that every part can be bound on its own. The holes between them hold zeros, and kernels keep them zero.
 */
export class Arena {
  readonly device: Backend;
  readonly tensors: readonly Tensor[];
  /** First element of each tensor. */
  readonly starts: readonly number[];
  /** Elements with the holes: a multiple of the alignment. */
  readonly size: number;

  /** @throws ArgumentError where there is no tensor, or one stands twice; DTypeError where one is not f32. */
  constructor(op: string, tensors: readonly Tensor[]) {
    if (tensors.length === 0) throw new ArgumentError(op, "there are no parameters");
    const device = tensors[0]!.device;
    const starts: number[] = [];
    let size = 0;
    const seen = new Set<Tensor>();
    for (const t of tensors) {
      if (t.dtype !== "f32") throw new DTypeError(op, "parameters must be f32", { parameter: t.spec });
      if (t.device !== device)
        throw new ArgumentError(op, "parameters live on different devices", { parameter: t.spec });
      if (seen.has(t)) throw new ArgumentError(op, "a parameter is listed twice", { parameter: t.spec });
      seen.add(t);
      starts.push(size);
      const alignment = device.offsetAlignment / bytesPerElement("f32");
      size += Math.ceil(t.size / alignment) * alignment;
    }
    this.device = device;
    this.tensors = tensors;
    this.starts = starts;
    this.size = size;
  }

  /** A flat array of this layout that no scope owns. */
  zeros(): Tensor {
    return withoutScope(() => Tensor.zeros(this.device, [this.size]));
  }

  /** The place of tensor `i` in a flat array of this layout. */
  place(flat: Tensor, i: number): Tensor {
    return withoutScope(() => flat.part(this.starts[i]!, this.tensors[i]!.shape));
  }

  /** The places of tensors `from` to `to` (exclusive) and the holes between them. */
  range(flat: Tensor, from: number, to: number): Tensor {
    const start = this.starts[from] ?? this.size;
    return withoutScope(() => flat.part(start, [(this.starts[to] ?? this.size) - start]));
  }
}
