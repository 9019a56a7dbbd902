import { type AfterNorm, BatchNorm, Conv2d, convBatchNorm, kaimingNormal, Layer } from "../nn/index.js";
import { relu } from "../ops/index.js";
import { scope, type Tensor } from "../tensor.js";
import { atrousStages, type Encoded, Encoder, type EncoderOptions } from "./encoder.js";

const initial = kaimingNormal("fanOut");

/** Convolution, normalisation, and ReLU where asked. */
export class ConvNorm extends Layer {
  readonly conv: Conv2d;
  readonly bn: BatchNorm;
  readonly activate: boolean;

  constructor(
    from: number,
    to: number,
    kernel: number,
    { stride, activate, norm }: { stride: number; activate: boolean; norm: EncoderOptions["norm"] },
  ) {
    super();
    this.conv = new Conv2d(from, to, kernel, { stride, initial });
    this.bn = new BatchNorm(to, norm);
    this.activate = activate;
  }

  override forward(x: Tensor): Tensor {
    return convBatchNorm(this.conv, this.bn, x, { relu: this.activate });
  }
}

/** 3x3 depthwise and 1x1, each normalised, with ReLU between them where asked. */
export class SeparableConv extends Layer {
  readonly convDw: Conv2d;
  readonly bnDw: BatchNorm;
  readonly convPw: Conv2d;
  readonly bnPw: BatchNorm;
  readonly activate: boolean;

  constructor(
    from: number,
    to: number,
    { stride, dilation, activate }: { stride: number; dilation: number; activate: boolean },
    norm: EncoderOptions["norm"],
  ) {
    super();
    this.convDw = new Conv2d(from, from, 3, { stride, dilation, groups: from, initial });
    this.bnDw = new BatchNorm(from, norm);
    this.convPw = new Conv2d(from, to, 1, { initial });
    this.bnPw = new BatchNorm(to, norm);
    this.activate = activate;
  }

  override forward(x: Tensor, after: AfterNorm = {}): Tensor {
    return scope(() => {
      const y = convBatchNorm(this.convDw, this.bnDw, x, { relu: this.activate });
      return convBatchNorm(this.convPw, this.bnPw, y, after);
    });
  }
}

/** Where a stack has its ReLUs: before each separable convolution, or behind each and inside it. */
type Activation = "before" | "within";

/** Three separable convolutions with ReLUs; the last one may stride. */
export class XceptionStack extends Layer {
  readonly conv1: SeparableConv;
  readonly conv2: SeparableConv;
  readonly conv3: SeparableConv;
  readonly within: boolean;
  readonly linearSecond: boolean;

  constructor(
    from: number,
    to: readonly [number, number, number],
    place: { stride: number; dilation: number; activation: Activation; linearSecond: boolean },
    norm: EncoderOptions["norm"],
  ) {
    super();
    const { stride, dilation } = place;
    const activate = place.activation === "within";
    this.conv1 = new SeparableConv(from, to[0], { stride: 1, dilation, activate }, norm);
    this.conv2 = new SeparableConv(to[0], to[1], { stride: 1, dilation, activate }, norm);
    this.conv3 = new SeparableConv(to[1], to[2], { stride, dilation, activate }, norm);
    this.within = activate;
    this.linearSecond = place.linearSecond;
  }

  /** What the second convolution gives, after the ReLU that follows it, or before it (`linearSecond`). */
  second(x: Tensor): Tensor {
    return scope(() => {
      const y = this.conv1.forward(this.within ? x : relu(x), { relu: true });
      return this.conv2.forward(y, { relu: !this.linearSecond });
    });
  }
  /** The stack's output, given what `second` gave. */
  third(second: Tensor, after: AfterNorm = {}): Tensor {
    return scope(() => {
      const y = this.linearSecond ? relu(second) : second;
      return this.conv3.forward(y, { ...after, relu: this.within });
    });
  }
  override forward(x: Tensor): Tensor {
    return scope(() => this.third(this.second(x)));
  }
}

export class XceptionBlock extends Layer {
  readonly shortcut: ConvNorm | null;
  readonly stack: XceptionStack;
  readonly adds: boolean;

