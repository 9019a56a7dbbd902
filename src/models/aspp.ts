import {
  BatchNorm,
  Conv2d,
  Dropout,
  GlobalAvgPool,
  GroupNorm,
  type Initialiser,
  Layer,
  ReLU,
  Sequential,
} from "../nn/index.js";
import { concat, resizeBilinear } from "../ops/index.js";
import type { Generator } from "../random.js";
import { scope, type Tensor } from "../tensor.js";

/** First values of a head's convolutions. */
export interface HeadInitialisers {
  readonly dense: Initialiser;
  readonly depthwise: Initialiser;
  readonly pointwise: Initialiser;
}

/** A 3x3 convolution: dense, depthwise and 1x1 directly after one another, or with normalisation and ReLU in between. */
export type Separation = "dense" | "plain" | "normalised";

/** 1x1 convolution, normalisation, ReLU. */
export const pointwiseBlock = (from: number, to: number, initial: Initialiser): Sequential =>
  new Sequential(new Conv2d(from, to, 1, { initial }), new BatchNorm(to), new ReLU());

/** 3x3 convolution (see `Separation`), normalisation, ReLU: `0` is the convolution, `1` the normalisation. */
export function spatialBlock(
  from: number,
  to: number,
  { dilation, separation, initial }: { dilation: number; separation: Separation; initial: HeadInitialisers },
): Sequential {
  return new Sequential(spatial(), new BatchNorm(to), new ReLU());

  function spatial(): Layer {
    if (separation === "dense") return new Conv2d(from, to, 3, { dilation, initial: initial.dense });
    return new Sequential(
      new Conv2d(from, from, 3, { dilation, groups: from, initial: initial.depthwise }),
      ...(separation === "normalised" ? [new BatchNorm(from), new ReLU()] : []),
      new Conv2d(from, to, 1, { initial: initial.pointwise }),
    );
  }
}

export interface ASPPOptions {
  /** Dilation of the three 3x3 branches. */
  readonly rates: readonly [number, number, number];
  readonly separation: Separation;
  readonly dropout: number;
  /** Normalisation of the pooled branch: "batch" has one value per image and channel; "group" works for one image. */
  readonly imagePooling: "batch" | "group";
  readonly initial: HeadInitialisers;
  /** Random numbers of dropout. */
  readonly generator: () => Generator;
}

/**
 * Atrous spatial pyramid pooling: a 1x1 convolution, three dilated 3x3 ones and the image's mean, side by side, projected
 * to `to` channels. Branches are ordered as the PyTorch ports have them (TensorFlow puts the mean first; the function is
 * the same). Chen et al. 2017 (DeepLabV3), section 3.3.
 */
export class ASPP extends Layer {
  readonly convs: readonly Layer[];
  readonly project: Sequential;

  constructor(from: number, to: number, options: ASPPOptions) {
    super();
    const { rates, separation, initial, imagePooling } = options;
    // At most 32 groups of at least 8 channels: all that a pooled map has to normalise over.
    const norm = imagePooling === "batch" ? new BatchNorm(to) : new GroupNorm(to, Math.max(1, Math.min(32, to / 8)));
    this.convs = [
      pointwiseBlock(from, to, initial.dense),
      ...rates.map((dilation) => spatialBlock(from, to, { dilation, separation, initial })),
      new Sequential(new GlobalAvgPool(), new Conv2d(from, to, 1, { initial: initial.dense }), norm, new ReLU()),
    ];
    this.project = new Sequential(
      new Conv2d(5 * to, to, 1, { initial: initial.dense }),
      new BatchNorm(to),
      new ReLU(),
      new Dropout(options.dropout, options.generator),
    );
  }

  override forward(x: Tensor): Tensor {
    return scope(() => {
      const [, h, w] = x.shape as [number, number, number, number];
      const branches = this.convs.map((branch) => branch.forward(x));
      const pooled = branches.pop()!; // [n, 1, 1, to]
      // One pixel resized is that pixel everywhere, whichever way corners are aligned.
      branches.push(resizeBilinear(pooled, [h, w], { alignCorners: false }));
      return this.project.forward(concat(branches));
    });
  }
}
