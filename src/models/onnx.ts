import { OnnxGraph, type ValueName } from "../checkpoint/onnx/graph.js";
import { encodeOnnx } from "../checkpoint/onnx/model.js";
import { ArgumentError } from "../errors.js";
import {
  BatchNorm,
  Conv2d,
  Dropout,
  GlobalAvgPool,
  GroupNorm,
  type Layer,
  type Module,
  type Parameter,
  ReLU,
  ReLU6,
  Sequential,
} from "../nn/index.js";
import type { TensorData } from "../shape.js";
import { ASPP } from "./aspp.js";
import type { DeepLabV3Plus } from "./deeplab_v3_plus.js";
import type { Encoder } from "./encoder.js";
import { InvertedResidual, MobileNetV2 } from "./mobilenet_v2.js";
import { ResidualBlock, ResNet, stemPool } from "./resnet.js";
import { ConvNorm, type SeparableConv, Xception65, XceptionBlock } from "./xception.js";

export interface OnnxOptions {
  /** (x − mean) / std of every band, in the units of `x`, as the graph's first step; default: images come normalised. */
  readonly normalise?: { readonly mean: readonly number[]; readonly std: readonly number[] };
  /** Text for the file's `metadata_props`, beside what this function says of the model. */
  readonly metadata?: ReadonlyMap<string, string>;
}

/**
 * A trained DeepLabV3+ as an ONNX file (operator set 17), for onnxruntime and whatever else reads the format. Input
 * `image` is `[batch, bands, height, width]`, output `logits` `[batch, classes, height, width]`, float32; batch, height
 * and width are free at every run (variant "smp": multiples of the output stride, as `size_multiple` in the metadata
 * says). Batch normalisation is folded into the convolutions with its running statistics, whatever mode the model is in;
 * dropout is absent.
 *
 * The graph is written module by module, from what each module is, not by recording kernels: a recorded run knows one
 * size, and resizes to sizes that are numbers, not to that of another map.
 * @returns The file in pieces, for `writeAtomic`.
 * @throws ArgumentError where `normalise` is not a mean and a positive deviation for every band.
 */
export async function exportOnnx(
  model: DeepLabV3Plus,
  { normalise, metadata = new Map() }: OnnxOptions = {},
): Promise<readonly Uint8Array[]> {
  const { inChannels: bands, classes } = model;
  if (normalise) checkNormalise(normalise, bands);
  const declared = [...model.declared().values()];
  const values = new Map(
    await Promise.all(declared.map(async (parameter) => [parameter, await parameter.data()] as const)),
  );
  const graph = new OnnxGraph();
  new Translator(model, values, graph).deepLab(model, normalise);
  return encodeOnnx({
    nodes: graph.nodes,
    constants: graph.constants,
    inputs: [{ name: "image", dims: ["batch", bands, "height", "width"] }],
    outputs: [{ name: "logits", dims: ["batch", classes, "height", "width"] }],
    metadata: new Map([
      ["backbone", model.backbone],
      ["variant", model.variant],
      ["output_stride", String(model.outputStride)],
      ["bands", String(bands)],
      ["size_multiple", String(model.sizeMultiple)],
      ...metadata,
    ]),
  });
}

function checkNormalise({ mean, std }: NonNullable<OnnxOptions["normalise"]>, bands: number): void {
  const whole = mean.length === bands && std.length === bands;
  if (!whole || !mean.every(Number.isFinite) || !std.every((value) => value > 0 && Number.isFinite(value))) {
    throw new ArgumentError("exportOnnx", `normalise must hold a mean and a positive std for each of ${bands} bands`);
  }
}

/** What follows a convolution and its normalisation, in this order. */
interface After {
  readonly residual?: ValueName;
  readonly relu?: boolean;
}

/** Writes each layer as its `forward` computes it: maps are `[n, c, h, w]` here. */
class Translator {
  readonly #names: ReadonlyMap<Module, string>;

  constructor(
    model: Module,
    readonly values: ReadonlyMap<Parameter, TensorData>,
    readonly graph: OnnxGraph,
  ) {
    this.#names = new Map([...model.modules()].map(([name, module]) => [module, name]));
  }

