import { expect, test } from "vitest";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, ShapeError } from "../../src/errors.js";
import { transpose } from "../../src/ops/transpose.js";
import type { Shape } from "../../src/shape.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/layout.json" with { type: "json" };
import { checkOp, labels, random, referenceDevice, webgpuDevice } from "../harness.js";

test.each<[Shape, number[]]>([
  [
    [5, 7],
    [1, 0],
  ],
  [
    [2, 3, 4, 5],
    [0, 3, 1, 2],
  ], // NHWC to NCHW
  [
    [2, 5, 3, 4],
    [0, 2, 3, 1],
  ],
  [
    [2, 3, 4, 5],
    [3, 2, 1, 0],
  ],
  [
    [2, 3, 4, 5],
    [1, 0, 2, 3],
  ],
  [
    [2, 3, 4],
    [0, 1, 2],
  ],
  [
    [1, 3, 1, 4],
    [2, 3, 0, 1],
  ],
  [
    [2, 1, 2, 3, 2, 3],
    [5, 3, 1, 0, 2, 4],
  ],
  [
    [2, 3, 2, 3, 2, 3],
    [5, 4, 3, 2, 1, 0],
  ],
  [
    [3, 2, 2, 2, 3, 2],
    [0, 2, 1, 5, 4, 3],
  ],
  [
    [70, 130],
    [1, 0],
  ], // several tiles
  [
    [2, 9, 150, 3],
    [0, 3, 1, 2],
  ], // long and narrow
  [
    [2, 3, 5, 300],
    [0, 2, 3, 1],
  ],
  [
    [2, 65, 3, 70],
    [3, 2, 1, 0],
  ],
  [
    [3, 4, 16],
    [1, 0, 2],
  ], // rows in vectors
  [[6], [0]],
  [[], []],
])("%j by %j", async (shape, permutation) => {
  await checkOp((x) => transpose(x, permutation), [random(shape)], { half: true });
  await checkOp((x) => transpose(x, permutation), [labels(shape, 1000)]);
});

test("agrees with PyTorch", async () => {
  await checkOp((x) => transpose(x, [2, 0, 3, 1]), [random([2, 3, 4, 5])], { golden: golden.transpose });
});

test("splits over the batch where the device binds less", async () => {
  if (!(await webgpuDevice())) return;
  using device = await WebGPUBackend.open({ maxBindingBytes: 2048 });
  const x = random([4, 8, 4, 16]);
  const y = scope(() => transpose(Tensor.from(device, x.data, x.shape), [0, 3, 1, 2]));
  const expected = scope(() => transpose(Tensor.from(referenceDevice(), x.data, x.shape), [0, 3, 1, 2]));
  expect([...(await y.data())]).toEqual([...(await expected.data())]);
  y.dispose();
  expected.dispose();
});

test.each([[[0]], [[0, 0]], [[0, 2]], [[1, 0, 2]], [[-1, 0]]])("refuses %j for two axes", (permutation) => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [2, 3]);
    expect(() => transpose(x, permutation)).toThrow(ArgumentError);
  });
});

test("refuses seven axes", () => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [1, 1, 1, 1, 1, 1, 2]);
    expect(() => transpose(x, [0, 1, 2, 3, 4, 5, 6])).toThrow(ShapeError);
  });
});
