import { expect, test } from "vitest";
import { differentiate } from "../src/autograd.js";
import type { Backend } from "../src/backends/backend.js";
import { ArgumentError, DisposedError, ShapeError } from "../src/errors.js";
import {
  BatchNorm,
  Conv2d,
  Dropout,
  type Initialiser,
  kaimingNormal,
  Layer,
  Linear,
  Module,
  normal,
  Parameter,
  ReLU,
  Sequential,
  torchDefault,
  truncatedNormal,
  uniform,
  xavierUniform,
} from "../src/nn/index.js";
import { scale, sum } from "../src/ops/index.js";
import { Generator } from "../src/random.js";
import { dispose, scope, Tensor } from "../src/tensor.js";
import { allDevices, checkOp, random, referenceDevice, values } from "./harness.js";

class Small extends Module {
  readonly first: Conv2d;
  readonly stages: readonly Layer[];
  readonly outputScale = new Parameter([2], () => [3, 4]);
  readonly nothing: Layer | null = null;
  readonly note = "not walked";

  constructor(device: Backend, seed = 0, reversed = false) {
    super();
    const tail = () => new Sequential(new BatchNorm(4), new ReLU(), new Linear(4, 2));
    const head = () => new Conv2d(3, 4, 3, { bias: torchDefault });
    const made = reversed ? [tail(), head()].reverse() : [head(), tail()];
    this.first = made[0] as Conv2d;
    this.stages = [made[1]!, new BatchNorm(2)];
    this.place(device, seed);
  }
}

test("parameters are found by walking fields, named by path in snake case", () => {
  using model = new Small(referenceDevice());
  const shapes = new Map([...model.parameters()].map(([name, { shape }]) => [name, shape]));
  expect(shapes).toEqual(
    new Map([
      ["first.weight", [4, 3, 3, 3]],
      ["first.bias", [4]],
      ["stages.0.0.weight", [4]],
      ["stages.0.0.bias", [4]],
      ["stages.0.2.weight", [2, 4]],
      ["stages.0.2.bias", [2]],
      ["stages.1.weight", [2]],
      ["stages.1.bias", [2]],
      ["output_scale", [2]],
    ]),
  );
  expect([...model.buffers().keys()].sort()).toEqual([
    "stages.0.0.running_mean",
    "stages.0.0.running_var",
    "stages.1.running_mean",
    "stages.1.running_var",
  ]);
  expect(model.parameterCount).toBe(2 + 108 + 4 + 8 + 8 + 2 + 4);
  expect(model.modules().get("")).toBe(model);
  expect(model.modules().get("stages.0.0")).toBeInstanceOf(BatchNorm);
});

test("describing and counting make no tensors; the same tensor is given every time; disposal frees all", () => {
  const device = referenceDevice();
  const before = device.stats.live;
  const model = new Small(device);
  expect(model.declared().size).toBe(13);
  expect(model.parameterCount).toBeGreaterThan(0);
  expect(device.stats.live).toBe(before);
  const weight = scope(() => model.parameters().get("first.weight")!);
  expect(weight.disposed).toBe(false);
  expect(model.parameters().get("first.weight")).toBe(weight);
  expect(device.stats.live).toBe(before + model.parameters().size);
  model.dispose();
  expect(device.stats.live).toBe(before);
  expect(weight.disposed).toBe(true);
  expect(() => model.buffers()).toThrow(DisposedError);
});

test("first values depend on seed and name, not on device or order of construction", async () => {
  const read = async (model: Small) => {
    const entries = [...model.parameters()].map(async ([name, t]) => [name, [...(await t.data())]] as const);
    return new Map([...(await Promise.all(entries))].sort(([a], [b]) => (a < b ? -1 : 1)));
  };
  using base = new Small(referenceDevice(), 5);
  const expected = await read(base);
  expect(expected.get("output_scale")).toEqual([3, 4]);
  for (const device of await allDevices()) {
    using same = new Small(device, 5);
    using turned = new Small(device, 5, true);
    using other = new Small(device, 6);
    expect(await read(same)).toEqual(expected);
    expect(await read(turned)).toEqual(expected);
    expect((await read(other)).get("first.weight")).not.toEqual(expected.get("first.weight"));
  }
  expect(expected.get("first.weight")!.slice(0, 8)).not.toEqual(expected.get("stages.0.2.weight"));
});

