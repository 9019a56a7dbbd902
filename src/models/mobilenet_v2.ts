import { BatchNorm, Conv2d, convBatchNorm, kaimingNormal, Layer, ReLU6, Sequential } from "../nn/index.js";
import { pad } from "../ops/index.js";
import { scope, type Tensor } from "../tensor.js";
import { atrousStages, type Encoded, Encoder, type EncoderOptions } from "./encoder.js";

/** Sandler et al. 2018, table 2: expansion, channels, blocks, stride. */
const stages = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

const initial = kaimingNormal("fanOut");

export interface MobileNetV2Options extends EncoderOptions {
  /** Ends in the 1x1 convolution to 1280 channels (smp) rather than in the last block's 320 (DeepLab, VainF). */
  readonly lastConv: boolean;
  /**
   * Zeros are added before a block's expansion instead of before its 3x3 convolution, and not at all in the stem:
   * what VainF does, so that its border values differ.
   */
  readonly padsInput: boolean;
}

/** 1x1 expansion, 3x3 depthwise, linear 1x1, and the input added in all but the first block of a stage. */
export class InvertedResidual extends Layer {
  readonly conv: Sequential;
  /** `conv` in two: all but the last convolution and its normalisation, and those, which add the input. */
  readonly #body: Sequential;
  readonly #last: readonly [Conv2d, BatchNorm];
  /** Zeros around its input. */
  readonly margin: number;
  /** Whether its input is added to its output. */
  readonly adds: boolean;

  constructor(
    from: number,
    to: number,
    place: { expansion: number; stride: number; dilation: number; adds: boolean },
    { norm, padsInput }: MobileNetV2Options,
  ) {
    super();
    const { expansion, stride, dilation } = place;
    const hidden = from * expansion;
    const depthwise = { stride, dilation, groups: hidden, initial, ...(padsInput && { padding: 0 }) };
    const body = [
      ...(expansion === 1
        ? []
        : [new Sequential(new Conv2d(from, hidden, 1, { initial }), new BatchNorm(hidden, norm), new ReLU6())]),
      new Sequential(new Conv2d(hidden, hidden, 3, depthwise), new BatchNorm(hidden, norm), new ReLU6()),
    ];
    this.#body = new Sequential(...body);
    this.#last = [new Conv2d(hidden, to, 1, { initial }), new BatchNorm(to, norm)];
    this.conv = new Sequential(...body, ...this.#last);
    this.margin = padsInput ? dilation : 0;
    this.adds = place.adds;
  }

  override forward(x: Tensor): Tensor {
    return scope(() => {
      const margin = [this.margin, this.margin] as const;
      const y = this.#body.forward(this.margin > 0 ? pad(x, [[0, 0], margin, margin, [0, 0]]) : x);
      return convBatchNorm(...this.#last, y, this.adds ? { residual: x } : {});
    });
  }
}

/** MobileNetV2 without its classifier, named as torchvision names it. Low-level features are those of `features.3`. */
export class MobileNetV2 extends Encoder {
  override readonly channels: { readonly lowLevel: number; readonly encoder: number };
  readonly features: readonly Layer[];

  constructor(options: MobileNetV2Options) {
    super();
    const { channels, norm } = options;
    let from = channels(32);
    const stem = { stride: 2, initial, ...(options.padsInput && { padding: 0 }) };
    const features: Layer[] = [
      new Sequential(new Conv2d(options.inChannels, from, 3, stem), new BatchNorm(from, norm), new ReLU6()),
    ];
    const strides = stages.map(([, , , stride]) => stride);
    atrousStages(strides, 2, options).forEach(({ stride, first, rest }, i) => {
      const [expansion, published, blocks] = stages[i]!;
      const to = channels(published);
      for (let k = 0; k < blocks; k++) {
        // A stage's first block changes the channels, so it never adds its input, whatever `width` makes of the counts.
        const place = { expansion, stride: k === 0 ? stride : 1, dilation: k === 0 ? first : rest, adds: k > 0 };
        features.push(new InvertedResidual(from, to, place, options));
        from = to;
      }
    });
    if (options.lastConv) {
      const last = channels(1280);
      features.push(new Sequential(new Conv2d(from, last, 1, { initial }), new BatchNorm(last, norm), new ReLU6()));
      from = last;
    }
    this.features = features;
    this.channels = { lowLevel: channels(24), encoder: from };
  }

  override forward(x: Tensor): Encoded {
    return scope(() => {
      const through = (layers: readonly Layer[], from: Tensor) =>
        scope(() => layers.reduce((value, layer) => layer.forward(value), from));
      const lowLevel = through(this.features.slice(0, 4), x);
      return { lowLevel, encoder: through(this.features.slice(4), lowLevel) };
    });
  }
}
