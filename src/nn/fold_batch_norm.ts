import { isTracked } from "../autograd.js";
import { ArgumentError } from "../errors.js";
import { add, addScalar, conv2d, div, mul, neg, reshape, sqrt, sub } from "../ops/index.js";
import { dispose, scope, type Tensor, withoutScope } from "../tensor.js";
import { type AfterNorm, BatchNorm } from "./batch_norm.js";
import type { Conv2d } from "./conv.js";
import type { Module } from "./module.js";

/** A convolution's weight and bias with the batch normalisation that follows it in them. */
interface Folded {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/** Of the normalisations that are folded now, by the convolution before them; made at the first use. */
const folds = new WeakMap<BatchNorm, Map<Conv2d, Folded>>();

/**
 * `norm.forward(conv.forward(x), after)`: what a model calls for the two, so that `foldBatchNorms` can make them one
 * kernel.
 * @throws ArgumentError while folded where the normalisation is in training, or weights are to get gradients.
 */
export function convBatchNorm(conv: Conv2d, norm: BatchNorm, x: Tensor, after: AfterNorm = {}): Tensor {
  const made = folds.get(norm);
  if (!made) return scope(() => norm.forward(conv.forward(x), after));
  if (norm.training) throw new ArgumentError("foldBatchNorms", "a folded model was put into training: undo it first");
  const weights = [conv.weight, conv.bias, norm.weight, norm.bias];
  if (weights.some((weight) => weight && isTracked(weight.tensor))) {
    throw new ArgumentError("foldBatchNorms", "the weights of a folded model get no gradients: undo it first");
  }
  let folded = made.get(conv);
  if (!folded) made.set(conv, (folded = withoutScope(() => fold(conv, norm))));
  return conv2d(x, folded.weight, { ...conv.geometry, ...after, bias: folded.bias });
}

/** w' = w · γ / √(σ² + ε) per output channel and b' = β + (b − μ) · γ / √(σ² + ε); b is 0 where there is none. */
function fold(conv: Conv2d, norm: BatchNorm): Folded {
  return scope(() => {
    const w = conv.weight.tensor;
    const factor = div(norm.weight.tensor, sqrt(addScalar(norm.runningVar.tensor, norm.eps))); // [cout]
    const mean = norm.runningMean.tensor;
    const offset = conv.bias ? sub(conv.bias.tensor, mean) : neg(mean);
    return {
      weight: mul(w, reshape(factor, [w.shape[0]!, 1, 1, 1])),
      bias: add(norm.bias.tensor, mul(offset, factor)),
    };
  });
}

/**
 * For inference: from here until it is disposed, each batch normalisation of the model that directly follows a
 * convolution is part of that convolution's weights, and a residual and ReLU behind it of the same kernel. Outputs are
 * those of the model but for rounding. The folded weights are computed on the device at their first use and kept beside
 * the model's own, which stay what `parameters()`, `buffers()` and checkpoints show; these must not change meanwhile.
 *
 *     model.eval();
 *     using folded = foldBatchNorms(model);
 *     const logits = model.forward(x);
 *
 * @throws ArgumentError where the model or a part of it is in training; so does a forward pass once it is, or where a
 * folded weight is to get a gradient (x may).
 */
export function foldBatchNorms(model: Module): Disposable {
  const modules = [...model.modules().values()];
  if (modules.some((module) => module.training)) {
    throw new ArgumentError(
      "foldBatchNorms",
      "the model is in training, with statistics of each batch: call eval() first",
    );
  }
  // What is folded already stays in the hands of the one who folded it.
  const norms = modules.filter((module) => module instanceof BatchNorm).filter((norm) => !folds.has(norm));
  for (const norm of norms) folds.set(norm, new Map());
  return {
    [Symbol.dispose]() {
      for (const norm of norms.splice(0)) {
        for (const folded of folds.get(norm)!.values()) dispose(folded);
        folds.delete(norm);
      }
    },
  };
}
