import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { type Shape, sameShape, sizeOf } from "../shape.js";
import { batchParts, runInto, scope, Tensor } from "../tensor.js";
import { checkClassWeights, checkIgnoreIndex } from "./cross_entropy.js";
import { twoStage } from "./partials.js";
import { indexOf, SUM_THREADS_PER_LANE } from "./tversky_index.js";
import { tverskyUpsampled } from "./tversky_upsampled.js";

// A unit is what one index is computed over: an image (reduce "image") or the whole batch, with `rows` pixels each.
// The softmax of a row is exp(z - norm[row, 0]) * norm[row, 1]: its largest logit and 1 / sum of exp, found once.
const rowNorm = defineKernel({
  name: "tversky.row_norm",
  inputs: ["logits"],
  outputs: ["norm"],
  params: { rows: "u32", classes: "u32" },
  groups: (p) => linear(p.rows),
});
const sumsSoftmax = defineKernel({
  name: "tversky.sums_softmax",
  inputs: ["logits", "labels", "norm"],
  outputs: ["partials"],
  params: { units: "u32", rows: "u32", classes: "u32", chunks: "u32", block: "u32", ignore: "u32" },
  groups: (p) => linear(p.units * p.chunks * p.classes),
});
const sumsSigmoid = defineKernel({
  name: "tversky.sums_sigmoid",
  inputs: ["logits", "labels"],
  outputs: ["partials"],
  params: { units: "u32", rows: "u32", classes: "u32", chunks: "u32", block: "u32", ignore: "u32" },
  groups: (p) => linear(p.units * p.chunks * p.classes),
});
const gradSoftmax = defineKernel({
  name: "tversky.grad_softmax",
  inputs: ["logits", "labels", "norm", "slopes", "dy"],
  outputs: ["dlogits"],
  params: { units: "u32", rows: "u32", classes: "u32", first_unit: "u32", ignore: "u32" },
  groups: (p) => linear(p.units * p.rows),
});
const gradSigmoid = defineKernel({
  name: "tversky.grad_sigmoid",
  inputs: ["logits", "labels", "slopes", "dy"],
  outputs: ["dlogits"],
  params: { units: "u32", rows: "u32", classes: "u32", first_unit: "u32", ignore: "u32" },
  groups: (p) => linear(p.units * p.rows * p.classes),
});

const EMPTY_RULES = ["count", "zero", "skip"] as const;

export interface TverskyOptions {
  /**
   * "multiclass" (default): softmax over the last axis of logits `[..., c]`, labels u32 `[...]`. "binary": sigmoid,
   * logits `[..., 1]` or `[...]`, labels u32 0 or 1 of either shape. "multilabel": sigmoid of every element, labels u32
   * 0 or 1 of the shape of the logits.
   */
  readonly mode?: "multiclass" | "binary" | "multilabel";
  /** Weight of FALSE POSITIVES; default 0.7. The focal-Tversky paper's code puts its 0.7 on false negatives. */
  readonly alpha?: number;
  /** Weight of false negatives; default 0.3. */
  readonly beta?: number;
  /** The loss is (1 − TI)^(1/γ), with 1 − TI kept at 1e-6 or more and no gradient below that; default 1 (plain, no clamp). */
  readonly gamma?: number;
  /** Pixels (elements in "multilabel") with this label count for nothing; default 255. */
  readonly ignoreIndex?: number;
  /** Sums over the whole batch (default), or one index per image: the first axis of the labels counts images. */
  readonly reduce?: "batch" | "image";
  /** One index per class, then their mean (default); or one index of the sums over all classes. */
  readonly average?: "macro" | "micro";
  /** The classes that count; default all. */
  readonly classes?: readonly number[];
  /** One weight per class for the macro mean Σ w·loss / Σ w; default all 1. */
  readonly classWeights?: readonly number[];
  /**
   * What a class without one true pixel (in its image or batch) gives to the mean: "skip" (default) leaves it out,
   * "zero" counts it as loss 0 (smp), "count" takes the formula as it is: with smoothing its false positives cost.
   */
  readonly emptyClass?: (typeof EMPTY_RULES)[number];
  /** Loss −log max(TI, 1e-7) instead of 1 − TI. */
  readonly logLoss?: boolean;
  /** Where γ applies: to each class's (and image's) loss before the mean (default), or to the mean (smp). They differ. */
  readonly powOrder?: "class" | "mean";
  /** Added to the numerator; default 0. */
  readonly smoothNum?: number;
  /** Added to the denominator, which is kept at 1e-7 or more in any case; default 0. */
  readonly smoothDen?: number;
  /**
   * The loss of `resizeBilinear(logits, [H, W], upsample)` for logits `[n, h, w, c]` and labels of the larger size,
   * H >= h and W >= w (`[n, H, W]`, or as `mode` says). Upsampled logits are never stored, forward or backward.
   */
  readonly upsample?: { readonly alignCorners: boolean };
}

