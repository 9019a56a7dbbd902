import type { Backend } from "../backends/backend.js";
import { ArgumentError, ShapeError } from "../errors.js";
import {
  BatchNorm,
  Conv2d,
  constant,
  type Initialiser,
  kaimingNormal,
  Module,
  Sequential,
  torchDefault,
  truncatedNormal,
  xavierUniform,
} from "../nn/index.js";
import { cast, concat, resizeBilinear } from "../ops/index.js";
import { Generator } from "../random.js";
import { scope, type Tensor } from "../tensor.js";
import { ASPP, type HeadInitialisers, pointwiseBlock, type Separation, spatialBlock } from "./aspp.js";
import type { Encoder, EncoderOptions } from "./encoder.js";
import { MobileNetV2 } from "./mobilenet_v2.js";
import { type Precision, precisions, usePrecision } from "./precision.js";
import { ResNet } from "./resnet.js";
import { Xception65 } from "./xception.js";

export const backbones = ["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "xception65"] as const;
export type Backbone = (typeof backbones)[number];

export const deepLabVariants = ["paper", "smp", "vainf"] as const;
export type DeepLabVariant = (typeof deepLabVariants)[number];

export interface DeepLabV3PlusOptions {
  readonly backbone: Backbone;
  /** Channels of the logits. */
  readonly classes: number;
  /** Stride of the encoder's last map; default 16. 8 costs about three times the work. */
  readonly outputStride?: 8 | 16;
  /** Whose DeepLabV3+: the paper's (TensorFlow), segmentation_models.pytorch's or VainF's; default "paper". */
  readonly variant?: DeepLabVariant;
  /** Channels of the image; default 3. */
  readonly inChannels?: number;
  /** Scales every channel count but the first and the last, rounded to multiples of 8, 8 at least; default 1. */
  readonly width?: number;
  /** Of the first values and of dropout; default 0. */
  readonly seed?: number;
  /**
   * What the maps between its layers are stored as: "f32" (default), or "bf16" (CUDA), with sums, statistics, weights and
   * logits in f32. "tf32" (CUDA) is "f32" whose products are rounded to 10 bits on the way in. That is a setting of the
   * device: the model made last decides.
   */
  readonly precision?: Precision;
  /** Normalisation after ASPP's image pooling; "group" trains on batches of one image. Default "batch", as published. */
  readonly imagePooling?: "batch" | "group";
}

/** What the published variants disagree on, site by site. The logits' shapes are the same. */
interface VariantRules {
  readonly rates: Readonly<Record<8 | 16, readonly [number, number, number]>>;
  readonly firstBlock: EncoderOptions["firstBlock"];
  readonly aspp: Separation;
  readonly dropout: number;
  /** A separable convolution between ASPP and the upsampling. */
  readonly afterAspp: boolean;
  readonly decoder: readonly Separation[];
  /** Of ASPP's output to the low-level map, and of the logits to the image. */
  readonly alignCorners: { readonly decoder: boolean; readonly logits: boolean };
  /** Momentum of the backbone's batch normalisation. */
  readonly momentum: number;
  /** Refuses sizes that the output stride does not divide. */
  readonly wholeStrides: boolean;
  readonly initial: HeadInitialisers & { readonly logits: Initialiser; readonly bias: Initialiser };
}

const variantRules: Readonly<Record<DeepLabVariant, VariantRules>> = {
  // Chen et al. 2018 and its TensorFlow code, but for batch normalisation's momentum: its 0.0003 is meant for 30,000 steps.
  paper: {
    rates: { 16: [6, 12, 18], 8: [12, 24, 36] },
    firstBlock: "previous",
    aspp: "normalised",
    dropout: 0.1,
    afterAspp: false,
    decoder: ["normalised", "normalised"],
    alignCorners: { decoder: true, logits: true },
    momentum: 0.1,
    wholeStrides: false,
    initial: {
      dense: xavierUniform,
      depthwise: truncatedNormal(0.33),
      pointwise: truncatedNormal(0.06),
      logits: truncatedNormal(0.01),
      bias: constant(0),
    },
  },
  smp: {
    rates: { 16: [12, 24, 36], 8: [12, 24, 36] },
    firstBlock: "stage",
    aspp: "plain",
    dropout: 0.5,
    afterAspp: true,
    decoder: ["plain"],
    alignCorners: { decoder: true, logits: true },
    momentum: 0.1,
    wholeStrides: true,
    initial: {
      dense: torchDefault,
      depthwise: torchDefault,
      pointwise: torchDefault,
      logits: torchDefault,
      bias: torchDefault,
    },
  },
  vainf: {
    rates: { 16: [6, 12, 18], 8: [12, 24, 36] },
    firstBlock: "previous",
    aspp: "dense",
    dropout: 0.1,
    afterAspp: false,
    decoder: ["dense"],
    alignCorners: { decoder: false, logits: false },
    momentum: 0.01,
    wholeStrides: false,
    initial: {
      dense: kaimingNormal("fanIn"),
      depthwise: kaimingNormal("fanIn"),
      pointwise: kaimingNormal("fanIn"),
      logits: kaimingNormal("fanIn"),
      bias: torchDefault,
    },
  },
};

/** Dilations of the three 3x3 convolutions of ASPP, in pixels of its input. */
export const asppRates = (variant: DeepLabVariant, outputStride: 8 | 16): readonly [number, number, number] =>
  variantRules[variant].rates[outputStride];

/** The maps a discriminator can look at. `s` is the output stride. */
export interface Features {
  /** `[n, h / s, w / s, encoder channels]` */
  readonly encoder: Tensor;
  /** `[n, h / 4, w / 4, low-level channels]` */
  readonly lowLevel: Tensor;
  /** `[n, h / s, w / s, 256]` */
  readonly aspp: Tensor;
  /** `[n, h / 4, w / 4, 256]` */
  readonly decoder: Tensor;
  /** `[n, h, w, classes]`, f32 in every precision */
  readonly logits: Tensor;
}

/** ASPP, low-level features reduced to 48 channels, both fused by 3x3 convolutions. */
class Decoder extends Module {
  readonly aspp: Sequential;
  readonly block1: Sequential;
  readonly block2: Sequential;

  constructor(
    from: { readonly lowLevel: number; readonly encoder: number },
    to: { readonly lowLevel: number; readonly aspp: number },
    rules: VariantRules,
    options: { outputStride: 8 | 16; imagePooling: "batch" | "group"; generator: () => Generator },
  ) {
    super();
    const { initial } = rules;
    const aspp = new ASPP(from.encoder, to.aspp, {
      rates: rules.rates[options.outputStride],
      separation: rules.aspp,
      dropout: rules.dropout,
      imagePooling: options.imagePooling,
      initial,
      generator: options.generator,
    });
    const after = rules.afterAspp
      ? spatialBlock(to.aspp, to.aspp, { dilation: 1, separation: "plain", initial }).layers
      : [];
    this.aspp = new Sequential(aspp, ...after);
    this.block1 = pointwiseBlock(from.lowLevel, to.lowLevel, initial.dense);
    let channels = to.aspp + to.lowLevel;
    this.block2 = new Sequential(
      ...rules.decoder.flatMap((separation) => {
        const block = spatialBlock(channels, to.aspp, { dilation: 1, separation, initial });
        channels = to.aspp;
        return block.layers;
      }),
    );
  }

  /** Fused features `[n, h / 4, w / 4, 256]`. */
  fuse(aspp: Tensor, lowLevel: Tensor, alignCorners: boolean): Tensor {
    return scope(() => {
      const [, h, w] = lowLevel.shape as [number, number, number, number];
      const upsampled = resizeBilinear(aspp, [h, w], { alignCorners });
      return this.block2.forward(concat([upsampled, this.block1.forward(lowLevel)]));
    });
  }
}

/**
 * DeepLabV3+: a dilated backbone, ASPP, and a decoder that joins it with features at stride 4. Chen et al. 2018.
 * `variant` chooses among three published networks that share the name; parameter names and counts are theirs
 * (`encoder.layer1.0.conv1.weight`, `decoder.aspp.0.convs.1.0.0.weight`, as in segmentation_models.pytorch).
 */
export class DeepLabV3Plus extends Module {
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  readonly segmentationHead: Sequential;

  readonly backbone: Backbone;
  readonly variant: DeepLabVariant;
  readonly classes: number;
  readonly inChannels: number;
  readonly outputStride: 8 | 16;
  readonly precision: Precision;
  /** Channels at each tap, and of the decoder's inputs. */
  readonly channels: Readonly<Record<"encoder" | "lowLevel" | "aspp" | "decoder" | "reducedLowLevel", number>>;
  /** Random numbers of dropout; to go on where a checkpoint was taken, put `Generator.from(state)` here. */
  generator: Generator;
  readonly #imagePooling: BatchNorm | null;

  /** @throws ArgumentError for an option outside its range, or `xception65` in VainF's variant, which has none. */
  constructor(device: Backend, options: DeepLabV3PlusOptions) {
    super();
    const { backbone, classes, outputStride = 16, variant = "paper", inChannels = 3, width = 1, seed = 0 } = options;
    const { imagePooling = "batch", precision = "f32" } = options;
    checkOptions({ ...options, outputStride, variant, inChannels, width, imagePooling, precision });
    usePrecision("DeepLabV3Plus", device, precision);
    this.precision = precision;
    this.backbone = backbone;
    this.variant = variant;
    this.classes = classes;
    this.inChannels = inChannels;
    this.outputStride = outputStride;
    this.generator = new Generator(seed).fork("dropout");

    const rules = variantRules[variant];
    const channels = (published: number) => Math.max(8, 8 * Math.round((published * width) / 8));
    this.encoder = encoderOf(backbone, variant, {
      inChannels,
      outputStride,
      channels,
      firstBlock: rules.firstBlock,
      norm: { eps: backbone === "xception65" ? 1e-3 : 1e-5, momentum: rules.momentum },
    });
    const head = { lowLevel: channels(48), aspp: channels(256) };
    this.channels = { ...this.encoder.channels, aspp: head.aspp, decoder: head.aspp, reducedLowLevel: head.lowLevel };
    const decoderOptions = { outputStride, imagePooling, generator: () => this.generator };
    this.decoder = new Decoder(this.encoder.channels, head, rules, decoderOptions);
    const { logits: initial, bias } = rules.initial;
    this.segmentationHead = new Sequential(new Conv2d(head.aspp, classes, 1, { initial, bias }));
    const poolNorm = this.decoder.modules().get("aspp.0.convs.4.2");
    this.#imagePooling = poolNorm instanceof BatchNorm ? poolNorm : null;
    this.place(device, seed);
  }

  /**
   * Logits `[n, h, w, classes]` of images `[n, h, w, inChannels]`.
   * @throws ShapeError, ArgumentError as `features` does.
   */
  forward(x: Tensor): Tensor {
    return scope(() => this.features(x).logits);
  }

  /**
   * Logits and the maps they come from.
   * @param onward what the network itself goes on with in place of a map: the place to look at the gradients that its own
   * losses send back, apart from those of whoever else uses the map. Default: the map.
   * @throws ShapeError where `x` is not `[n, h, w, inChannels]`, or in variant "smp" has a size that the output stride
   * does not divide; ArgumentError for one image in training where image pooling is normalised over the batch.
   */
  features(x: Tensor, onward: (map: Tensor, at: "encoder" | "aspp" | "decoder") => Tensor = (map) => map): Features {
    this.#check(x);
    const { alignCorners } = this;
    return scope(() => {
      const [, h, w] = x.shape as [number, number, number, number];
      const { lowLevel, encoder } = this.encoder.forward(this.precision === "bf16" ? cast(x, "bf16") : x);
      const aspp = this.decoder.aspp.forward(onward(encoder, "encoder"));
      const decoder = this.decoder.fuse(onward(aspp, "aspp"), lowLevel, alignCorners.decoder);
      const small = cast(this.segmentationHead.forward(onward(decoder, "decoder")), "f32");
      const logits = resizeBilinear(small, [h, w], { alignCorners: alignCorners.logits });
      return { encoder, lowLevel, aspp, decoder, logits };
    });
  }

  /** How the two enlargements read: of ASPP's output to the low-level map, and of the logits to the image. */
  get alignCorners(): { readonly decoder: boolean; readonly logits: boolean } {
    return variantRules[this.variant].alignCorners;
  }

  /** What heights and widths must be multiples of; 1 where any size will do. */
  get sizeMultiple(): number {
    return variantRules[this.variant].wholeStrides ? this.outputStride : 1;
  }

  /**
   * What will not work as meant on images of this size: ASPP rates that reach beyond the encoder's map, whose 3x3
   * kernels see little but zeros around their middle and act as 1x1.
   */
  warnings(height: number, width: number): string[] {
    const [h, w] = [height, width].map((size) => Math.ceil(size / this.outputStride)) as [number, number];
    return variantRules[this.variant].rates[this.outputStride]
      .filter((rate) => rate >= Math.min(h, w))
      .map((rate) => `ASPP rate ${rate} reaches beyond the ${h}x${w} features of ${height}x${width} images`);
  }

  #check(x: Tensor): void {
    const [n, h, w, c] = x.shape;
    if (x.rank !== 4 || c !== this.inChannels) {
      throw new ShapeError("DeepLabV3Plus", `images must be [n, h, w, ${this.inChannels}]`, { x: x.spec });
    }
    const { sizeMultiple } = this;
    if (h! % sizeMultiple !== 0 || w! % sizeMultiple !== 0) {
      throw new ShapeError("DeepLabV3Plus", `variant "smp" needs sizes that are multiples of ${sizeMultiple}`, {
        x: x.spec,
      });
    }
    if (n === 1 && this.#imagePooling?.mode === "train") {
      const reason =
        'image pooling has no batch statistics over one image; use imagePooling: "group" or a larger batch';
      throw new ArgumentError("DeepLabV3Plus", reason, { x: x.spec });
    }
  }
}

