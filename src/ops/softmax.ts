import { differentiable } from "../autograd.js";
import { DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { isFloat } from "../shape.js";
import { run, type Tensor } from "../tensor.js";

// One thread per row: classes are few (2 to 256) and rows (pixels) many.
const params = { rows: "u32", classes: "u32" } as const;
const softmaxForward = defineKernel({
  name: "softmax.forward",
  inputs: ["x"],
  outputs: ["y"],
  params,
  groups: (p) => linear(p.rows),
  batch: { count: "rows", buffers: ["x", "y"] },
});
const softmaxBackward = defineKernel({
  name: "softmax.backward",
  inputs: ["dy", "y"],
  outputs: ["dx"],
  params,
  groups: (p) => linear(p.rows),
  batch: { count: "rows", buffers: ["dy", "y", "dx"] },
});
const logSoftmaxForward = defineKernel({
  name: "softmax.log_forward",
  inputs: ["x"],
  outputs: ["y"],
  params,
  groups: (p) => linear(p.rows),
  batch: { count: "rows", buffers: ["x", "y"] },
});
const logSoftmaxBackward = defineKernel({
  name: "softmax.log_backward",
  inputs: ["dy", "y"],
  outputs: ["dx"],
  params,
  groups: (p) => linear(p.rows),
  batch: { count: "rows", buffers: ["dy", "y", "dx"] },
});

/**
 * y[…, c] = exp(x[…, c]) / Σ_k exp(x[…, k]) over the last axis; finite for all finite x, as the row's maximum is taken
 * off first. f32 or f16, computed in f32.
 * @throws ShapeError for a scalar or an empty last axis; DTypeError for integers.
 */
export function softmax(x: Tensor): Tensor {
  const size = sizes("softmax", x);
  const [y] = run(softmaxForward, [x], [x.spec], size);
  return differentiable([x], [y], y, (dy, [saved]) => run(softmaxBackward, [dy, saved], [dy.spec], size));
}

/**
 * y[…, c] = x[…, c] - log Σ_k exp(x[…, k]) over the last axis; finite for all finite x. f32 or f16, computed in f32.
 * @throws ShapeError for a scalar or an empty last axis; DTypeError for integers.
 */
export function logSoftmax(x: Tensor): Tensor {
  const size = sizes("logSoftmax", x);
  const [y] = run(logSoftmaxForward, [x], [x.spec], size);
  return differentiable([x], [y], y, (dy, [saved]) => run(logSoftmaxBackward, [dy, saved], [dy.spec], size));
}

function sizes(op: string, x: Tensor): { rows: number; classes: number } {
  if (!isFloat(x.dtype)) throw new DTypeError(op, "takes f32 or f16", { x: x.spec });
  const classes = x.shape.at(-1) ?? 0;
  if (classes === 0) throw new ShapeError(op, "the last axis must hold at least one class", { x: x.spec });
  return { rows: x.size / classes, classes };
}
