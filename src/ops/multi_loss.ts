import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel } from "../kernel.js";
import { run, type Tensor } from "../tensor.js";

// `first` is 1 where there is no running total yet; `loss` is then bound in its place.
const addTerm = defineKernel({
  name: "multi_loss.add_term",
  inputs: ["total", "loss", "c"],
  outputs: ["y", "weight"],
  params: { index: "u32", kendall: "u32", first: "u32" },
  groups: () => [1, 1, 1],
});
const gradTerm = defineKernel({
  name: "multi_loss.grad_term",
  inputs: ["loss", "c", "dy"],
  outputs: ["dloss", "dc"],
  params: { count: "u32", index: "u32", kendall: "u32" },
  groups: () => [1, 1, 1],
});

/** c² (liebel) and e^s (kendall) count as no less than this, so that no weight exceeds ½ · 10⁴. */
export const SMALLEST_VARIANCE = 1e-4;

/**
 * total + term(loss, c[index]), and the loss's effective weight, both scalars. The term is ½·L/c² + ln(1 + c²) for
 * "liebel" (Liebel and Körner 2018) or ½·L·e^−s + s/2 with s = c[index] for "kendall" (Kendall et al. 2018, as LibMTL's UW).
 *
 * c² and e^s are taken as 10⁻⁴ or more, in the value and in the gradient: below the limit the gradient is that of the
 * limit (with the sign of c), so that a weight can leave it again; it is not the derivative of the constant, which is 0.
 *
 * `loss` and `total` are f32 of one element, `c` is f32 `[k]`. The gradient goes to total, loss and c; the weight has none.
 * @throws DTypeError, ShapeError where operands are not so; ArgumentError where `index` is not one of c's.
 */
export function addWeightedLoss(
  total: Tensor | null,
  loss: Tensor,
  c: Tensor,
  index: number,
  weighting: "liebel" | "kendall",
): { total: Tensor; weight: Tensor } {
  const operands = { loss: loss.spec, c: c.spec, ...(total && { total: total.spec }) };
  for (const [name, spec] of Object.entries(operands)) {
    if (spec.dtype !== "f32") throw new DTypeError("addWeightedLoss", `${name} must be f32`, operands);
  }
  if (loss.size !== 1 || (total && total.size !== 1)) {
    throw new ShapeError("addWeightedLoss", "loss and total must have exactly one element", operands);
  }
  if (c.rank !== 1) throw new ShapeError("addWeightedLoss", "c must have one axis", operands);
  if (!Number.isInteger(index) || index < 0 || index >= c.size) {
    throw new ArgumentError("addWeightedLoss", `there is no c[${index}]`, operands);
  }
  const kendall = weighting === "kendall" ? 1 : 0;
  const scalar = { shape: [], dtype: "f32" } as const;
  const [y, weight] = run(addTerm, [total ?? loss, loss, c], [scalar, scalar], {
    index,
    kendall,
    first: total ? 0 : 1,
  });
  const pull = (dy: Tensor, l: Tensor, w: Tensor) =>
    run(gradTerm, [l, w, dy], [l.spec, w.spec], { count: w.size, index, kendall });
  if (total) {
    differentiable([total, loss, c], [loss, c], y, (dy, [l, w]) => {
      const [dloss, dc] = pull(dy, l, w);
      return [dy, dloss, dc];
    });
  } else {
    differentiable([loss, c], [loss, c], y, (dy, [l, w]) => pull(dy, l, w));
  }
  return { total: y, weight };
}
