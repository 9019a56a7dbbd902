import { type TverskyOptions, tversky } from "./ops/tversky.js";
import type { Tensor } from "./tensor.js";

export { type BinaryCrossEntropyOptions, binaryCrossEntropy } from "./ops/binary_cross_entropy.js";
export { type CrossEntropyOptions, crossEntropy } from "./ops/cross_entropy.js";
export { type TverskyOptions, tversky } from "./ops/tversky.js";

/**
 * Focal Tversky loss (1 − TI)^(1/γ), γ 4/3 unless given (Abraham and Khan 2018): `tversky` with another default. Where
 * code elsewhere writes (1 − TI)^γ with γ = 0.75 (smp, nabsabraham), γ here is 1 / 0.75.
 * @throws as `tversky`.
 */
export const focalTversky = (logits: Tensor, labels: Tensor, options: TverskyOptions = {}): Tensor =>
  tversky(logits, labels, { gamma: 4 / 3, ...options });

/** What `tversky` takes besides α and β, which Dice and Jaccard fix (a preset's are overruled). */
export type OverlapOptions = Omit<TverskyOptions, "alpha" | "beta">;

/** Soft Dice loss 1 − 2TP / (2TP + FP + FN): Tversky with α = β = ½. @throws as `tversky`. */
export const diceLoss = (logits: Tensor, labels: Tensor, options: OverlapOptions = {}): Tensor =>
  tversky(logits, labels, { ...options, alpha: 0.5, beta: 0.5 });

/** Soft Jaccard loss 1 − TP / (TP + FP + FN): Tversky with α = β = 1. @throws as `tversky`. */
export const jaccardLoss = (logits: Tensor, labels: Tensor, options: OverlapOptions = {}): Tensor =>
  tversky(logits, labels, { ...options, alpha: 1, beta: 1 });

/**
 * The conventions of four public implementations, as options of `tversky`: `tversky(z, y, { ...tverskyPresets.smp,
 * alpha: 0.7, beta: 0.3 })`. Each holds that library's own defaults, α weighing false positives as everywhere here.
 *
 * - `smp`: segmentation_models_pytorch `TverskyLoss` (from_logits): sums over the batch, denominator kept at 1e-7, a class
 *   without true pixels gives 0 but stays in the mean, γ applies to the mean and as mean^γ: pass `gamma: 1 / γ`.
 * - `monai`: MONAI `TverskyLoss(softmax=True, to_onehot_y=True)`: an index per image, smoothed by 1e-5, mean over images
 *   and classes. Its `batch=True` is `reduce: "batch"`, its `sigmoid=True` the mode "multilabel".
 * - `mmseg`: mmsegmentation `TverskyLoss`: an index per image, smoothed by 1, α 0.3, β 0.7. Its class weights are not
 *   normalised: multiply the result by their mean. Unlike there, `ignoreIndex` below the number of classes takes that
 *   class out of the pixels only, and "count" keeps it in the mean.
 * - `abraham`: nabsabraham/focal-tversky-unet `focal_tversky`: one index over batch and classes, smoothed by 1,
 *   (1 − TI)^0.75; its α = 0.7 weighs false negatives and is β here.
 */
export const tverskyPresets = {
  smp: { alpha: 0.5, beta: 0.5, reduce: "batch", emptyClass: "zero", powOrder: "mean" },
  monai: { alpha: 0.5, beta: 0.5, reduce: "image", emptyClass: "count", smoothNum: 1e-5, smoothDen: 1e-5 },
  mmseg: { alpha: 0.3, beta: 0.7, reduce: "image", emptyClass: "count", smoothNum: 1, smoothDen: 1 },
  abraham: {
    alpha: 0.3,
    beta: 0.7,
    gamma: 4 / 3,
    reduce: "batch",
    average: "micro",
    emptyClass: "count",
    smoothNum: 1,
    smoothDen: 1,
  },
} as const satisfies Record<string, TverskyOptions>;
