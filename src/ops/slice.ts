import { differentiable } from "../autograd.js";
import { ArgumentError } from "../errors.js";
import { isFloat, type Shape } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { cut, embed } from "./window.js";

/**
 * A box out of `x`: along axis i, `sizes[i]` elements from `starts[i]` on. Any element type; a copy, except where the
 * box is all of x. The gradient is dy surrounded by zeros.
 * @throws ArgumentError where the box is not inside x, or does not name every axis.
 */
export function slice(x: Tensor, starts: readonly number[], sizes: Shape): Tensor {
  const inside = x.shape.every((whole, i) => {
    const [start, size] = [starts[i]!, sizes[i]!];
    return Number.isInteger(start) && Number.isInteger(size) && start >= 0 && size >= 0 && start + size <= whole;
  });
  if (starts.length !== x.rank || sizes.length !== x.rank || !inside) {
    throw new ArgumentError("slice", `[${sizes}] elements from [${starts}] on do not lie in the tensor`, { x: x.spec });
  }
  const y = cut(x, starts, sizes);
  if (!isFloat(x.dtype)) return y;
  const { shape } = x;
  return differentiable([x], [], y, (dy) => [embed(dy, starts, shape, 0)]);
}
