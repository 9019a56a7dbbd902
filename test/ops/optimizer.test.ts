import { expect, test } from "vitest";
import type { Backend } from "../../src/backends/backend.js";
import { kernels } from "../../src/kernel.js";
import "../../src/optim/index.js";
import type { TensorData } from "../../src/shape.js";
import { Tensor } from "../../src/tensor.js";
import { allDevices, hostDeviceBackwards, referenceDevice, relativeError, values, webgpuDevice } from "../harness.js";

/** Runs a kernel of the optimisers on fresh operands and returns every output, updated in place. */
async function outputsOf(device: Backend, name: string, operands: readonly number[][], params: Record<string, number>) {
  const kernel = kernels.get(`optimizer.${name}`)!;
  const tensors = operands.map((data) => Tensor.from(device, data));
  const views = tensors.map((t) => t.view);
  device.run(kernel, views.slice(0, kernel.inputs.length), views.slice(kernel.inputs.length), params);
  const outputs = await Promise.all(tensors.slice(kernel.inputs.length).map((t) => t.data()));
  for (const t of tensors) t.dispose();
  return outputs;
}

const bitsOf = (data: TensorData): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

const positive = (count: number, seed: number) => values(count, seed, 0.1, 2);
const clip = [3, 0.7];
const adamParams = { lr: 0.01, keep: 0.99, decay: 0.1, rate1: 0.1, beta2: 0.999, rate2: 0.001, root: 3, eps: 1e-8 };
const cases: [name: string, count: number, operands: (n: number) => number[][], params: Record<string, number>][] = [];
for (const n of [64, 1024, 70_016]) {
  const three = (k: number): number[][] => [values(k, 1), clip, values(k, 2), values(k, 3)];
  cases.push(["sgd", n, three, { lr: 0.1, momentum: 0.9, decay: 0.01, nesterov: 0 }]);
  cases.push(["sgd", n, three, { lr: 0.1, momentum: 0.9, decay: 0.01, nesterov: 1 }]);
  cases.push(["adam", n, (k) => [...three(k), positive(k, 4)], adamParams]);
  for (const lanes of [64, 192, 16384])
    cases.push(["square_sum", n, (k) => [values(k, 1), new Array(lanes).fill(9)], { lanes }]);
}
for (const n of [1, 3, 255, 257, 1001]) {
  cases.push(["ema", n, (k) => [values(k, 1), values(k, 2)], { rate: 0.1 }]);
  cases.push(["clip_factor", n, (k) => [positive(k, 1), [9, 9]], { limit: 0.5 }]);
  cases.push(["clip_factor", n, (k) => [positive(k, 1), [9, 9]], { limit: 1e6 }]);
  cases.push(["clip_factor", n, (k) => [positive(k, 1), [9, 9]], { limit: 0 }]);
}

/** Devices may put the partial sums into other lanes: what counts is their sum. */
const comparable = (name: string, data: TensorData): ArrayLike<number> =>
  name === "square_sum" ? [[...data].reduce((sum, v) => sum + v, 0)] : data;

test.each(cases)(
  "optimizer.%s of %i elements: every device agrees with the reference",
  async (name, count, operands, params) => {
    const [reference, ...devices] = await allDevices();
    const backwards = hostDeviceBackwards();
    const expected = await outputsOf(reference!, name, operands(count), { count, ...params });
    for (const data of expected) expect(data.every(Number.isFinite)).toBe(true);
    for (const device of devices) {
      const got = await outputsOf(device, name, operands(count), { count, ...params });
      for (const [i, data] of got.entries()) {
        const error = relativeError(comparable(name, data), comparable(name, expected[i]!));
        expect(error, `${device.description}, output ${i}`).toBeLessThan(1e-6);
      }
      const other = device.name === "cuda" && backwards ? backwards : device;
      const again = await outputsOf(other, name, operands(count), { count, ...params });
      for (const [i, data] of again.entries()) {
        expect(bitsOf(data).equals(bitsOf(got[i]!)), `${device.description}, bits of output ${i}`).toBe(true);
      }
    }
  },
);

test("the two stages of the norm add up", async () => {
  const x = values(4096, 5);
  const [partials] = await outputsOf(referenceDevice(), "square_sum", [x, new Array(128).fill(0)], {
    count: 4096,
    lanes: 128,
  });
  const [result] = await outputsOf(referenceDevice(), "clip_factor", [[...partials!], [0, 0]], {
    count: 128,
    limit: 2,
  });
  const norm = Math.hypot(...x);
  expect(relativeError(result!, [norm, 2 / (norm + 1e-6)])).toBeLessThan(1e-12);
});

test("more than 65,535 workgroups", async () => {
  const gpu = await webgpuDevice();
  if (!gpu) return;
  const count = 65_536 * 256 + 3;
  const kernel = kernels.get("optimizer.ema")!;
  const [w, y] = [Tensor.ones(gpu, [count]), Tensor.zeros(gpu, [count])];
  gpu.run(kernel, [w.view], [y.view], { count, rate: 0.5 });
  const tail = y.part(65_536 * 256 - 64, [67]);
  expect((await tail.data()).every((v) => v === 0.5)).toBe(true);
  for (const t of [w, y, tail]) t.dispose();
});