  deepLab(model: DeepLabV3Plus, normalise: OnnxOptions["normalise"]): void {
    const { alignCorners, decoder } = model;
    const image = normalise ? this.normalise("image", normalise) : "image";
    const { lowLevel, encoder } = this.encoder(model.encoder, image);
    const aspp = this.layer(decoder.aspp, encoder);
    const enlarged = this.resize("decoder.resize", aspp, lowLevel, alignCorners.decoder);
    const joined = this.concat("decoder.concat", [enlarged, this.layer(decoder.block1, lowLevel)]);
    const small = this.layer(model.segmentationHead, this.layer(decoder.block2, joined));
    this.resize("logits", small, "image", alignCorners.logits);
  }

  /** Before any padding, whose zeros are zeros of normalised values: the first convolution cannot take it in. */
  normalise(x: ValueName, { mean, std }: NonNullable<OnnxOptions["normalise"]>): ValueName {
    const perBand = (name: string, values: readonly number[]) =>
      this.graph.floats(name, [1, values.length, 1, 1], Float32Array.from(values));
    const centred = this.graph.add("Sub", "image.centred", [x, perBand("image.mean", mean)]);
    return this.graph.add("Div", "image.normalised", [centred, perBand("image.std", std)]);
  }

  encoder(encoder: Encoder, x: ValueName): { lowLevel: ValueName; encoder: ValueName } {
    if (encoder instanceof ResNet) {
      const { kernel, stride, padding } = stemPool;
      const stem = this.convNorm(encoder.conv1, encoder.bn1, x, { relu: true });
      const pooled = this.graph.add("MaxPool", "encoder.maxpool", [stem], {
        kernel_shape: [kernel, kernel],
        strides: [stride, stride],
        pads: [padding, padding, padding, padding],
      });
      const lowLevel = this.layer(encoder.layer1, pooled);
      return { lowLevel, encoder: this.layers([encoder.layer2, encoder.layer3, encoder.layer4], lowLevel) };
    }
    if (encoder instanceof MobileNetV2) {
      const lowLevel = this.layers(encoder.features.slice(0, 4), x);
      return { lowLevel, encoder: this.layers(encoder.features.slice(4), lowLevel) };
    }
    if (encoder instanceof Xception65) {
      const [first, second, ...rest] = encoder.blocks as [XceptionBlock, XceptionBlock, ...XceptionBlock[]];
      const entry = this.layers([...encoder.stem, first], x);
      const lowLevel = this.xceptionSecond(second, entry);
      return { lowLevel, encoder: this.layers(rest, this.xceptionFinish(second, entry, lowLevel)) };
    }
    throw this.unknown(encoder);
  }

  /** One layer after the other. A normalisation belongs to the convolution before it, as in `Sequential.forward`. */
  layers(layers: readonly Layer[], x: ValueName): ValueName {
    const steps = layers.flatMap(flat);
    let value = x;
    for (let i = 0; i < steps.length; i++) {
      const [layer, next] = [steps[i]!, steps[i + 1]];
      if (layer instanceof Conv2d && next instanceof BatchNorm) {
        value = this.convNorm(layer, next, value);
        i++;
      } else value = this.layer(layer, value);
    }
    return value;
  }

  layer(layer: Layer, x: ValueName): ValueName {
    const { graph } = this;
    if (layer instanceof Sequential) return this.layers(layer.layers, x);
    if (layer instanceof Conv2d) return this.conv(layer, null, x);
    if (layer instanceof ReLU) return graph.add("Relu", this.nameOf(layer), [x]);
    if (layer instanceof ReLU6) return graph.add("Clip", this.nameOf(layer), [x, graph.scalar(0), graph.scalar(6)]);
    if (layer instanceof Dropout) return x;
    if (layer instanceof GlobalAvgPool) return graph.add("GlobalAveragePool", this.nameOf(layer), [x]);
    if (layer instanceof GroupNorm) return this.groupNorm(layer, x);
    if (layer instanceof ASPP) return this.aspp(layer, x);
    if (layer instanceof ResidualBlock) return this.residualBlock(layer, x);
    if (layer instanceof InvertedResidual) return this.invertedResidual(layer, x);
    if (layer instanceof ConvNorm) return this.convNorm(layer.conv, layer.bn, x, { relu: layer.activate });
    if (layer instanceof XceptionBlock) return this.xceptionFinish(layer, x, this.xceptionSecond(layer, x));
    throw this.unknown(layer);
  }