test("assigned values replace random ones before and after the tensor exists", async () => {
  using model = new Small(referenceDevice());
  const weight = model.declared().get("stages.0.2.weight")!;
  weight.assign([1, 2, 3, 4, 5, 6, 7, 8]);
  expect([...(await weight.data())]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  const tensor = weight.tensor;
  weight.assign([8, 7, 6, 5, 4, 3, 2, 1]);
  expect(weight.tensor).toBe(tensor);
  expect([...(await weight.data())]).toEqual([8, 7, 6, 5, 4, 3, 2, 1]);
  expect(() => weight.assign([1])).toThrow(ShapeError);
});

test("a parameter of a module that was never placed says so", () => {
  expect(() => new Linear(2, 3).weight.tensor).toThrow(ArgumentError);
});

test("train, eval and freezeBatchNorm reach every module", () => {
  using model = new Small(referenceDevice());
  const norms = [...model.modules().values()].filter((m) => m instanceof BatchNorm);
  const modes = () => norms.map((norm) => norm.mode);
  expect(modes()).toEqual(["train", "train"]);
  expect(model.eval().training).toBe(false);
  expect(modes()).toEqual(["eval", "eval"]);
  model.freezeBatchNorm().train();
  expect(modes()).toEqual(["frozen", "frozen"]);
  expect(model.freezeBatchNorm(false).training).toBe(true);
  expect(modes()).toEqual(["train", "train"]);
});

const moments = (data: Float32Array) => {
  const mean = data.reduce((a, b) => a + b, 0) / data.length;
  return { mean, std: Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / data.length) };
};
test.each<[string, Initialiser, number, number]>([
  ["normal", normal(0.5), 0.5, Number.POSITIVE_INFINITY],
  ["uniform", uniform(0.3), 0.3 / Math.sqrt(3), 0.3],
  // A normal distribution cut at two deviations has 0.8796 of its own.
  ["truncatedNormal", truncatedNormal(0.33), 0.33 * 0.8796, 0.66],
  ["kaimingNormal fanIn", kaimingNormal("fanIn"), Math.sqrt(2 / 50), Number.POSITIVE_INFINITY],
  ["kaimingNormal fanOut", kaimingNormal("fanOut"), Math.sqrt(2 / 200), Number.POSITIVE_INFINITY],
  ["torchDefault", torchDefault, 1 / Math.sqrt(3 * 50), 1 / Math.sqrt(50)],
  ["xavierUniform", xavierUniform, Math.sqrt(2 / 250), Math.sqrt(6 / 250)],
])("%s has the spread it promises", (_, initial, std, bound) => {
  const data = initial([100, 200], new Generator(3), { fanIn: 50, fanOut: 200 });
  const got = moments(data);
  expect(Math.abs(got.mean)).toBeLessThan(std * 0.03);
  expect(got.std / std).toBeGreaterThan(0.98);
  expect(got.std / std).toBeLessThan(1.02);
  expect(data.every((v) => Math.abs(v) <= Math.fround(bound))).toBe(true);
});

test("linear is x Wᵀ + b on the last axis, with gradients", async () => {
  const apply = (x: Tensor, weight: Tensor, bias: Tensor) => {
    const linear = new Linear(3, 2);
    Object.defineProperty(linear, "weight", { value: { tensor: weight } });
    Object.defineProperty(linear, "bias", { value: { tensor: bias } });
    return linear.forward(x);
  };
  await checkOp(apply, [random([2, 1, 2, 3], 1), random([2, 3], 2), random([2], 3)]);
  const device = referenceDevice();
  const [x, w, b] = [
    [1, 2, 3],
    [1, 0, -1, 2, 1, 0],
    [10, 20],
  ];
  const y = scope(() =>
    apply(Tensor.from(device, x!, [1, 3]), Tensor.from(device, w!, [2, 3]), Tensor.from(device, b!)),
  );
  expect([...(await y.data())]).toEqual([8, 24]);
  y.dispose();
  using short = Tensor.from(device, [1, 2, 3]);
  expect(() => new Linear(4, 2).forward(short)).toThrow(ShapeError);
});

