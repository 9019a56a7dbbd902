import { ArgumentError, DTypeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { isFloat } from "../shape.js";
import { run, type Tensor } from "../tensor.js";

const forward = defineKernel({
  name: "one_hot.forward",
  inputs: ["indices"],
  outputs: ["y"],
  params: { items: "u32", classes: "u32" },
  groups: (p) => linear(p.items * p.classes),
  batch: { count: "items", buffers: ["indices", "y"] },
});

/**
 * y[…, c] = 1 where indices[…] = c, else 0: f32 of shape `[...indices.shape, classes]`. An index that is not a class
 * (negative, or `ignoreIndex` 255) gives a row of zeros. No gradient.
 * @throws DTypeError where indices are not u32 or i32; ArgumentError where classes is not a whole number in [1, 2^31).
 */
export function oneHot(indices: Tensor, classes: number): Tensor {
  if (isFloat(indices.dtype)) throw new DTypeError("oneHot", "indices must be u32 or i32", { indices: indices.spec });
  if (!Number.isInteger(classes) || classes < 1 || classes >= 2 ** 31) {
    throw new ArgumentError("oneHot", `classes must be a whole number, one or more, not ${classes}`, {
      indices: indices.spec,
    });
  }
  const shape = [...indices.shape, classes];
  return run(forward, [indices], [{ shape, dtype: "f32" }], { items: indices.size, classes })[0];
}
