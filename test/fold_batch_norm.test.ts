import { describe, expect, test } from "vitest";
import { differentiate } from "../src/autograd.js";
import type { Backend } from "../src/backends/backend.js";
import { ArgumentError } from "../src/errors.js";
import { DeepLabV3Plus, type DeepLabV3PlusOptions } from "../src/models/index.js";
import { BatchNorm, Conv2d, constant, foldBatchNorms, Module, Sequential } from "../src/nn/index.js";
import { sum } from "../src/ops/index.js";
import { dispose, scope, Tensor } from "../src/tensor.js";
import { allDevices, referenceDevice, relativeError, values } from "./harness.js";

type Options = Pick<DeepLabV3PlusOptions, "backbone" | "variant">;

/** In eval mode, with running statistics that are not those of a new model. */
function modelOn(device: Backend, options: Options): DeepLabV3Plus {
  const model = new DeepLabV3Plus(device, { ...options, classes: 3, width: 0.125, seed: 1 });
  let seed = 10;
  for (const [name, parameter] of model.declared()) {
    const around = name.endsWith("running_var") || (name.endsWith("weight") && parameter.shape.length === 1) ? 1 : 0;
    if (parameter.shape.length === 1)
      parameter.assign(values(parameter.size, seed++, -0.3, 0.3).map((v) => around + v));
  }
  return model.eval();
}

test.each<Options>([
  { backbone: "resnet18", variant: "paper" },
  { backbone: "resnet50", variant: "vainf" },
  { backbone: "mobilenet_v2", variant: "smp" },
  { backbone: "xception65", variant: "paper" },
])("$backbone, $variant: folded logits are those of the model; undone and freed by dispose", async (options) => {
  for (const device of await allDevices()) {
    using model = modelOn(device, options);
    const x = Tensor.from(device, values(32 * 32 * 3, 1), [1, 32, 32, 3]);
    const logits = async () => {
      const y = scope(() => model.forward(x));
      const data = await y.data();
      y.dispose();
      return data;
    };
    const dispatches = async (fn: () => Promise<unknown>) => {
      const before = device.stats.dispatches;
      await fn();
      return device.stats.dispatches - before;
    };
    const plain = await logits();
    const [names, live, bytes] = [[...model.declared().keys()], device.stats.live, device.stats.bytes];
    const folded = foldBatchNorms(model);
    expect(relativeError(await logits(), plain), device.name).toBeLessThan(1e-5);
    expect([...model.declared().keys()]).toEqual(names);
    const few = await dispatches(logits);
    folded[Symbol.dispose]();
    expect(device.stats.live).toBe(live);
    expect(device.stats.bytes).toBe(bytes);
    expect(await logits()).toEqual(plain);
    expect(await dispatches(logits)).toBeGreaterThan(few * 1.3);
    x.dispose();
  }
});

class Small extends Module {
  readonly layers = new Sequential(new Conv2d(2, 3, 1, { bias: constant(0.5) }), new BatchNorm(3));
  constructor() {
    super();
    this.place(referenceDevice(), 1);
  }
}

describe("refuses", () => {
  test("a model in training, before and after", () => {
    using net = new Small();
    expect(() => foldBatchNorms(net)).toThrow(ArgumentError);
    net.eval();
    using _ = foldBatchNorms(net);
    net.train();
    scope(() => {
      const x = Tensor.ones(referenceDevice(), [1, 2, 2, 2]);
      expect(() => net.layers.forward(x)).toThrow(ArgumentError);
    });
  });

  test("gradients of the weights, and gives those of the input", async () => {
    using net = new Small().eval();
    using x = Tensor.ones(referenceDevice(), [1, 2, 2, 2]);
    const gradient = (of: readonly Tensor[]) => differentiate(of, () => ({ loss: sum(net.layers.forward(x)) }));
    const before = gradient([x]);
    using _ = foldBatchNorms(net);
    expect(() => gradient([...net.parameters().values()])).toThrow(ArgumentError);
    const after = gradient([x]);
    const [dx, expected] = [await after.gradients[0]!.data(), await before.gradients[0]!.data()];
    expect(relativeError(dx, expected)).toBeLessThan(1e-12);
    dispose(before, after);
  });
});

test("folded twice: the outer one holds until it is undone", () => {
  using net = new Small().eval();
  using x = Tensor.ones(referenceDevice(), [1, 2, 2, 2]);
  const kernels = () => {
    const before = referenceDevice().stats.dispatches;
    scope(() => void net.layers.forward(x));
    return referenceDevice().stats.dispatches - before;
  };
  const plain = kernels();
  const outer = foldBatchNorms(net);
  kernels();
  const few = kernels();
  expect(few).toBeLessThan(plain);
  foldBatchNorms(net)[Symbol.dispose]();
  expect(kernels()).toBe(few);
  outer[Symbol.dispose]();
  expect(kernels()).toBe(plain);
});