class Root extends Layer {
  constructor(
    device: Backend,
    readonly inner: Layer,
  ) {
    super();
    this.place(device, 0);
  }
  override forward(x: Tensor): Tensor {
    return this.inner.forward(x);
  }
}

test("a convolution keeps the size at stride 1, whatever its dilation", () => {
  const device = referenceDevice();
  for (const [kernel, dilation] of [
    [1, 1],
    [3, 1],
    [3, 6],
    [5, 2],
  ] as const) {
    using model = new Root(device, new Conv2d(4, 8, kernel, { dilation, groups: 2 }));
    using y = scope(() => model.forward(Tensor.ones(device, [1, 5, 4, 4])));
    expect(y.shape).toEqual([1, 5, 4, 8]);
  }
  expect(() => new Conv2d(4, 6, 3, { groups: 4 })).toThrow(ArgumentError);
});

test("dropout draws from its generator in training only", async () => {
  for (const device of await allDevices()) {
    let generator = new Generator(1);
    using model = new Root(device, new Dropout(0.5, () => generator));
    const run = async () => {
      using y = scope(() => model.forward(Tensor.ones(device, [64])));
      return [...(await y.data())];
    };
    const state = generator.state();
    const first = await run();
    expect(new Set(first)).toEqual(new Set([0, 2]));
    expect(generator.state()).not.toEqual(state);
    expect(await run()).not.toEqual(first);
    generator = Generator.from(state);
    expect(await run()).toEqual(first);
    model.eval();
    const after = generator.state();
    expect(await run()).toEqual(new Array(64).fill(1));
    expect(generator.state()).toEqual(after);
  }
});

test("frozen batch normalisation leaves statistics and parameters alone", async () => {
  const device = referenceDevice();
  using model = new Root(device, new Sequential(new Conv2d(2, 2, 1), new BatchNorm(2)));
  model.freezeBatchNorm();
  const parameters = [...model.parameters().values()];
  const x = Tensor.from(device, values(16), [2, 2, 2, 2]);
  const { values: made, gradients } = differentiate(parameters, () => ({ loss: sum(model.forward(x)) }));
  const [dw, dgamma, dbeta] = await Promise.all(gradients.map((g) => g.data()));
  expect(dw!.some((v) => v !== 0)).toBe(true);
  expect([...dgamma!, ...dbeta!]).toEqual([0, 0, 0, 0]);
  expect([...(await model.buffers().get("inner.1.running_mean")!.data())]).toEqual([0, 0]);
  dispose(made, gradients, x);
});

test("Sequential computes a ReLU with the batch normalisation before it, but nobody else's idea of either", async () => {
  class Twice extends ReLU {
    override forward(x: Tensor): Tensor {
      return scale(super.forward(x), 2);
    }
  }
  class Root extends Module {
    readonly inner: readonly Layer[];
    constructor(device: Backend, inner: Layer[]) {
      super();
      this.inner = inner;
      this.place(device, 0);
    }
  }
  const data = values(2 * 3 * 3 * 4);
  for (const device of await allDevices()) {
    const run = async (tail: Layer) => {
      const norm = new BatchNorm(4);
      using _root = new Root(device, [norm]);
      const counted = device.stats.dispatches;
      const y = scope(() => new Sequential(norm, tail).forward(Tensor.from(device, data, [2, 3, 3, 4])));
      const dispatches = device.stats.dispatches - counted;
      const out = await y.data();
      y.dispose();
      return { out, dispatches };
    };
    const [fused, twice, none] = [await run(new ReLU()), await run(new Twice()), await run(new Sequential())];
    expect(fused.dispatches).toBe(none.dispatches);
    expect(twice.dispatches).toBe(none.dispatches + 2);
    expect(fused.out).toEqual(none.out.map((v) => Math.max(v, 0)));
    expect(twice.out).toEqual(none.out.map((v) => 2 * Math.max(v, 0)));
  }
});
