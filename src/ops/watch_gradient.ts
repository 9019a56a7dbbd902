import { differentiable } from "../autograd.js";
import { DTypeError, ShapeError } from "../errors.js";
import { isFloat } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { cast } from "./cast.js";
import { mul, sqrt } from "./elementwise.js";
import { sum } from "./reduce.js";

/**
 * The same values; when a gradient flows back through them, its L2 norm is written into `norm`, on the device and in
 * captured steps as well. Where none flows, `norm` stays as it is.
 * @param norm f32 of one element, which must outlive the differentiation.
 * @throws DTypeError for integers, or where `norm` is not f32; ShapeError where it is not one element.
 */
export function watchGradient(x: Tensor, norm: Tensor): Tensor {
  const operands = { x: x.spec, norm: norm.spec };
  if (!isFloat(x.dtype)) throw new DTypeError("watchGradient", "integers have no gradient", operands);
  if (norm.dtype !== "f32") throw new DTypeError("watchGradient", "the norm must be f32", operands);
  if (norm.size !== 1) throw new ShapeError("watchGradient", "the norm must have exactly one element", operands);
  return differentiable([x], [], x.alias(), (dy) => {
    const wide = cast(dy, "f32"); // squares of half precision overflow
    const measured = sqrt(sum(mul(wide, wide)));
    measured.device.copy(measured.view, norm.view);
    return [dy];
  });
}
