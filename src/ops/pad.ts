import { differentiable } from "../autograd.js";
import { ArgumentError } from "../errors.js";
import { isFloat } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { cut, embed } from "./window.js";

/**
 * `x` with `widths[i] = [before, after]` elements of `value` around it along axis i. Any element type; a copy, except
 * where nothing is added. The gradient is the part of dy that x came to lie in.
 * @throws ArgumentError for widths that are negative or fractional or do not name every axis, and for an integer tensor
 * with a fractional value.
 */
export function pad(x: Tensor, widths: readonly (readonly [before: number, after: number])[], value = 0): Tensor {
  if (widths.length !== x.rank || widths.flat().some((width) => !Number.isInteger(width) || width < 0)) {
    throw new ArgumentError("pad", "widths must be pairs of whole numbers, zero or more, one pair per axis", {
      x: x.spec,
    });
  }
  if (isFloat(x.dtype) ? !Number.isFinite(value) : !Number.isInteger(value)) {
    throw new ArgumentError("pad", `the tensor cannot hold ${value}`, { x: x.spec });
  }
  const starts = widths.map(([before]) => before);
  const { shape } = x;
  const y = embed(
    x,
    starts,
    shape.map((size, i) => size + widths[i]![0] + widths[i]![1]),
    value,
  );
  if (!isFloat(x.dtype)) return y;
  return differentiable([x], [], y, (dy) => [cut(dy, starts, shape)]);
}