  aspp(aspp: ASPP, x: ValueName): ValueName {
    const branches = aspp.convs.map((branch) => this.layer(branch, x));
    const pooled = branches.pop()!; // [n, c, 1, 1]
    const size = this.concat(`${this.nameOf(aspp)}.size`, [this.graph.integers(1, 1), this.shapeOf(x, 2, 4)], 0);
    const spread = this.graph.add("Expand", `${this.nameOf(aspp)}.spread`, [pooled, size]);
    return this.layer(aspp.project, this.concat(`${this.nameOf(aspp)}.concat`, [...branches, spread]));
  }

  residualBlock(block: ResidualBlock, x: ValueName): ValueName {
    const residual = block.downsample ? this.layer(block.downsample, x) : x;
    const y = this.convNorm(block.conv1, block.bn1, x, { relu: true });
    if (!block.conv3 || !block.bn3) return this.convNorm(block.conv2, block.bn2, y, { residual, relu: true });
    const z = this.convNorm(block.conv2, block.bn2, y, { relu: true });
    return this.convNorm(block.conv3, block.bn3, z, { residual, relu: true });
  }

  invertedResidual(block: InvertedResidual, x: ValueName): ValueName {
    const { margin: m } = block;
    const name = this.nameOf(block);
    const padded = m > 0 ? this.graph.add("Pad", `${name}.pad`, [x, this.graph.integers(0, 0, m, m, 0, 0, m, m)]) : x;
    const y = this.layer(block.conv, padded);
    return block.adds ? this.graph.add("Add", name, [y, x]) : y;
  }

  separable(layer: SeparableConv, x: ValueName, after: After = {}): ValueName {
    const y = this.convNorm(layer.convDw, layer.bnDw, x, { relu: layer.activate });
    return this.convNorm(layer.convPw, layer.bnPw, y, after);
  }

  /** `XceptionStack.second`. */
  xceptionSecond({ stack }: XceptionBlock, x: ValueName): ValueName {
    const entry = stack.within ? x : this.graph.add("Relu", `${this.nameOf(stack)}.relu`, [x]);
    const y = this.separable(stack.conv1, entry, { relu: true });
    return this.separable(stack.conv2, y, { relu: !stack.linearSecond });
  }

  /** `XceptionBlock.finish`. */
  xceptionFinish({ stack, shortcut, adds }: XceptionBlock, x: ValueName, second: ValueName): ValueName {
    const y = stack.linearSecond ? this.graph.add("Relu", `${this.nameOf(stack)}.relu`, [second]) : second;
    const residual = adds ? { residual: shortcut ? this.layer(shortcut, x) : x } : {};
    return this.separable(stack.conv3, y, { ...residual, relu: stack.within });
  }

  convNorm(conv: Conv2d, norm: BatchNorm, x: ValueName, { residual, relu = false }: After = {}): ValueName {
    let y = this.conv(conv, norm, x);
    const name = this.nameOf(norm);
    if (residual !== undefined) y = this.graph.add("Add", `${name}.add`, [y, residual]);
    return relu ? this.graph.add("Relu", `${name}.relu`, [y]) : y;
  }

  conv(conv: Conv2d, norm: BatchNorm | null, x: ValueName): ValueName {
    const { stride, padding, dilation, groups } = conv;
    const [cout, kh, kw, cin] = conv.weight.shape as [number, number, number, number];
    const { weight, bias } = this.folded(conv, norm);
    const name = this.nameOf(conv);
    const inputs = [x, this.graph.floats(`${name}.weight`, [cout, cin, kh, kw], weight)];
    if (bias) inputs.push(this.graph.floats(`${name}.bias`, [cout], bias));
    return this.graph.add("Conv", name, inputs, {
      kernel_shape: [kh, kw],
      strides: [stride, stride],
      pads: [padding, padding, padding, padding],
      dilations: [dilation, dilation],
      group: groups,
    });
  }

