import { describe, expect, test } from "vitest";
import { ArgumentError } from "../../src/errors.js";
import {
  backbones,
  DeepLabV3Plus,
  type DeepLabV3PlusOptions,
  deepLabVariants,
  exportOnnx,
  type OnnxOptions,
} from "../../src/models/index.js";
import { transpose } from "../../src/ops/index.js";
import { scope, Tensor } from "../../src/tensor.js";
import { referenceDevice, values } from "../harness.js";
import { runOnnx } from "./onnx_interpreter.js";
import { readOnnx } from "./onnx_reader.js";

/** A small model whose every weight and statistic matters: He's bound for convolutions, no mean 0, no variance 1. */
function filled(options: Omit<DeepLabV3PlusOptions, "classes">): DeepLabV3Plus {
  const model = new DeepLabV3Plus(referenceDevice(), { width: 1 / 64, ...options, classes: 3 });
  let seed = 1;
  for (const [name, parameter] of model.declared()) {
    const { size, shape } = parameter;
    seed++;
    // Residual blocks add: at He's gain their sums would grow a thousandfold over Xception's depth, rounding with them.
    const bound = Math.sqrt((name.includes(".blocks.") ? 1.5 : 6) / (size / shape[0]!));
    const isScale = name.endsWith("running_var") || name.endsWith(".weight");
    const [low, high] = shape.length === 4 ? [-bound, bound] : isScale ? [0.5, 1.5] : [-0.3, 0.3];
    parameter.assign(values(size, seed, low, high));
  }
  return model.eval();
}

/** Largest difference of the exported graph from the model, over the deviation of the model's logits from their mean. */
async function differenceOf(
  model: DeepLabV3Plus,
  [n, h, w]: readonly [number, number, number],
  normalise?: NonNullable<OnnxOptions["normalise"]>,
): Promise<number> {
  const device = referenceDevice();
  const bands = model.inChannels;
  const graph = readOnnx(await exportOnnx(model, normalise ? { normalise } : {}));
  const raw = values(n * h * w * bands, 77, 0, normalise ? 255 : 1);
  const given = normalise ? raw.map((v, i) => (v - normalise.mean[i % bands]!) / normalise.std[i % bands]!) : raw;
  const pair = scope(() => {
    const shape = [n, h, w, bands];
    const wanted = transpose(model.forward(Tensor.from(device, given, shape)), [0, 3, 1, 2]);
    return [wanted, runOnnx(graph, device, transpose(Tensor.from(device, raw, shape), [0, 3, 1, 2]))] as const;
  });
  const [wanted, got] = await Promise.all(pair.map((t) => t.data()));
  expect(pair[1].shape).toEqual([n, model.classes, h, w]);
  pair.forEach((t) => {
    t.dispose();
  });
  // Of the first class alone: a graph that gave one value everywhere would differ as much as this.
  const first = Array.from(wanted!.subarray(0, h * w));
  const mean = first.reduce((a, b) => a + b, 0) / first.length;
  const deviation = Math.sqrt(first.reduce((sum, v) => sum + (v - mean) ** 2, 0) / first.length);
  let largest = 0;
  for (let i = 0; i < wanted!.length; i++) largest = Math.max(largest, Math.abs(wanted![i]! - got![i]!));
  return largest / deviation;
}

/** Weights are rounded to float32 after folding; the rest is computed in doubles on both sides. */
const LIMIT = 5e-5;

describe.each(backbones)("%s", (backbone) => {
  const variants = deepLabVariants.filter((variant) => backbone !== "xception65" || variant !== "vainf");
  const cases = variants.flatMap((variant) =>
    ([8, 16] as const).map((outputStride) => [variant, outputStride] as const),
  );
  test.each(cases)(
    "%s, output stride %i: the exported graph computes the model's logits",
    async (variant, outputStride) => {
      using model = filled({ backbone, variant, outputStride });
      // Odd sizes, where every rounding of a size shows.
      expect(await differenceOf(model, variant === "smp" ? [1, 32, 48] : [1, 33, 51])).toBeLessThan(LIMIT);
    },
  );
});

test.each([
  ["paper", 16, 16 * 19],
  ["smp", 8, 8 * 37],
  ["vainf", 16, 16 * 19],
] as const)("%s at stride %i: every rate of ASPP meets pixels", async (variant, outputStride, width) => {
  using model = filled({ backbone: "resnet18", variant, outputStride });
  expect(await differenceOf(model, [2, 16, width])).toBeLessThan(LIMIT);
});

test("raw values are normalised by the graph, five bands, group normalisation, more than one group", async () => {
  using model = filled({ backbone: "resnet18", inChannels: 5, imagePooling: "group", width: 1 / 16 });
  const normalise = { mean: [90, 100, 110, 120, 130], std: [40, 50, 60, 70, 80] };
  expect(await differenceOf(model, [2, 17, 33], normalise)).toBeLessThan(LIMIT);
});

test("the file says what it is", async () => {
  using model = filled({ backbone: "resnet18", variant: "smp", inChannels: 4 });
  const graph = readOnnx(await exportOnnx(model, { metadata: new Map([["classes", '["Straße","road"]']]) }));
  expect([graph.irVersion, graph.opset]).toEqual([8, 17]);
  expect(graph.inputs).toEqual(new Map([["image", ["batch", 4, "height", "width"]]]));
  expect(graph.outputs).toEqual(new Map([["logits", ["batch", 3, "height", "width"]]]));
  expect(Object.fromEntries(graph.metadata)).toEqual({
    backbone: "resnet18",
    variant: "smp",
    output_stride: "16",
    bands: "4",
    size_multiple: "16",
    classes: '["Straße","road"]',
  });
});

test("the same model gives the same bytes, in training too", async () => {
  using model = filled({ backbone: "mobilenet_v2" });
  const first = Buffer.concat(await exportOnnx(model));
  model.train();
  expect(Buffer.concat(await exportOnnx(model)).equals(first)).toBe(true);
});

test.each([
  [{ mean: [0, 0], std: [1, 1, 1] }],
  [{ mean: [0, 0, 0], std: [1, 0, 1] }],
  [{ mean: [0, Number.NaN, 0], std: [1, 1, 1] }],
])("refuses to normalise by %o", async (normalise) => {
  using model = filled({ backbone: "resnet18" });
  await expect(exportOnnx(model, { normalise })).rejects.toThrow(ArgumentError);
});
