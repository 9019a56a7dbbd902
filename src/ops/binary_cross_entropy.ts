import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { sameShape } from "../shape.js";
import { batchParts, run, runInto, scope, Tensor } from "../tensor.js";
import { blockOf, twoStage } from "./partials.js";

// `targets` and `weights` are read only where `given` and `weighted` are 1; otherwise `logits` is bound in their place.
const forward = defineKernel({
  name: "binary_cross_entropy.forward",
  inputs: ["logits", "targets", "weights"],
  outputs: ["partials"],
  params: { count: "u32", threads: "u32", block: "u32", given: "u32", constant: "f32", weighted: "u32" },
  groups: (p) => linear(p.threads),
});
const combine = defineKernel({
  name: "binary_cross_entropy.combine",
  inputs: ["partials"],
  outputs: ["loss"],
  params: { count: "u32", block: "u32", scale: "f32" },
  groups: () => [1, 1, 1],
});
const gradLogits = defineKernel({
  name: "binary_cross_entropy.grad_logits",
  inputs: ["logits", "targets", "weights", "dy"],
  outputs: ["dlogits"],
  params: { count: "u32", given: "u32", constant: "f32", weighted: "u32", scale: "f32" },
  groups: (p) => linear(p.count),
  batch: { count: "count", buffers: ["logits", "targets", "weights", "dlogits"] },
});

export interface BinaryCrossEntropyOptions {
  /** One factor per element, f32 of the shape of `logits` (PyTorch's `weight`: the mean still divides by the number of elements). */
  readonly weight?: Tensor;
}

/**
 * Mean binary cross entropy from logits: softplus(z) − t·z, computed as max(z, 0) − t·z + log(1 + e^−|z|), which is
 * finite for every z (PyTorch's `binary_cross_entropy_with_logits`).
 *
 * `logits` is f32 of any shape. `targets` is f32 of the same shape with values in [0, 1], or the constant 0 or 1: the
 * domain label of a whole batch (source 0, target 1) needs no tensor. Returns a scalar, 0 for no elements; the gradient
 * goes to the logits only.
 * @throws DTypeError, ShapeError where operands are not so; ArgumentError for a constant other than 0 and 1.
 */
export function binaryCrossEntropy(
  logits: Tensor,
  targets: Tensor | 0 | 1,
  options: BinaryCrossEntropyOptions = {},
): Tensor {
  const { weight } = options;
  const given = targets instanceof Tensor ? targets : null;
  const operands = {
    logits: logits.spec,
    ...(given && { targets: given.spec }),
    ...(weight && { weight: weight.spec }),
  };
  for (const [name, spec] of Object.entries(operands)) {
    if (spec.dtype !== "f32") throw new DTypeError("binaryCrossEntropy", `${name} must be f32`, operands);
    if (!sameShape(spec.shape, logits.shape)) {
      throw new ShapeError("binaryCrossEntropy", `${name} must have the shape of logits`, operands);
    }
  }
  if (!given && targets !== 0 && targets !== 1) {
    throw new ArgumentError("binaryCrossEntropy", `a constant target must be 0 or 1, not ${String(targets)}`);
  }

  return scope(() => {
    const choice = {
      given: given ? 1 : 0,
      constant: targets instanceof Tensor ? 0 : targets,
      weighted: weight ? 1 : 0,
    };
    const [t, w] = [given ?? logits, weight ?? logits];
    const { size, device } = logits;
    const scale = size > 0 ? 1 / size : 0;
    const parts = batchParts("binaryCrossEntropy", [logits.alias([size]), t.alias([size]), w.alias([size])]);
    const threads = parts.map(([x]) => twoStage(x.size, device.lanes).threads);
    const count = threads.reduce((a, b) => a + b, 0);
    const partials = Tensor.uninitialised(device, { shape: [count], dtype: "f32" });
    let start = 0;
    parts.forEach((part, i) => {
      const target = partials.part(start, [threads[i]!]);
      const count = part[0].size;
      runInto(forward, part, [target], { count, ...choice, ...twoStage(count, device.lanes) });
      start += threads[i]!;
    });
    const scalar = { shape: [], dtype: "f32" } as const;
    const [loss] = run(combine, [partials], [scalar], { count, block: blockOf(count, 256), scale });

    return differentiable([logits], [logits, t, w], loss, (dy, [x, y, v]) =>
      run(gradLogits, [x, y, v, dy], [x.spec], { count: size, ...choice, scale }),
    );
  });
}
