import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { exportPyTorch, importPyTorch, type PyTorchArray, pyTorchName } from "../../src/checkpoint/import_pytorch.js";
import { CheckpointError } from "../../src/errors.js";
import {
  type Backbone,
  DeepLabV3Plus,
  type DeepLabV3PlusOptions,
  type DeepLabVariant,
} from "../../src/models/index.js";
import { type Shape, sizeOf } from "../../src/shape.js";
import { referenceDevice, values } from "../harness.js";

const describe = (options: Omit<DeepLabV3PlusOptions, "classes">, classes = 6) =>
  new DeepLabV3Plus(referenceDevice(), { ...options, classes });
const tiny = (variant: DeepLabVariant, inChannels = 3, backbone: Backbone = "resnet18") =>
  describe({ backbone, variant, inChannels, width: 1 / 32 });

/** `name (64, 3, 7, 7)` lines of a state_dict, batch normalisation's step counters left out. */
function stateDict(file: string): Map<string, string> {
  const lines = readFileSync(new URL(`../golden/keys/${file}.txt`, import.meta.url), "utf8")
    .trim()
    .split("\n");
  const pairs = lines.map((line) => [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)] as const);
  return new Map(pairs.filter(([name]) => !name.endsWith("num_batches_tracked")));
}

/** Our shape as Python prints PyTorch's. */
function torchShape(shape: Shape): string {
  const [cout, kh, kw, cin] = shape;
  const turned = shape.length === 4 ? [cout, cin, kh, kw] : shape;
  return turned.length === 1 ? `(${turned[0]},)` : `(${turned.join(", ")})`;
}

test.each([
  ["smp_r50", "smp", "resnet50"],
  ["vainf_r50", "vainf", "resnet50"],
  ["vainf_mbv2", "vainf", "mobilenet_v2"],
] as const)("names and shapes are those of %s", (file, variant, backbone) => {
  const ours = [...describe({ backbone, variant }).declared()].map(
    ([name, { shape }]) => [pyTorchName(name, backbone, variant), torchShape(shape)] as const,
  );
  const theirs = stateDict(file);
  expect(ours.length).toBe(theirs.size);
  expect(new Map(ours)).toEqual(theirs);
});

test.each([
  ["tv_resnet50", "resnet50", /^fc\./],
  ["tv_mobilenetv2", "mobilenet_v2", /^classifier\./],
] as const)("encoders are named as %s, without its classifier", (file, backbone, classifier) => {
  const ours = [...describe({ backbone, variant: "smp" }).declared()].flatMap(([name, { shape }]) => {
    const foreign = pyTorchName(name, backbone, "torchvision");
    return foreign === null ? [] : [[foreign, torchShape(shape)] as const];
  });
  const theirs = [...stateDict(file)].filter(([name]) => !classifier.test(name));
  expect(ours.length).toBe(theirs.length);
  expect(new Map(ours)).toEqual(new Map(theirs));
});

test("Xception takes timm's names from smp, 853 keys with its step counters", () => {
  const declared = describe({ backbone: "xception65", variant: "smp" }).declared();
  const names = [...declared.keys()].map((name) => pyTorchName(name, "xception65", "smp"));
  expect(names).toContain("encoder.model.stem_0.conv.weight");
  expect(names).toContain("encoder.model.blocks_0.stack.conv1.conv_dw.weight");
  expect(names).toContain("encoder.model.blocks_20.stack.conv3.bn_pw.running_var");
  expect(names).toContain("encoder.model.blocks_19.shortcut.conv.weight");
  const counters = names.filter((name) => name!.endsWith("running_mean")).length;
  expect(names.length + counters).toBe(853);
});

/** A state_dict that fits `model`, with seeded values. */
function fitting(model: DeepLabV3Plus, from: "smp" | "vainf" | "torchvision"): Map<string, PyTorchArray> {
  const arrays = new Map<string, PyTorchArray>();
  for (const [name, { shape }] of model.declared()) {
    const foreign = pyTorchName(name, model.backbone, from);
    if (foreign === null) continue;
    const [cout, kh, kw, cin] = shape;
    const turned = shape.length === 4 ? [cout!, cin!, kh!, kw!] : shape;
    arrays.set(foreign, { shape: turned, data: Float32Array.from(values(sizeOf(shape), arrays.size + 1)) });
  }
  return arrays;
}

test.each(["smp", "vainf"] as const)("import and export are inverse: %s", async (variant) => {
  using model = tiny(variant);
  const arrays = fitting(model, variant);
  const report = importPyTorch(model, arrays, { from: variant });
  expect(report).toEqual({ loaded: [...model.declared().keys()], missing: [], extra: [], misshapen: [] });
  const back = await exportPyTorch(model, variant);
  expect([...back.keys()]).toEqual([...arrays.keys()]);
  for (const [name, { shape, data }] of arrays) {
    expect(back.get(name)!.shape).toEqual(shape);
    expect([...back.get(name)!.data], name).toEqual([...(data as Float32Array)]);
  }
});

