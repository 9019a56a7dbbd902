import { expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import type { Backend } from "../../src/backends/backend.js";
import { ArgumentError, ShapeError } from "../../src/errors.js";
import {
  adaptSegNetDiscriminator,
  adversarialSchedule,
  DeepLabV3Plus,
  type DeepLabV3PlusOptions,
  DomainDiscriminator,
  type DomainDiscriminatorOptions,
  type Features,
  tap,
  tapChannels,
  taps,
} from "../../src/models/index.js";
import { binaryCrossEntropy, crossEntropy, reverseGradient } from "../../src/ops/index.js";
import { Generator } from "../../src/random.js";
import type { Shape } from "../../src/shape.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import {
  allDevices,
  checkOp,
  labels,
  random,
  referenceDevice,
  relativeError,
  values,
  webgpuDevice,
} from "../harness.js";

const tiny = (device: Backend, options: Partial<DeepLabV3PlusOptions> = {}) =>
  new DeepLabV3Plus(device, { backbone: "resnet18", classes: 3, width: 1 / 32, ...options });
const images = (device: Backend, shape: Shape, seed = 1) =>
  Tensor.from(
    device,
    values(
      shape.reduce((a, b) => a * b),
      seed,
    ),
    shape,
  );

function catchError(fn: () => unknown): unknown {
  try {
    fn();
  } catch (error) {
    return error;
  }
  return null;
}

test.each<[Partial<DeepLabV3PlusOptions>, Shape, number]>([
  [{ variant: "paper" }, [2, 33, 47, 3], 16],
  [{ variant: "paper", outputStride: 8, backbone: "resnet50" }, [2, 32, 40, 3], 8],
  [{ variant: "smp" }, [2, 32, 48, 3], 16],
  [{ variant: "vainf" }, [2, 31, 30, 3], 16],
  [{ variant: "paper", backbone: "mobilenet_v2", inChannels: 5 }, [2, 33, 33, 5], 16],
  [{ variant: "paper", backbone: "xception65" }, [2, 33, 33, 3], 16],
  [{ variant: "smp", backbone: "xception65", outputStride: 8 }, [2, 32, 32, 3], 8],
  [{ variant: "paper", backbone: "resnet34", imagePooling: "group" }, [1, 17, 20, 3], 16],
])("%o: features have the promised shapes, and nothing else stays alive", (options, shape, stride) => {
  const device = referenceDevice();
  using model = tiny(device, options);
  using x = images(device, shape);
  const made = model.parameters().size + model.buffers().size;
  const before = device.stats.live;
  const features = model.features(x);
  expect(device.stats.live).toBe(before + 5);
  expect(made).toBeGreaterThan(0);
  const [n, h, w] = shape as [number, number, number, number];
  const at = (s: number) => [n, Math.ceil(h / s), Math.ceil(w / s)];
  expect(features.logits.shape).toEqual([n, h, w, 3]);
  expect(features.encoder.shape).toEqual([...at(stride), model.channels.encoder]);
  expect(features.aspp.shape).toEqual([...at(stride), 8]);
  expect(features.lowLevel.shape).toEqual([...at(4), model.channels.lowLevel]);
  expect(features.decoder.shape).toEqual([...at(4), 8]);
  for (const at of taps) {
    using seen = scope(() => tap(features, at));
    expect(seen.shape.at(-1)).toBe(tapChannels(model, at));
  }
  dispose(features);
  using logits = model.eval().forward(x);
  expect(logits.shape).toEqual([n, h, w, 3]);
});

test("width scales every channel count to multiples of 8, and 1 leaves the published ones", () => {
  const device = referenceDevice();
  expect(tiny(device, { width: 1 }).channels).toEqual({
    encoder: 512,
    lowLevel: 64,
    aspp: 256,
    decoder: 256,
    reducedLowLevel: 48,
  });
  expect(tiny(device, { width: 0.25, backbone: "xception65" }).channels).toEqual({
    encoder: 512,
    lowLevel: 64,
    aspp: 64,
    decoder: 64,
    reducedLowLevel: 16,
  });
});

test("impossible options are refused", () => {
  const device = referenceDevice();
  const refused: Partial<DeepLabV3PlusOptions>[] = [
    { classes: 0 },
    { classes: 1.5 },
    { inChannels: 0 },
    { width: 0 },
    { width: Number.NaN },
    { outputStride: 4 as 8 },
    { backbone: "resnet19" as "resnet18" },
    { variant: "mmseg" as "smp" },
    { imagePooling: "layer" as "group" },
    { variant: "vainf", backbone: "xception65" },
  ];
  for (const options of refused) {
    const error = catchError(() => tiny(device, options));
    expect(error, JSON.stringify(options)).toBeInstanceOf(ArgumentError);
    expect((error as ArgumentError).op).toBe("DeepLabV3Plus");
  }
});