/**
 * Tversky loss from logits, fused: 1 − TI with TI = (TP + smoothNum) / (TP + α·FP + β·FN + smoothDen), where
 * TP = Σ p·[y = c], FP = Σ p·[y ≠ c], FN = Σ (1 − p)·[y = c] over the pixels that are not ignored (Salehi et al. 2017;
 * focal: Abraham and Khan 2018). **α weighs false positives.** With `reduce: "image"` the mean runs over images and
 * classes together. Labels outside the classes count as ignored. Where everything is ignored or left out the gradient is
 * 0, and so is the loss, but for `emptyClass: "count"` without smoothing (1: TI is 0) and the clamp of a focal mean
 * (`powOrder: "mean"`, 1e-4 at most).
 *
 * Logits are f32; shapes as `mode` says, with `upsample` for logits of a smaller map than the labels. Returns a scalar;
 * the gradient goes to the logits. Probabilities are never stored, beyond two numbers per pixel: the gradient recomputes
 * them.
 * @throws DTypeError, ShapeError where operands are not so; ArgumentError where an option is out of range.
 */
export function tversky(logits: Tensor, labels: Tensor, options: TverskyOptions = {}): Tensor {
  const o = checked(logits, labels, options);
  if (options.upsample) return tverskyUpsampled(logits, labels, options.upsample, o);
  const { classes, units, rows, softmax, ignore } = o;
  // A device's binding limit is kept by working in parts: of whole units, or of any rows where there is one unit.
  const items = Math.max(1, units > 1 ? units : rows);
  const byItem = (t: Tensor) => t.alias([items, t.size / items]);
  const unitsIn = (part: Tensor) => (units > 1 ? part.shape[0]! : 1);
  const rowsIn = (part: Tensor) => (units > 1 ? rows : part.size / classes);

  return scope(() => {
    const { device } = logits;
    // [units * rows, 2]; the sigmoid needs no such thing, and the labels stand in
    const norm = softmax ? Tensor.uninitialised(device, { shape: [units * rows, 2], dtype: "f32" }) : labels;
    const parts = batchParts("tversky", [byItem(logits), byItem(labels), byItem(norm)]);
    const most = Math.max(
      1,
      Math.floor((SUM_THREADS_PER_LANE * device.lanes) / (classes * (units > 1 ? units : parts.length))),
    );
    const plans = parts.map(([z]) => twoStage(rowsIn(z), most));
    // Parts of one unit lie side by side as more chunks; parts of several units have as many chunks each.
    const chunks = units > 1 ? plans[0]!.threads : plans.reduce((sum, plan) => sum + plan.threads, 0);
    const partials = Tensor.uninitialised(device, { shape: [units, chunks, classes, 3], dtype: "f32" });
    let start = 0;
    parts.forEach(([z, y, n], i) => {
      const { threads, block } = plans[i]!;
      const params = { units: unitsIn(z), rows: rowsIn(z), classes, chunks: threads, block, ignore };
      const target = partials.part(start, [params.units, threads, classes, 3]);
      start += target.size;
      if (softmax) {
        runInto(rowNorm, [z], [n], { rows: params.units * params.rows, classes });
        runInto(sumsSoftmax, [z, y, n], [target], params);
      } else {
        runInto(sumsSigmoid, [z, y], [target], params);
      }
    });
    const { loss, slopes } = indexOf(partials, o);

    return differentiable([logits], [logits, labels, norm, slopes], loss, (dy, [z, y, n, ab]) => {
      const dlogits = Tensor.uninitialised(device, z.spec);
      let firstUnit = 0;
      for (const part of batchParts("tversky", [byItem(z), byItem(y), byItem(n), byItem(dlogits)])) {
        const [zPart, yPart, nPart, target] = part;
        const params = { units: unitsIn(zPart), rows: rowsIn(zPart), classes, first_unit: firstUnit, ignore };
        if (softmax) runInto(gradSoftmax, [zPart, yPart, nPart, ab, dy], [target], params);
        else runInto(gradSigmoid, [zPart, yPart, ab, dy], [target], params);
        if (units > 1) firstUnit += params.units;
      }
      return [dlogits];
    });
  });
}

/** `[n, H, W, c]`: the logits as large as the labels. @throws ShapeError where they cannot be. */
function upsampledShape(logits: Tensor, labels: Tensor): Shape {
  const operands = { logits: logits.spec, labels: labels.spec };
  if (logits.rank !== 4 || logits.size === 0 || labels.rank < 3) {
    throw new ShapeError("tversky", "upsample takes logits [n, h, w, c] and labels [n, H, W], not empty", operands);
  }
  const [n, h, w, c] = logits.shape as [number, number, number, number];
  const [, outH, outW] = labels.shape as [number, number, number];
  if (outH < h || outW < w) throw new ShapeError("tversky", "upsample takes no smaller map of labels", operands);
  return [n, outH, outW, c];
}

