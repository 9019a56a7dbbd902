import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  exportPyTorch,
  type FileTensor,
  loadPretrained,
  type PretrainedReport,
  type PyTorchSource,
  readSafetensors,
  savePretrained,
  writeSafetensors,
} from "../../src/checkpoint/index.js";
import { CheckpointError } from "../../src/errors.js";
import { DeepLabV3Plus, type DeepLabV3PlusOptions } from "../../src/models/index.js";
import { referenceDevice, values } from "../harness.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "lacuna-pretrained-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const tiny = (options: Partial<DeepLabV3PlusOptions> = {}) =>
  new DeepLabV3Plus(referenceDevice(), { backbone: "resnet18", variant: "smp", width: 1 / 32, classes: 3, ...options });

/** A model of known values. */
function trained(options: Partial<DeepLabV3PlusOptions> = {}): DeepLabV3Plus {
  const model = tiny(options);
  let seed = 100;
  for (const parameter of model.declared().values()) parameter.assign(values(parameter.size, seed++));
  return model;
}

type Tensors = Map<string, FileTensor>;

/** Writes `model` as another library would have saved it, changed by `change`. */
async function foreignFile(
  name: string,
  model: DeepLabV3Plus,
  source: PyTorchSource,
  change: (tensors: Tensors) => Tensors = (tensors) => tensors,
): Promise<string> {
  const tensors: Tensors = new Map();
  for (const [key, { shape, data }] of await exportPyTorch(model, source)) {
    tensors.set(key, { dtype: "F32", shape, data });
  }
  const file = join(folder, name);
  await writeSafetensors(file, change(tensors));
  return file;
}

const statesOf = ({ parts }: PretrainedReport) => parts.map(({ state }) => state);
const valuesOf = async (model: DeepLabV3Plus, name: string) => [...(await model.declared().get(name)!.data())];
/** Names of entries in which two models differ. */
async function differing(a: DeepLabV3Plus, b: DeepLabV3Plus): Promise<string[]> {
  const found: string[] = [];
  for (const name of a.declared().keys()) {
    const [x, y] = await Promise.all([valuesOf(a, name), valuesOf(b, name)]);
    if (x.some((value, i) => value !== y[i])) found.push(name);
  }
  return found;
}

