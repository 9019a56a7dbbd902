import type { ParamsOf } from "../kernel.js";
import { defineKernel } from "../kernel.js";
import { run, Tensor } from "../tensor.js";
import { blockOf } from "./partials.js";

const combineSums = defineKernel({
  name: "tversky.combine_sums",
  inputs: ["partials"],
  outputs: ["sums"],
  params: { units: "u32", chunks: "u32", classes: "u32", block: "u32" },
  groups: (p) => [p.classes, Math.min(p.units, 32768), Math.ceil(p.units / 32768)],
});
const index = defineKernel({
  name: "tversky.index",
  inputs: ["sums", "weights"],
  outputs: ["loss", "slopes"],
  params: {
    units: "u32",
    classes: "u32",
    micro: "u32",
    alpha: "f32",
    beta: "f32",
    smooth_num: "f32",
    smooth_den: "f32",
    exponent: "f32",
    mean_first: "u32",
    log_loss: "u32",
    empty: "u32",
  },
  groups: () => [1, 1, 1],
});

/**
 * Most threads (one per class and chunk of pixels) of the first stage of the sums, as a multiple of the device's lanes:
 * 262,144 on a GPU. With 10⁸ pixels of 21 classes a chunk is then 8,011 pixels and the longest chain of additions
 * 90 + 89 + 14 + 14 + 6 long (see partials.ts): a relative error of at most 1.3·10⁻⁵, about 9·10⁻⁷ for roundings without bias.
 */
export const SUM_THREADS_PER_LANE = 4;

/** What the index is made of besides the sums. */
export interface IndexLayout {
  readonly classes: number;
  /** What an index is computed over: images, or one batch. */
  readonly units: number;
  /** One per class; null for all 1. */
  readonly weights: readonly number[] | null;
  readonly indexParams: Omit<ParamsOf<typeof index.params>, "units" | "classes">;
}

/**
 * From partial sums `[units, chunks, classes, 3]` (TP, FP, true pixels) to the loss and its slopes
 * `[units, classes, 2]`: the derivatives by the probability of a true and of a false pixel of the class.
 */
export function indexOf(partials: Tensor, { classes, units, weights, indexParams }: IndexLayout) {
  const { device } = partials;
  const chunks = partials.shape[1]!;
  const [sums] = run(combineSums, [partials], [{ shape: [units, classes, 3], dtype: "f32" }], {
    units,
    chunks,
    classes,
    block: blockOf(chunks, 64),
  });
  const [loss, slopes] = run(
    index,
    [sums, weights ? Tensor.from(device, weights) : Tensor.ones(device, [classes])],
    [
      { shape: [], dtype: "f32" },
      { shape: [units, classes, 2], dtype: "f32" },
    ],
    { units, classes, ...indexParams },
  );
  return { loss, slopes };
}