/** Checks operands and options, and works out the layout and the parameters of the index. */
function checked(logits: Tensor, labels: Tensor, options: TverskyOptions) {
  const {
    mode = "multiclass",
    alpha = 0.7,
    beta = 0.3,
    gamma = 1,
    ignoreIndex: ignore = 255,
    reduce = "batch",
    average = "macro",
    classes: subset,
    classWeights,
    emptyClass = "skip",
    logLoss = false,
    powOrder = "class",
    smoothNum = 0,
    smoothDen = 0,
    upsample,
  } = options;
  const operands = { logits: logits.spec, labels: labels.spec };
  const among = <T extends string>(name: string, value: T, allowed: readonly T[]) => {
    if (!allowed.includes(value)) {
      throw new ArgumentError("tversky", `${name} must be one of ${allowed.join(", ")}, not ${String(value)}`);
    }
  };
  among("mode", mode, ["multiclass", "binary", "multilabel"]);
  among("reduce", reduce, ["batch", "image"]);
  among("average", average, ["macro", "micro"]);
  among("emptyClass", emptyClass, EMPTY_RULES);
  among("powOrder", powOrder, ["class", "mean"]);
  for (const [name, value] of Object.entries({ alpha, beta, smoothNum, smoothDen })) {
    if (!(value >= 0 && Number.isFinite(value))) {
      throw new ArgumentError("tversky", `${name} must be finite and zero or more, not ${value}`);
    }
  }
  if (!(gamma > 0 && Number.isFinite(gamma))) throw new ArgumentError("tversky", `gamma must be above 0, not ${gamma}`);
  checkIgnoreIndex("tversky", ignore);

  if (logits.dtype !== "f32") throw new DTypeError("tversky", "logits must be f32", operands);
  if (labels.dtype !== "u32") throw new DTypeError("tversky", "labels must be u32", operands);
  const softmax = mode === "multiclass";
  const shape = upsample ? upsampledShape(logits, labels) : logits.shape;
  if (mode !== "binary" && shape.length === 0)
    throw new ShapeError("tversky", "logits need a last axis of classes", operands);
  const [front, classes] = mode === "binary" ? [shape, 1] : [shape.slice(0, -1), shape.at(-1)!];
  if (classes < 1) throw new ShapeError("tversky", "there must be at least one class", operands);
  const withChannel = (a: Shape, b: Shape) => a.at(-1) === 1 && sameShape(a.slice(0, -1), b);
  const fits =
    mode === "multiclass"
      ? sameShape(labels.shape, front)
      : sameShape(labels.shape, shape) ||
        (mode === "binary" && (withChannel(shape, labels.shape) || withChannel(labels.shape, shape)));
  if (!fits) {
    const of = upsample ? "upsampled logits" : "logits";
    const wanted = mode === "multiclass" ? `the shape of ${of} without its last axis` : `the shape of ${of}`;
    throw new ShapeError("tversky", `labels must have ${wanted} in mode "${mode}"`, operands);
  }
  if (subset && (subset.length === 0 || subset.some((k) => !Number.isInteger(k) || k < 0 || k >= classes))) {
    throw new ArgumentError(
      "tversky",
      `classes must name classes from 0 to ${classes - 1}, not [${subset.join(", ")}]`,
    );
  }
  if (classWeights) {
    checkClassWeights("tversky", classWeights, classes);
    if (average === "micro") {
      throw new ArgumentError(
        "tversky",
        'classWeights weigh the mean over classes, which average "micro" does not take',
      );
    }
  }
  // Classes outside the subset have weight 0: they count neither in the mean nor in the sums of "micro".
  const weights =
    subset || classWeights
      ? Array.from({ length: classes }, (_, k) => (!subset || subset.includes(k) ? (classWeights?.[k] ?? 1) : 0))
      : null;
  const pixels = sizeOf(front);
  const units = reduce === "image" ? Math.max(1, front[0] ?? 1) : 1;
  return {
    classes,
    units,
    rows: pixels / units,
    softmax,
    ignore,
    weights,
    indexParams: {
      micro: average === "micro" ? 1 : 0,
      alpha,
      beta,
      smooth_num: smoothNum,
      smooth_den: smoothDen,
      exponent: 1 / gamma,
      mean_first: powOrder === "mean" ? 1 : 0,
      log_loss: logLoss ? 1 : 0,
      empty: EMPTY_RULES.indexOf(emptyClass),
    },
  };
}