  /**
   * Weight `[cout, cin, kh, kw]` and bias of a convolution with its normalisation in them: w · γ / √(σ² + ε) and
   * β + (b − μ) · γ / √(σ² + ε), in double precision, rounded once.
   */
  folded(conv: Conv2d, norm: BatchNorm | null): { weight: Float32Array; bias: Float32Array | null } {
    const [cout, kh, kw, cin] = conv.weight.shape as [number, number, number, number];
    const given = this.data(conv.weight); // [cout, kh, kw, cin]
    const gamma = norm && this.data(norm.weight);
    const variance = norm && this.data(norm.runningVar);
    const factor = (o: number) => (norm ? gamma![o]! / Math.sqrt(variance![o]! + norm.eps) : 1);
    const area = kh * kw;
    const weight = new Float32Array(given.length);
    for (let o = 0; o < cout; o++) {
      const times = factor(o);
      for (let p = 0; p < area; p++) {
        for (let c = 0; c < cin; c++) weight[(o * cin + c) * area + p] = given[(o * area + p) * cin + c]! * times;
      }
    }
    const own = conv.bias && this.data(conv.bias);
    if (!norm) return { weight, bias: own && Float32Array.from(own) };
    const [beta, mean] = [this.data(norm.bias), this.data(norm.runningMean)];
    return {
      weight,
      bias: Float32Array.from({ length: cout }, (_, o) => beta[o]! + ((own?.[o] ?? 0) - mean[o]!) * factor(o)),
    };
  }

  /** Operator set 17 has none: each group becomes one channel of an instance normalisation, then weight and bias follow. */
  groupNorm(norm: GroupNorm, x: ValueName): ValueName {
    const { graph } = this;
    const name = this.nameOf(norm);
    const { groups } = norm;
    const filled = (value: number) => graph.floats(`${name}.${value}`, [groups], new Float32Array(groups).fill(value));
    const perChannel = (what: string, parameter: Parameter) =>
      graph.floats(`${name}.${what}`, [parameter.size, 1, 1], Float32Array.from(this.data(parameter)));
    const grouped = graph.add("Reshape", `${name}.grouped`, [x, graph.integers(0, groups, -1)]); // [n, groups, rest]
    const inputs = [grouped, filled(1), filled(0)];
    const normal = graph.add("InstanceNormalization", `${name}.normal`, inputs, { epsilon: { float: norm.eps } });
    const back = graph.add("Reshape", `${name}.back`, [normal, this.shapeOf(x, 0, 4)]);
    const scaled = graph.add("Mul", `${name}.scaled`, [back, perChannel("weight", norm.weight)]);
    return graph.add("Add", name, [scaled, perChannel("bias", norm.bias)]);
  }

  /** Bilinear, to the height and width of `like`. */
  resize(name: string, x: ValueName, like: ValueName, alignCorners: boolean): ValueName {
    const sizes = this.concat(`${name}.sizes`, [this.shapeOf(x, 0, 2), this.shapeOf(like, 2, 4)], 0);
    return this.graph.add("Resize", name, [x, "", "", sizes], {
      mode: "linear",
      coordinate_transformation_mode: alignCorners ? "align_corners" : "half_pixel",
    });
  }

  concat(name: string, values: readonly ValueName[], axis = 1): ValueName {
    return this.graph.add("Concat", name, values, { axis });
  }

  /** Sizes of the axes from `start` to `end` (exclusive), as int64. */
  shapeOf(x: ValueName, start: number, end: number): ValueName {
    return this.graph.add("Shape", `${x}.shape`, [x], { start, end });
  }

  data(parameter: Parameter): TensorData {
    return this.values.get(parameter)!;
  }

  nameOf(module: Module): string {
    return this.#names.get(module)!;
  }

  unknown(module: Module): ArgumentError {
    return new ArgumentError(
      "exportOnnx",
      `there is no translation of ${module.constructor.name} (${this.nameOf(module)})`,
    );
  }
}

/** A sequence's own layers in its place: a normalisation may follow a convolution at the end of one. */
const flat = (layer: Layer): readonly Layer[] => (layer instanceof Sequential ? layer.layers.flatMap(flat) : [layer]);