test("images of a wrong shape are refused before anything runs", () => {
  const device = referenceDevice();
  const smp = tiny(device, { variant: "smp" });
  const refuse = (model: DeepLabV3Plus, shape: Shape) => {
    using x = Tensor.zeros(device, shape);
    const before = device.stats;
    const error = catchError(() => model.features(x));
    expect(error).toBeInstanceOf(ShapeError);
    expect((error as ShapeError).operands).toEqual({ x: x.spec });
    expect(device.stats).toEqual(before);
  };
  refuse(smp, [2, 33, 32, 3]);
  refuse(smp, [2, 32, 40, 3]);
  refuse(smp, [2, 32, 32, 4]);
  refuse(smp, [32, 32, 3]);
});

test("one image in training needs group normalisation after image pooling, said before anything runs", () => {
  const device = referenceDevice();
  using x = images(device, [1, 17, 17, 3]);
  using batch = tiny(device);
  const before = device.stats;
  const error = catchError(() => batch.forward(x));
  expect(error).toBeInstanceOf(ArgumentError);
  expect((error as ArgumentError).reason).toContain('imagePooling: "group"');
  expect(device.stats).toEqual(before);
  batch.freezeBatchNorm().forward(x).dispose();
  batch.freezeBatchNorm(false).eval().forward(x).dispose();
  using group = tiny(device, { imagePooling: "group" });
  group.forward(x).dispose();
  expect(group.parameterCount).toBe(batch.parameterCount);
});

test("rates that reach beyond the features are named", () => {
  const device = referenceDevice();
  expect(tiny(device, { variant: "paper" }).warnings(513, 513)).toEqual([]);
  expect(tiny(device, { variant: "smp" }).warnings(512, 512)).toHaveLength(1); // 36 on 32x32
  expect(tiny(device, { variant: "paper" }).warnings(256, 512)).toHaveLength(1); // 18 on 16x32
  expect(tiny(device, { variant: "paper", outputStride: 8 }).warnings(64, 64)).toHaveLength(3);
});

test("dropout's random numbers are the model's: the same state, the same logits", async () => {
  const device = referenceDevice();
  using model = tiny(device, { variant: "smp" });
  using x = images(device, [2, 32, 32, 3]);
  const run = async () => {
    using logits = model.forward(x);
    return [...(await logits.data())];
  };
  const state = model.generator.state();
  const first = await run();
  expect(await run()).not.toEqual(first);
  model.generator = Generator.from(state);
  expect(await run()).toEqual(first);
});

test("λ(p) runs from 0 to 1 and is clamped", () => {
  // Ganin et al. 2016 with γ = 10, to three digits (guides/domain.md, section 2.1).
  for (const [p, lambda] of [
    [0, 0],
    [0.1, 0.462],
    [0.25, 0.848],
    [0.5, 0.987],
    [1, 0.9999],
  ] as const) {
    expect(adversarialSchedule(p)).toBeCloseTo(lambda, 3);
  }
  expect(adversarialSchedule(-1)).toBe(0);
  expect(adversarialSchedule(7)).toBe(adversarialSchedule(1));
  expect(adversarialSchedule(0.5, 1)).toBeCloseTo(Math.tanh(0.25), 12);
});

test.each<[DomainDiscriminatorOptions, Shape, Shape]>([
  [{ kind: "convolutional", inChannels: 5, width: 8 }, [2, 32, 32, 5], [2, 16, 16, 1]],
  [{ kind: "convolutional", inChannels: 5, width: 8, strides: [2, 1] }, [1, 9, 7, 5], [1, 5, 4, 1]],
  [{ kind: "convolutional", inChannels: 5, width: 8, strides: [1] }, [1, 9, 7, 5], [1, 9, 7, 1]],
  [{ ...adaptSegNetDiscriminator, inChannels: 3, width: 4 }, [1, 64, 96, 3], [1, 2, 3, 1]],
  [{ kind: "global", inChannels: 5, width: 8 }, [3, 4, 4, 5], [3, 1]],
  [{ kind: "global", inChannels: 5, width: 8, norm: true }, [3, 4, 4, 5], [3, 1]],
])("discriminator %o", async (options, shape, verdicts) => {
  for (const device of await allDevices()) {
    using judge = new DomainDiscriminator(device, options);
    using x = images(device, shape);
    using y = judge.forward(x);
    expect(y.shape).toEqual(verdicts);
    using wrong = Tensor.zeros(device, [1, 4, 4, 6]);
    expect(() => judge.forward(wrong)).toThrow(ShapeError);
  }
});

