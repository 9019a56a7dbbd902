import { type BatchNormOptions, Module } from "../nn/index.js";
import type { Tensor } from "../tensor.js";

/** What a decoder needs of a backbone. */
export interface Encoded {
  /** `[n, ⌈h / 4⌉, ⌈w / 4⌉, lowLevel channels]` */
  readonly lowLevel: Tensor;
  /** `[n, ⌈h / outputStride⌉, ⌈w / outputStride⌉, encoder channels]` */
  readonly encoder: Tensor;
}

/** How a backbone is cut to an output stride; the published DeepLabs differ in these. */
export interface EncoderOptions {
  readonly inChannels: number;
  readonly outputStride: 8 | 16;
  /** Scales a published channel count. */
  readonly channels: (published: number) => number;
  readonly norm: BatchNormOptions;
  /**
   * Rate of the first block of a stage whose stride became a dilation: the rate before ("previous": it still looks at
   * the undilated map; torchvision, VainF) or the stage's own ("stage": smp).
   */
  readonly firstBlock: "previous" | "stage";
}

/** A backbone: an image to features at stride 4 and at the output stride. */
export abstract class Encoder extends Module {
  abstract readonly channels: { readonly lowLevel: number; readonly encoder: number };
  abstract forward(x: Tensor): Encoded;
}

/**
 * Trades strides for dilation beyond the output stride: for the strides of successive stages gives the stride to use
 * and the rates of a stage's first block and of its others.
 */
export function atrousStages(
  strides: readonly number[],
  start: number,
  { outputStride, firstBlock }: EncoderOptions,
): { stride: number; first: number; rest: number }[] {
  let reached = start;
  let rate = 1;
  return strides.map((published) => {
    const before = rate;
    const stride = reached * published <= outputStride ? published : 1;
    if (stride === published) reached *= published;
    else rate *= published;
    return { stride, first: firstBlock === "previous" ? before : rate, rest: rate };
  });
}
