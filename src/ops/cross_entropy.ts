import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { sameShape, sizeOf } from "../shape.js";
import { batchParts, run, runInto, scope, Tensor } from "../tensor.js";
import { blockOf, twoStage } from "./partials.js";

const forward = defineKernel({
  name: "cross_entropy.forward",
  inputs: ["logits", "labels", "weights"],
  outputs: ["partials"],
  params: { rows: "u32", classes: "u32", threads: "u32", block: "u32", ignore: "u32", smoothing: "f32" },
  groups: (p) => linear(p.threads),
});
const combine = defineKernel({
  name: "cross_entropy.combine",
  inputs: ["partials"],
  outputs: ["loss", "total"],
  params: { count: "u32", block: "u32" },
  groups: () => [1, 1, 1],
});
const gradLogits = defineKernel({
  name: "cross_entropy.grad_logits",
  inputs: ["logits", "labels", "weights", "total", "dy"],
  outputs: ["dlogits"],
  params: { rows: "u32", classes: "u32", ignore: "u32", smoothing: "f32", weight_sum: "f32" },
  groups: (p) => linear(p.rows),
  batch: { count: "rows", buffers: ["logits", "labels", "dlogits"] },
});

export interface CrossEntropyOptions {
  /** One weight per class, zero or more; default all 1. */
  readonly classWeights?: readonly number[];
  /** Pixels with this label count for nothing; default 255. */
  readonly ignoreIndex?: number;
  /** Share of the target spread evenly over all classes, in [0, 1); default 0. */
  readonly labelSmoothing?: number;
}

/**
 * Softmax cross entropy, averaged as PyTorch does: Σᵢ w[yᵢ] · −log p[i, yᵢ] / Σᵢ w[yᵢ] over the pixels that are not
 * ignored. Label smoothing ε adds PyTorch's term: (1 − ε) times the above plus ε/c · Σᵢ Σⱼ w[j] · −log p[i, j] over the
 * same denominator. Labels of `classes` or more count as ignored, too. Where nothing is left the loss and its gradient
 * are 0 (PyTorch gives NaN).
 *
 * `logits` is f32 `[..., classes]`, `labels` u32 `[...]`. Returns a scalar; the gradient goes to the logits.
 * Fused: the probabilities are never stored; the gradient recomputes them.
 * @throws DTypeError, ShapeError where operands are not so; ArgumentError where an option is out of range.
 */
export function crossEntropy(logits: Tensor, labels: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { classWeights, ignoreIndex: ignore = 255, labelSmoothing: smoothing = 0 } = options;
  const operands = { logits: logits.spec, labels: labels.spec };
  if (logits.dtype !== "f32") throw new DTypeError("crossEntropy", "logits must be f32", operands);
  if (labels.dtype !== "u32") throw new DTypeError("crossEntropy", "labels must be u32", operands);
  const classes = logits.shape.at(-1) ?? 0;
  if (classes < 1) throw new ShapeError("crossEntropy", "logits need a last axis of classes", operands);
  if (!sameShape(labels.shape, logits.shape.slice(0, -1))) {
    throw new ShapeError("crossEntropy", "labels must have the shape of logits without its last axis", operands);
  }
  checkIgnoreIndex("crossEntropy", ignore);
  if (!(smoothing >= 0 && smoothing < 1)) {
    throw new ArgumentError("crossEntropy", `labelSmoothing must be in [0, 1), not ${smoothing}`);
  }
  if (classWeights) checkClassWeights("crossEntropy", classWeights, classes);

  return scope(() => {
    const { device } = logits;
    const rows = sizeOf(labels.shape);
    const weights = classWeights ? Tensor.from(device, classWeights) : Tensor.ones(device, [classes]); // [c]
    const weightSum = classWeights ? classWeights.reduce((a, b) => a + b, 0) : classes;

    const parts = batchParts("crossEntropy", [logits.alias([rows, classes]), labels.alias([rows])]);
    const threads = parts.map(([, y]) => twoStage(y.size, device.lanes).threads);
    const count = threads.reduce((a, b) => a + b, 0);
    const partials = Tensor.uninitialised(device, { shape: [count, 2], dtype: "f32" });
    let start = 0;
    parts.forEach(([x, y], i) => {
      const target = partials.part(start * 2, [threads[i]!, 2]);
      const params = { rows: y.size, classes, ignore, smoothing, ...twoStage(y.size, device.lanes) };
      runInto(forward, [x, y, weights], [target], params);
      start += threads[i]!;
    });
    const scalar = { shape: [], dtype: "f32" } as const;
    const [loss, total] = run(combine, [partials], [scalar, scalar], { count, block: blockOf(count, 256) });

    return differentiable([logits], [logits, labels, weights, total], loss, (dy, [x, y, w, sum]) => {
      const params = { rows, classes, ignore, smoothing, weight_sum: weightSum };
      return run(gradLogits, [x, y, w, sum, dy], [x.spec], params);
    });
  });
}

/** @throws ArgumentError where no u32 label can be `ignore`. */
export function checkIgnoreIndex(op: string, ignore: number): void {
  if (!Number.isInteger(ignore) || ignore < 0 || ignore > 0xffffffff) {
    throw new ArgumentError(
      op,
      `ignoreIndex must be a whole number from 0 to 2^32 - 1 (labels are u32), not ${ignore}`,
    );
  }
}

/** @throws ArgumentError where there is not one finite weight per class, zero or more, one of them above zero. */
export function checkClassWeights(op: string, weights: readonly number[], classes: number): void {
  if (weights.length !== classes) {
    throw new ArgumentError(op, `classWeights has ${weights.length} entries for ${classes} classes`);
  }
  if (weights.some((w) => !(w >= 0 && Number.isFinite(w))) || weights.every((w) => w === 0)) {
    throw new ArgumentError(op, "classWeights must be finite, zero or more, and not all zero");
  }
}
