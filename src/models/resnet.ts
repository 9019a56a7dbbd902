import { BatchNorm, Conv2d, convBatchNorm, kaimingNormal, Layer, Sequential } from "../nn/index.js";
import { maxPool2d } from "../ops/index.js";
import { scope, type Tensor } from "../tensor.js";
import { atrousStages, type Encoded, Encoder, type EncoderOptions } from "./encoder.js";

export type ResNetDepth = 18 | 34 | 50 | 101;

const blocksPerStage: Readonly<Record<ResNetDepth, readonly [number, number, number, number]>> = {
  18: [2, 2, 2, 2],
  34: [3, 4, 6, 3],
  50: [3, 4, 6, 3],
  101: [3, 4, 23, 3],
};

const initial = kaimingNormal("fanOut");

/** Behind the first convolution. */
export const stemPool = { kernel: 3, stride: 2, padding: 1 } as const;

/** Two 3x3 convolutions, or 1x1, 3x3, 1x1, and a shortcut. He et al. 2016; stride on the 3x3 as torchvision has it. */
export class ResidualBlock extends Layer {
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm;
  readonly conv3: Conv2d | null = null;
  readonly bn3: BatchNorm | null = null;
  readonly downsample: Sequential | null = null;

  constructor(
    from: number,
    planes: number,
    to: number,
    place: { stride: number; dilation: number; bottleneck: boolean; project: boolean },
    norm: EncoderOptions["norm"],
  ) {
    super();
    const { stride, dilation, bottleneck, project } = place;
    const spatial = { stride, dilation, initial };
    this.conv1 = bottleneck ? new Conv2d(from, planes, 1, { initial }) : new Conv2d(from, planes, 3, spatial);
    this.bn1 = new BatchNorm(planes, norm);
    this.conv2 = bottleneck ? new Conv2d(planes, planes, 3, spatial) : new Conv2d(planes, to, 3, { dilation, initial });
    this.bn2 = new BatchNorm(bottleneck ? planes : to, norm);
    if (bottleneck) {
      this.conv3 = new Conv2d(planes, to, 1, { initial });
      this.bn3 = new BatchNorm(to, norm);
    }
    if (project) {
      this.downsample = new Sequential(new Conv2d(from, to, 1, { stride, initial }), new BatchNorm(to, norm));
    }
  }

  override forward(x: Tensor): Tensor {
    return scope(() => {
      const joined = { residual: this.downsample ? this.downsample.forward(x) : x, relu: true };
      const y = convBatchNorm(this.conv1, this.bn1, x, { relu: true });
      if (!this.conv3 || !this.bn3) return convBatchNorm(this.conv2, this.bn2, y, joined);
      return convBatchNorm(this.conv3, this.bn3, convBatchNorm(this.conv2, this.bn2, y, { relu: true }), joined);
    });
  }
}

/**
 * ResNet without its classifier, named as torchvision names it (`layer1.0.conv1.weight`). Low-level features are those
 * of layer1.
 */
export class ResNet extends Encoder {
  override readonly channels: { readonly lowLevel: number; readonly encoder: number };
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm;
  readonly layer1: Sequential;
  readonly layer2: Sequential;
  readonly layer3: Sequential;
  readonly layer4: Sequential;

  constructor(depth: ResNetDepth, options: EncoderOptions) {
    super();
    const { channels, norm } = options;
    const bottleneck = depth >= 50;
    const expansion = bottleneck ? 4 : 1;
    let from = channels(64);
    this.conv1 = new Conv2d(options.inChannels, from, 7, { stride: 2, initial });
    this.bn1 = new BatchNorm(from, norm);
    const stages = atrousStages([1, 2, 2, 2], 4, options).map(({ stride, first, rest }, i) => {
      const planes = channels(64 * 2 ** i);
      const to = channels(64 * 2 ** i * expansion);
      const blocks = Array.from({ length: blocksPerStage[depth][i]! }, (_, k) => {
        // Wherever the published network changes channels or size, whatever width and output stride make of it.
        const project = k === 0 && (i > 0 || bottleneck);
        const place = { stride: k === 0 ? stride : 1, dilation: k === 0 ? first : rest, bottleneck, project };
        const block = new ResidualBlock(from, planes, to, place, norm);
        from = to;
        return block;
      });
      return new Sequential(...blocks);
    });
    [this.layer1, this.layer2, this.layer3, this.layer4] = stages as [Sequential, Sequential, Sequential, Sequential];
    this.channels = { lowLevel: channels(64 * expansion), encoder: from };
  }

  override forward(x: Tensor): Encoded {
    return scope(() => {
      const stem = convBatchNorm(this.conv1, this.bn1, x, { relu: true });
      const lowLevel = this.layer1.forward(maxPool2d(stem, stemPool));
      const encoder = this.layer4.forward(this.layer3.forward(this.layer2.forward(lowLevel)));
      return { lowLevel, encoder };
    });
  }
}