function checkOptions(options: Required<Omit<DeepLabV3PlusOptions, "seed">>): void {
  const { backbone, classes, outputStride, variant, inChannels, width, imagePooling, precision } = options;
  const refuse = (reason: string): never => {
    throw new ArgumentError("DeepLabV3Plus", reason);
  };
  if (!backbones.includes(backbone))
    refuse(`there is no backbone "${backbone}"; choose one of ${backbones.join(", ")}`);
  if (!deepLabVariants.includes(variant)) {
    refuse(`there is no variant "${variant}"; choose one of ${deepLabVariants.join(", ")}`);
  }
  if (variant === "vainf" && backbone === "xception65") {
    refuse('variant "vainf" has no aligned Xception (its own is the original network); use "paper" or "smp"');
  }
  if (outputStride !== 8 && outputStride !== 16) refuse(`outputStride must be 8 or 16, not ${String(outputStride)}`);
  if (imagePooling !== "batch" && imagePooling !== "group") {
    refuse(`imagePooling must be "batch" or "group", not "${String(imagePooling)}"`);
  }
  if (!precisions.includes(precision))
    refuse(`there is no precision "${precision}"; choose one of ${precisions.join(", ")}`);
  for (const [name, count] of Object.entries({ classes, inChannels })) {
    if (!Number.isInteger(count) || count < 1) refuse(`${name} must be a whole number, 1 or more, not ${count}`);
  }
  if (!(width > 0 && Number.isFinite(width))) refuse(`width must be a positive number, not ${width}`);
}

function encoderOf(backbone: Backbone, variant: DeepLabVariant, options: EncoderOptions): Encoder {
  switch (backbone) {
    case "resnet18":
      return new ResNet(18, options);
    case "resnet34":
      return new ResNet(34, options);
    case "resnet50":
      return new ResNet(50, options);
    case "resnet101":
      return new ResNet(101, options);
    case "mobilenet_v2":
      return new MobileNetV2({ ...options, lastConv: variant === "smp", padsInput: variant === "vainf" });
    case "xception65":
      return new Xception65({ ...options, activatedLowLevel: variant === "smp" });
  }
}