describe("loadPretrained", () => {
  test.each(["smp", "vainf"] as const)(
    "finds out that names are those of %s, and takes everything",
    async (variant) => {
      using from = trained({ variant });
      using model = tiny({ variant });
      const report = await loadPretrained(model, await foreignFile(`${variant}.safetensors`, from, variant));
      expect(report).toMatchObject({ source: variant, adaptedFrom: null, extra: [] });
      expect(statesOf(report)).toEqual(["taken", "taken", "taken"]);
      expect(report.parts.reduce((sum, { arrays }) => sum + arrays, 0)).toBe(model.declared().size);
      expect(await differing(from, model)).toEqual([]);
    },
  );

  test.each(["resnet18", "mobilenet_v2", "xception65"] as const)(
    "takes an encoder of torchvision or timm: %s, its classifier passed over",
    async (backbone) => {
      using from = trained({ backbone });
      using model = tiny({ backbone });
      using before = tiny({ backbone });
      const file = await foreignFile(`${backbone}.safetensors`, from, "torchvision", (tensors) =>
        tensors.set("fc.weight", { dtype: "F32", shape: [2], data: new Float32Array(2) }),
      );
      const report = await loadPretrained(model, file);
      expect(report).toMatchObject({ source: "torchvision", extra: [] });
      expect(statesOf(report)).toEqual(["taken", "absent", "absent"]);
      const encoder = [...model.declared().keys()].filter((name) => name.startsWith("encoder."));
      expect((await differing(from, model)).filter((name) => encoder.includes(name))).toEqual([]);
      expect((await differing(before, model)).filter((name) => !encoder.includes(name))).toEqual([]);
    },
  );

  test.each(["module.", "model."])("passes over the prefix %s", async (prefix) => {
    using from = trained();
    using model = tiny();
    const file = await foreignFile(
      "prefixed.safetensors",
      from,
      "smp",
      (tensors) => new Map([...tensors].map(([name, tensor]) => [prefix + name, tensor])),
    );
    expect((await loadPretrained(model, file)).source).toBe("smp");
    expect(await differing(from, model)).toEqual([]);
  });

  test("other classes: the head keeps its first values, and the report names it", async () => {
    using from = trained({ classes: 7 });
    using model = tiny();
    using before = tiny();
    const report = await loadPretrained(model, await foreignFile("seven.safetensors", from, "smp"));
    expect(statesOf(report)).toEqual(["taken", "taken", "unfit"]);
    expect(report.parts[2]!.problems).toEqual([
      "misshapen: segmentation_head.0.weight",
      "misshapen: segmentation_head.0.bias",
    ]);
    const head = "segmentation_head.0.weight";
    expect(await valuesOf(model, head)).toEqual(await valuesOf(before, head));
  });

  test("another variant's decoder is not taken in halves", async () => {
    using from = trained({ variant: "smp" });
    using model = tiny({ variant: "paper" });
    using before = tiny({ variant: "paper" });
    const report = await loadPretrained(model, await foreignFile("variant.safetensors", from, "smp"));
    expect(statesOf(report)).toEqual(["taken", "unfit", "taken"]);
    const changed = await differing(before, model);
    expect(changed.filter((name) => name.startsWith("decoder."))).toEqual([]);
    expect(changed.some((name) => name.startsWith("encoder."))).toBe(true);
  });

  test.each([
    [1, (rgb: number[]) => [rgb[0]! + rgb[1]! + rgb[2]!]],
    [4, (rgb: number[]) => [0, 1, 2, 0].map((c) => (rgb[c]! * 3) / 4)],
  ] as const)("three bands become %i, from files of others and from ours", async (inChannels, rule) => {
    using from = trained();
    const foreign = await foreignFile("rgb.safetensors", from, "smp");
    const own = join(folder, "rgb_own.safetensors");
    using copy = tiny();
    await savePretrained(own, from, await loadPretrained(copy, foreign), {});
    const expected = rule((await valuesOf(from, "encoder.conv1.weight")).slice(0, 3)).map(Math.fround);
    for (const file of [foreign, own]) {
      using model = tiny({ inChannels });
      const report = await loadPretrained(model, file);
      expect(report.adaptedFrom).toBe(3);
      const got = (await valuesOf(model, "encoder.conv1.weight")).slice(0, inChannels);
      got.forEach((value, c) => {
        expect(value).toBeCloseTo(expected[c]!, 6);
      });
    }
  });

  test("what savePretrained wrote is read again, only what was taken", async () => {
    using from = trained({ classes: 7, backbone: "xception65" });
    using model = tiny({ backbone: "xception65" });
    const report = await loadPretrained(model, await foreignFile("xception.safetensors", from, "smp"));
    const file = join(folder, "own.safetensors");
    await savePretrained(file, model, report, { backbone: "xception65" });
    const { metadata, tensors } = await readSafetensors(file);
    expect(JSON.parse(metadata.get("lacuna.weights")!)).toEqual({ backbone: "xception65" });
    expect([...tensors.keys()].filter((name) => name.includes("segmentation_head"))).toEqual([]);
    using again = tiny({ backbone: "xception65" });
    const second = await loadPretrained(again, file);
    expect(second.source).toBe("lacuna");
    expect(statesOf(second)).toEqual(["taken", "taken", "absent"]);
    expect(await differing(model, again)).toEqual([]);
  });

  test("a run's averaged weights are preferred, its running statistics and optimiser are what they are", async () => {
    using from = trained();
    const tensors: Tensors = new Map([["optimiser.m", { dtype: "F32", shape: [1], data: new Float32Array(1) }]]);
    for (const [name, entry] of from.declared()) {
      const data = Float32Array.from(await entry.data());
      const { shape } = entry;
      tensors.set(`model.${name}`, { dtype: "F32", shape, data });
      if (entry.trainable) tensors.set(`ema.model.${name}`, { dtype: "F32", shape, data: data.map((v) => v / 2) });
    }
    const file = join(folder, "checkpoint.safetensors");
    await writeSafetensors(file, tensors, new Map([["lacuna.run", "{}"]]));
    using model = tiny();
    expect(await loadPretrained(model, file)).toMatchObject({ source: "lacuna", extra: [] });
    for (const [name, factor] of [
      ["encoder.layer2.0.conv1.weight", 0.5],
      ["encoder.bn1.running_var", 1],
    ] as const) {
      expect(await valuesOf(model, name)).toEqual((await valuesOf(from, name)).map((v) => v * factor));
    }
  });

  test("another backbone is refused by name, and the model is as it was", async () => {
    using from = trained({ backbone: "resnet50" });
    const file = await foreignFile("r50.safetensors", from, "torchvision");
    using model = tiny();
    using before = tiny();
    const error = await refusal(loadPretrained(model, file));
    expect(error.file).toBe(file);
    expect(error.reason).toMatch(/does not fit the encoder resnet18 \(names of torchvision\)/);
    expect(error.keys.some((key) => key.startsWith("misshapen: layer1.0.conv1.weight"))).toBe(true);
    expect(await differing(before, model)).toEqual([]);
  });

  test("a file of something else is refused", async () => {
    const file = join(folder, "other.safetensors");
    await writeSafetensors(file, new Map([["x", { dtype: "F32", shape: [1], data: new Float32Array(1) }]]));
    using model = tiny();
    expect((await refusal(loadPretrained(model, file))).reason).toMatch(/holds no weights of an encoder/);
  });

  test.each(["pickled_zip.pt", "pickled_legacy.pt"])(
    "%s, which torch.save wrote, is refused with the way to convert",
    async (name) => {
      const file = fileURLToPath(new URL(`../golden/${name}`, import.meta.url));
      using model = tiny();
      // Under an honest name and under another.
      const disguised = join(folder, "weights.safetensors");
      writeFileSync(disguised, readFileSync(file));
      for (const path of [file, disguised]) {
        const error = await refusal(loadPretrained(model, path));
        expect(error.reason).toMatch(/torch\.save writes|torch\.save wrote|as old torch\.save/);
        expect(error.hint).toMatch(/weights_only=True.*save_file/);
      }
    },
  );
});

async function refusal(promise: Promise<unknown>): Promise<CheckpointError> {
  const error = await promise.then(
    () => null,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  return error as CheckpointError;
}