test("impossible discriminators are refused", () => {
  const device = referenceDevice();
  const refused: DomainDiscriminatorOptions[] = [
    { kind: "convolutional", inChannels: 0 },
    { kind: "convolutional", inChannels: 3, width: 0 },
    { kind: "convolutional", inChannels: 3, strides: [] },
    { kind: "convolutional", inChannels: 3, strides: [1, 0] },
    { kind: "global", inChannels: 3, width: 1.5 },
    { kind: "local" as "global", inChannels: 3 },
  ];
  for (const options of refused) {
    expect(
      catchError(() => new DomainDiscriminator(device, options)),
      JSON.stringify(options),
    ).toBeInstanceOf(ArgumentError);
  }
});

/** Features of which only the logits matter. */
const seenAs = (logits: Tensor): Features => ({
  encoder: logits,
  lowLevel: logits,
  aspp: logits,
  decoder: logits,
  logits,
});

test("softmax and entropy taps, with gradients", async () => {
  await checkOp((logits) => tap(seenAs(logits), "softmax"), [random([2, 3, 2, 4], 5, -3, 3)]);
  await checkOp((logits) => tap(seenAs(logits), "entropy"), [random([2, 3, 2, 4], 5, -3, 3)]);
  const device = referenceDevice();
  using flat = Tensor.zeros(device, [1, 1, 1, 4]);
  using entropy = scope(() => tap(seenAs(flat), "entropy"));
  // Four equal classes have an entropy of 1 in units of log 4: a quarter each.
  expect(relativeError(await entropy.data(), [0.25, 0.25, 0.25, 0.25])).toBeLessThan(1e-12);
  using single = Tensor.zeros(device, [1, 1, 1, 1]);
  expect(() => tap(seenAs(single), "entropy")).toThrow(ArgumentError);
  expect(() => tap(seenAs(single), "softmax")).toThrow(ArgumentError);
  expect(tap(seenAs(single), "aspp")).toBe(single);
});

test("reversal turns and scales the features' gradient and leaves the discriminator's alone", async () => {
  for (const device of await allDevices()) {
    using judge = new DomainDiscriminator(device, { kind: "convolutional", inChannels: 4, width: 8 });
    using x = images(device, [2, 6, 6, 4]);
    const parameters = [...judge.parameters().values()];
    const gradientsAt = async (through: (x: Tensor) => Tensor) => {
      const { values: made, gradients } = differentiate([x, ...parameters], () => ({
        loss: binaryCrossEntropy(judge.forward(through(x)), 1),
      }));
      const [dx, ...rest] = await Promise.all(gradients.map(async (g) => [...(await g.data())]));
      dispose(made, gradients);
      return { dx: dx!, rest };
    };
    const plain = await gradientsAt((x) => x);
    expect(plain.dx.some((v) => v !== 0)).toBe(true);
    for (const lambda of [0, 0.5, 1, 3]) {
      const reversed = await gradientsAt((x) => reverseGradient(x, lambda));
      expect(
        relativeError(
          reversed.dx,
          plain.dx.map((v) => -lambda * v),
        ),
      ).toBeLessThan(1e-6);
      expect(reversed.rest).toEqual(plain.rest);
    }
  }
});

test("overfits one batch", async () => {
  const device = (await webgpuDevice()) ?? referenceDevice();
  using model = tiny(device, { width: 1 / 16, imagePooling: "group" });
  const [n, h, w] = [2, 32, 32];
  using x = images(device, [n, h, w, 3]);
  // Blocks of 8x8 pixels: what the decoder can resolve at stride 4.
  const coarse = labels([n, h / 8, w / 8], 3, 4).data;
  const truth = Array.from({ length: n * h * w }, (_, i) => {
    const [row, column] = [Math.floor(i / w) % h, i % w];
    return coarse[(Math.floor(i / (h * w)) * (h / 8) + Math.floor(row / 8)) * (w / 8) + Math.floor(column / 8)]!;
  });
  using y = Tensor.from(device, truth, [n, h, w], "u32");
  const parameters = [...model.parameters().values()];
  const weights = await Promise.all(parameters.map((p) => p.data()));
  const velocity = weights.map((data) => new Float32Array(data.length));
  const losses: number[] = [];
  for (let step = 0; step < 45; step++) {
    const { values: made, gradients } = differentiate(parameters, () => ({ loss: crossEntropy(model.forward(x), y) }));
    losses.push(await made.loss.item());
    const pulled = await Promise.all(gradients.map((g) => g.data()));
    pulled.forEach((g, i) => {
      for (let j = 0; j < g.length; j++) {
        velocity[i]![j] = 0.9 * velocity[i]![j]! + g[j]!;
        weights[i]![j] = weights[i]![j]! - 0.05 * velocity[i]![j]!;
      }
      parameters[i]!.assign(weights[i]!);
    });
    dispose(made, gradients);
  }
  expect(losses[0]).toBeGreaterThan(0.9);
  expect(losses.at(-1)).toBeLessThan(0.25);
});
