import type { Backend } from "../backends/backend.js";
import { ArgumentError, ShapeError } from "../errors.js";
import {
  BatchNorm,
  Conv2d,
  GlobalAvgPool,
  type Layer,
  LeakyReLU,
  Linear,
  Module,
  ReLU,
  Sequential,
  torchDefault,
} from "../nn/index.js";
import { cast, reshape } from "../ops/index.js";
import { scope, type Tensor } from "../tensor.js";

export interface ConvolutionalDiscriminatorOptions {
  readonly kind: "convolutional";
  /** Channels of the map it looks at: `tapChannels(model, tap)`. */
  readonly inChannels: number;
  /** Channels of the first convolution, doubled by each further one but the last, which has 1; default 64. */
  readonly width?: number;
  /** One convolution for each, the last one's included; default [1, 2, 1]: a 32x32 map gives 16x16 verdicts. */
  readonly strides?: readonly number[];
  /** Side of every kernel; default 3. */
  readonly kernel?: number;
  /** Of the first values; default 0. */
  readonly seed?: number;
}

export interface GlobalDiscriminatorOptions {
  readonly kind: "global";
  readonly inChannels: number;
  /** Channels of both hidden layers; default 256. */
  readonly width?: number;
  /** Batch normalisation after the hidden layers; default false: it lets one domain's batch give itself away. */
  readonly norm?: boolean;
  readonly seed?: number;
}

export type DomainDiscriminatorOptions = ConvolutionalDiscriminatorOptions | GlobalDiscriminatorOptions;

/**
 * AdaptSegNet's discriminator (Tsai et al. 2018), also ADVENT's: five 4x4 convolutions of stride 2. Meant for maps of the
 * image's size (taps "softmax" and "entropy"); it shrinks the 32x32 features of a 512 crop to one verdict.
 */
export const adaptSegNetDiscriminator = {
  kind: "convolutional",
  width: 64,
  strides: [2, 2, 2, 2, 2],
  kernel: 4,
} as const satisfies Omit<ConvolutionalDiscriminatorOptions, "inChannels">;

/**
 * Tells source (0) from target (1). "convolutional": a verdict per place, LeakyReLU 0.2 between convolutions, no
 * normalisation. "global": one verdict per image, from its mean feature through two hidden layers (Ganin et al. 2016).
 * Give it `reverseGradient(features, λ)`: its own gradient is then unscaled, and the features' is turned around.
 */
export class DomainDiscriminator extends Module {
  readonly layers: Sequential;
  readonly kind: "convolutional" | "global";
  readonly inChannels: number;

  /** @throws ArgumentError for an option outside its range. */
  constructor(device: Backend, options: DomainDiscriminatorOptions) {
    super();
    const { kind, inChannels, seed = 0 } = options;
    checkWhole({ inChannels });
    this.kind = kind;
    this.inChannels = inChannels;
    switch (options.kind) {
      case "convolutional":
        this.layers = convolutional(options);
        break;
      case "global":
        this.layers = global(options);
        break;
      default:
        throw new ArgumentError(
          "DomainDiscriminator",
          `there is no kind "${String(kind)}"; choose convolutional or global`,
        );
    }
    this.place(device, seed);
  }

  /**
   * Logits (f32) of "from the target domain" for features `[n, h, w, inChannels]`: `[n, h', w', 1]` or, global, `[n, 1]`.
   * @throws ShapeError where the features have another shape.
   */
  forward(features: Tensor): Tensor {
    if (features.rank !== 4 || features.shape[3] !== this.inChannels) {
      throw new ShapeError("DomainDiscriminator", `features must be [n, h, w, ${this.inChannels}]`, {
        features: features.spec,
      });
    }
    return scope(() => {
      const y = cast(this.layers.forward(features), "f32");
      return this.kind === "global" ? reshape(y, [features.shape[0]!, 1]) : y;
    });
  }
}

function convolutional(options: ConvolutionalDiscriminatorOptions): Sequential {
  const { inChannels, width = 64, strides = [1, 2, 1], kernel = 3 } = options;
  checkWhole({ width, kernel, "strides.length": strides.length, ...Object.fromEntries(Object.entries(strides)) });
  let from = inChannels;
  const padding = Math.floor((kernel - 1) / 2);
  return new Sequential(
    ...strides.flatMap((stride, i): Layer[] => {
      const last = i === strides.length - 1;
      const to = last ? 1 : width * 2 ** i;
      const conv = new Conv2d(from, to, kernel, { stride, padding, bias: torchDefault });
      from = to;
      return last ? [conv] : [conv, new LeakyReLU(0.2)];
    }),
  );
}

function global({ inChannels, width = 256, norm = false }: GlobalDiscriminatorOptions): Sequential {
  checkWhole({ width });
  const hidden = (from: number) => [new Linear(from, width), ...(norm ? [new BatchNorm(width)] : []), new ReLU()];
  return new Sequential(new GlobalAvgPool(), ...hidden(inChannels), ...hidden(width), new Linear(width, 1));
}

function checkWhole(counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) {
    if (!Number.isInteger(count) || count < 1) {
      throw new ArgumentError("DomainDiscriminator", `${name} must be a whole number, 1 or more, not ${count}`);
    }
  }
}

/**
 * λ(p) = 2 / (1 + e^(-γp)) - 1: how strongly features are pushed against the discriminator, from 0 to 1 as training
 * advances from p = 0 to 1 (clamped). Ganin et al. 2016, equation 14.
 */
export function adversarialSchedule(progress: number, gamma = 10): number {
  const p = Math.min(1, Math.max(0, progress));
  return 2 / (1 + Math.exp(-gamma * p)) - 1;
}