test("convolution weights are transposed to [cout, kh, kw, cin]", async () => {
  using model = tiny("smp");
  const arrays = fitting(model, "smp");
  importPyTorch(model, arrays, { from: "smp" });
  const { shape, data } = arrays.get("encoder.layer2.0.conv1.weight")!;
  const [cout, cin, kh, kw] = shape as [number, number, number, number];
  const ours = await model.declared().get("encoder.layer2.0.conv1.weight")!.data();
  for (const [o, c, y, x] of [
    [0, 0, 0, 0],
    [1, 3, 2, 0],
    [cout - 1, cin - 1, 1, 2],
    [5, 2, 0, 1],
  ] as const) {
    expect(ours[((o * kh + y) * kw + x) * cin + c]).toBe(data[((o * cin + c) * kh + y) * kw + x]);
  }
});

test("VainF's decoder inputs [low level, ASPP] become [ASPP, low level]", async () => {
  using model = tiny("vainf");
  const arrays = fitting(model, "vainf");
  importPyTorch(model, arrays, { from: "vainf" });
  const { aspp, reducedLowLevel } = model.channels;
  const theirs = arrays.get("classifier.classifier.0.weight")!;
  const ours = await model.declared().get("decoder.block2.0.weight")!.data();
  const cin = aspp + reducedLowLevel;
  expect(theirs.shape[1]).toBe(cin);
  for (let c = 0; c < cin; c++) {
    const source = c < aspp ? reducedLowLevel + c : c - aspp;
    expect(ours[c]).toBe(theirs.data[source * 9]); // output 0, tap 0
  }
});

test("torchvision fills the encoder alone; its classifier and step counters are no surprise", async () => {
  using model = tiny("paper");
  const arrays = fitting(model, "torchvision");
  arrays.set("fc.weight", { shape: [1000, 16], data: new Float32Array(16000) });
  arrays.set("bn1.num_batches_tracked", { shape: [], data: [7] });
  const report = importPyTorch(model, arrays, { from: "torchvision" });
  expect(report.loaded).toEqual([...model.declared().keys()].filter((name) => name.startsWith("encoder.")));
  const mean = await model.declared().get("encoder.bn1.running_mean")!.data();
  expect([...mean]).toEqual([...(arrays.get("bn1.running_mean")!.data as Float32Array)]);
});

test.each([
  ["resnet18", "conv1.weight", "encoder.conv1.weight"],
  ["mobilenet_v2", "features.0.0.weight", "encoder.features.0.0.weight"],
] as const)("the stem of %s adapts to other channel counts by smp's rule", async (backbone, foreign, ours) => {
  const arrays = fitting(tiny("paper", 3, backbone), "torchvision");
  const { shape, data } = arrays.get(foreign)!;
  const area = shape[2]! * shape[3]!;
  const rgb = (c: number) => data[c * area]!; // output 0, tap 0
  using one = tiny("paper", 1, backbone);
  importPyTorch(one, arrays, { from: "torchvision" });
  expect((await one.declared().get(ours)!.data())[0]).toBeCloseTo(rgb(0) + rgb(1) + rgb(2), 6);
  using five = tiny("paper", 5, backbone);
  importPyTorch(five, arrays, { from: "torchvision" });
  const got = [...(await five.declared().get(ours)!.data())].slice(0, 5);
  const expected = [0, 1, 2, 0, 1].map((c) => (rgb(c) * 3) / 5);
  got.forEach((value, c) => {
    expect(value).toBeCloseTo(expected[c]!, 6);
  });
});

test("what does not fit is named, and strict import changes nothing", async () => {
  using model = tiny("smp");
  const arrays = fitting(model, "smp");
  arrays.delete("decoder.block1.0.weight");
  arrays.set("decoder.surprise", { shape: [1], data: [0] });
  const wrong = "segmentation_head.0.weight";
  arrays.set(wrong, { shape: [7, 8, 1, 1], data: new Float32Array(56) });
  const before = [...(await model.declared().get("encoder.conv1.weight")!.data())];
  const error = catchError(() => importPyTorch(model, arrays, { from: "smp", file: "weights.safetensors" }));
  expect(error).toBeInstanceOf(CheckpointError);
  const { file, keys } = error as CheckpointError;
  expect(file).toBe("weights.safetensors");
  expect(keys).toEqual(["missing: decoder.block1.0.weight", `misshapen: ${wrong}`, "extra: decoder.surprise"]);
  expect([...(await model.declared().get("encoder.conv1.weight")!.data())]).toEqual(before);

  const report = importPyTorch(model, arrays, { from: "smp", strict: false });
  expect(report.missing).toEqual(["decoder.block1.0.weight"]);
  expect(report.misshapen).toEqual([wrong]);
  expect(report.extra).toEqual(["decoder.surprise"]);
  expect([...(await model.declared().get("encoder.conv1.weight")!.data())]).not.toEqual(before);
});

function catchError(fn: () => unknown): unknown {
  try {
    fn();
  } catch (error) {
    return error;
  }
  return null;
}
