import { differentiable } from "../autograd.js";
import { ShapeError } from "../errors.js";
import { isFloat, type Shape, sizeOf } from "../shape.js";
import type { Tensor } from "../tensor.js";

/**
 * The same values in the same row-major order, under another shape: another handle on the same memory.
 * @throws ShapeError where `shape` does not hold as many elements as `x`.
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  if (shape.some((size) => !Number.isInteger(size) || size < 0) || sizeOf(shape) !== x.size) {
    throw new ShapeError("reshape", `[${shape}] does not hold as many elements`, { x: x.spec });
  }
  const y = x.alias([...shape]);
  if (!isFloat(x.dtype)) return y;
  const before = x.shape;
  return differentiable([x], [], y, (dy) => [dy.alias(before)]);
}