  constructor(
    from: number,
    to: readonly [number, number, number],
    place: {
      stride: number;
      dilation: number;
      shortcut: "none" | "identity" | "projection";
      linearSecond: boolean;
    },
    norm: EncoderOptions["norm"],
  ) {
    super();
    const { stride, dilation, shortcut, linearSecond } = place;
    this.shortcut = shortcut === "projection" ? new ConvNorm(from, to[2], 1, { stride, activate: false, norm }) : null;
    // The block without a shortcut ends the network: its ReLUs come after, so that the features are not negative.
    const activation = shortcut === "none" ? "within" : "before";
    this.stack = new XceptionStack(from, to, { stride, dilation, activation, linearSecond }, norm);
    this.adds = shortcut !== "none";
  }

  override forward(x: Tensor): Tensor {
    return scope(() => this.finish(x, this.stack.second(x)));
  }

  /** The block's output, given what its second convolution gave. */
  finish(x: Tensor, second: Tensor): Tensor {
    return scope(() => {
      if (!this.adds) return this.stack.third(second);
      return this.stack.third(second, { residual: this.shortcut ? this.shortcut.forward(x) : x });
    });
  }
}

export interface XceptionOptions extends EncoderOptions {
  /** Low-level features after the ReLU that follows the second convolution of the second block (timm), or before it (TensorFlow). */
  readonly activatedLowLevel: boolean;
}

/** Channels of the three convolutions, stride, shortcut. Chen et al. 2018 (DeepLabV3+), figure 4. */
const blocks: readonly {
  to: readonly [number, number, number];
  stride: number;
  shortcut: "none" | "identity" | "projection";
}[] = [
  { to: [128, 128, 128], stride: 2, shortcut: "projection" },
  { to: [256, 256, 256], stride: 2, shortcut: "projection" },
  { to: [728, 728, 728], stride: 2, shortcut: "projection" },
  ...Array.from({ length: 16 }, () => ({ to: [728, 728, 728], stride: 1, shortcut: "identity" }) as const),
  { to: [728, 1024, 1024], stride: 2, shortcut: "projection" },
  { to: [1536, 1536, 2048], stride: 1, shortcut: "none" },
];

/**
 * Aligned Xception-65: strided separable convolutions in place of max pooling. Named as timm names it
 * (`blocks.0.stack.conv1.conv_dw.weight`). Low-level features are those inside the second block, at stride 4.
 */
export class Xception65 extends Encoder {
  override readonly channels: { readonly lowLevel: number; readonly encoder: number };
  readonly stem: readonly ConvNorm[];
  readonly blocks: readonly XceptionBlock[];

  constructor(options: XceptionOptions) {
    super();
    const { channels, norm } = options;
    let from = channels(64);
    this.stem = [
      new ConvNorm(options.inChannels, channels(32), 3, { stride: 2, activate: true, norm }),
      new ConvNorm(channels(32), from, 3, { stride: 1, activate: true, norm }),
    ];
    // One block is one stage here, and a block that lost its stride looks at the undilated map, in every port.
    const places = atrousStages(
      blocks.map(({ stride }) => stride),
      2,
      { ...options, firstBlock: "previous" },
    );
    this.blocks = blocks.map(({ to, shortcut }, i) => {
      const { stride, first } = places[i]!;
      const scaled = to.map(channels) as [number, number, number];
      const linearSecond = i === 1 && !options.activatedLowLevel;
      const block = new XceptionBlock(from, scaled, { stride, dilation: first, shortcut, linearSecond }, norm);
      from = scaled[2];
      return block;
    });
    this.channels = { lowLevel: channels(256), encoder: from };
  }

  override forward(x: Tensor): Encoded {
    return scope(() => {
      const [first, second, ...rest] = this.blocks as [XceptionBlock, XceptionBlock, ...XceptionBlock[]];
      const entry = scope(() => first.forward(this.stem.reduce((value, layer) => layer.forward(value), x)));
      const lowLevel = second.stack.second(entry);
      const encoder = scope(() => rest.reduce((value, block) => block.forward(value), second.finish(entry, lowLevel)));
      return { lowLevel, encoder };
    });
  }
}
