import { expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import type { Backend } from "../../src/backends/backend.js";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, DTypeError } from "../../src/errors.js";
import { dropout } from "../../src/ops/dropout.js";
import { sum } from "../../src/ops/index.js";
import { Generator } from "../../src/random.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import { allDevices, checkOp, random, referenceDevice, webgpuDevice } from "../harness.js";

test.each([
  [[7, 5], 0.1],
  [[2, 3, 3, 8], 0.5],
  [[3], 0.9],
  [[1, 4, 4, 21], 0],
])("%j at %f", async (shape, rate) => {
  await checkOp((x) => dropout(x, rate, new Generator(11)), [random(shape)], { half: true });
});

const ones = async (device: Backend, count: number, rate: number, seed = 1) => {
  const y = scope(() => dropout(Tensor.ones(device, [count]), rate, new Generator(seed)));
  const data = Float32Array.from(await y.data());
  y.dispose();
  return data;
};

test("the mask is that of the host's words, on every device", async () => {
  const count = 10_001;
  const words = new Generator(1).u32(count);
  for (const rate of [0.1, 0.5, 1 / 3, 1 - 2 ** -33]) {
    const expected = Float32Array.from(words, (word) =>
      word >= Math.min(rate * 2 ** 32, 2 ** 32 - 1) ? 1 / (1 - rate) : 0,
    );
    for (const device of await allDevices()) expect(await ones(device, count, rate)).toEqual(expected);
  }
});

test("drops the share it should, and keeps the mean", async () => {
  const y = await ones(referenceDevice(), 40_000, 0.3);
  const kept = y.reduce((n, v) => n + (v === 0 ? 0 : 1), 0) / y.length;
  expect(Math.abs(kept - 0.7)).toBeLessThan(0.01); // four standard errors
});

test("two calls differ; the gradient of each has its own mask", async () => {
  for (const device of await allDevices()) {
    const x = Tensor.ones(device, [64]);
    const generator = new Generator(3);
    const { values, gradients } = differentiate([x], () => {
      const first = dropout(x, 0.5, generator);
      const second = dropout(first, 0.5, generator);
      return { first, second, loss: sum(second) };
    });
    expect(generator.state().counter).toBe(32);
    const [first, second, dx] = await Promise.all([values.first.data(), values.second.data(), gradients[0]!.data()]);
    expect([...first]).not.toEqual([...second].map((v) => v / 2));
    expect([...dx]).toEqual([...second]); // x is 1
    dispose(values, gradients, x);
  }
});

test("rate 0 draws nothing", () => {
  const generator = new Generator(3);
  scope(() => {
    dropout(Tensor.ones(referenceDevice(), [8]), 0, generator);
  });
  expect(generator.state().counter).toBe(0);
});

test("the same mask where the device binds less than the tensor", async () => {
  if (!(await webgpuDevice())) return;
  using device = await WebGPUBackend.open({ maxBindingBytes: 4096 });
  const run = (where: Backend) => scope(() => dropout(Tensor.ones(where, [5, 16, 32]), 0.5, new Generator(9)));
  const [y, expected] = [run(device), run(referenceDevice())];
  expect([...(await y.data())]).toEqual([...(await expected.data())]);
  dispose(y, expected);
});

test("refuses rates outside [0, 1), and integers", () => {
  scope(() => {
    const x = Tensor.ones(referenceDevice(), [2]);
    for (const rate of [-0.1, 1, 2, Number.NaN])
      expect(() => dropout(x, rate, new Generator(1))).toThrow(ArgumentError);
    expect(() => dropout(Tensor.ones(referenceDevice(), [2], "i32"), 0.5, new Generator(1))).toThrow(DTypeError);
  });
});
