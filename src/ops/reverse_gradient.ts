import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError } from "../errors.js";
import { type Live, liveValue } from "../recording.js";
import { isFloat } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { scale } from "./elementwise.js";

/**
 * The gradient reversal layer: y = x, dx = -lambda · dy. What lies behind it is trained to be good at its task, what
 * lies before it to be bad at it; lambda (0 or more) weighs the two; a function is asked when
 * the gradient is computed, and at each replay of a captured step.
 * Ganin & Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", 2015.
 * @throws ArgumentError where lambda is negative or not finite; DTypeError for integers.
 */
export function reverseGradient(x: Tensor, lambda: Live): Tensor {
  const { spec } = x;
  const checked = (): number => {
    const value = liveValue(lambda);
    if (Number.isFinite(value) && value >= 0) return value;
    throw new ArgumentError("reverseGradient", `lambda must be a number, zero or more, not ${value}`, { x: spec });
  };
  checked();
  if (!isFloat(x.dtype)) throw new DTypeError("reverseGradient", "integers have no gradient", { x: x.spec });
  return differentiable([x], [], x.alias(), (dy) => [
    scale(dy, typeof lambda === "function" ? () => -checked() : -lambda),
  ]);
}

/** The same values, through which no gradient flows: another handle on the same memory. */
export function stopGradient(x: Tensor): Tensor {
  return x.alias();
}
