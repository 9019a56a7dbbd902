import { expect, test } from "vitest";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError } from "../../src/errors.js";
import { slice } from "../../src/ops/slice.js";
import type { Shape } from "../../src/shape.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/layout.json" with { type: "json" };
import { checkOp, labels, random, referenceDevice, webgpuDevice } from "../harness.js";

const boxes: [shape: Shape, starts: number[], sizes: number[]][] = [
  [
    [2, 5, 7, 3],
    [0, 1, 2, 0],
    [2, 3, 4, 3],
  ], // a crop
  [
    [2, 5, 7, 8],
    [0, 1, 2, 0],
    [2, 3, 4, 8],
  ], // in vectors of four
  [
    [2, 5, 7, 8],
    [0, 0, 0, 4],
    [2, 5, 7, 4],
  ],
  [
    [2, 5, 7, 8],
    [0, 0, 0, 2],
    [2, 5, 7, 4],
  ], // starts between vectors
  [
    [4, 3, 5],
    [2, 0, 0],
    [1, 3, 5],
  ],
  [
    [3, 4, 5, 6],
    [1, 1, 2, 3],
    [2, 2, 2, 2],
  ], // four axes: in two steps
  [
    [2, 3, 2, 3, 2, 3],
    [0, 1, 1, 2, 0, 1],
    [1, 2, 1, 1, 1, 2],
  ],
  [[7], [3], [2]],
  [
    [3, 4],
    [0, 0],
    [3, 4],
  ], // all of it
  [[], [], []],
];
test.each(boxes)("%j from %j, %j", async (shape, starts, sizes) => {
  await checkOp((x) => slice(x, starts, sizes), [random(shape)], { half: true });
});

test.each(boxes)("integers: %j from %j, %j", async (shape, starts, sizes) => {
  await checkOp((x) => slice(x, starts, sizes), [labels(shape, 1000)]);
});

test("agrees with PyTorch", async () => {
  await checkOp((x) => slice(x, [0, 1, 1, 2], [1, 2, 3, 2]), [random([2, 3, 4, 5])], { golden: golden.slice });
});

test("an empty box", async () => {
  const y = scope(() => slice(Tensor.zeros(referenceDevice(), [2, 3]), [1, 3], [1, 0]));
  expect(y.shape).toEqual([1, 0]);
  expect((await y.data()).length).toBe(0);
  y.dispose();
});

test("splits over the batch where the device binds less", async () => {
  if (!(await webgpuDevice())) return;
  using device = await WebGPUBackend.open({ maxBindingBytes: 8192 });
  const x = random([4, 8, 16, 8]);
  const y = scope(() => slice(Tensor.from(device, x.data, x.shape), [0, 2, 0, 0], [4, 4, 16, 8]));
  const expected = scope(() => slice(Tensor.from(referenceDevice(), x.data, x.shape), [0, 2, 0, 0], [4, 4, 16, 8]));
  expect([...(await y.data())]).toEqual([...(await expected.data())]);
  y.dispose();
  expected.dispose();
});

test.each<[number[], number[]]>([
  [
    [0, 0],
    [3, 3],
  ],
  [
    [-1, 0],
    [1, 1],
  ],
  [
    [1, 2],
    [1, 2],
  ],
  [[0], [2]],
  [
    [0, 0],
    [2, 3.5],
  ],
  [
    [0, 0, 0],
    [2, 3, 1],
  ],
])("refuses the box from %j, %j, in [2, 3]", (starts, sizes) => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [2, 3]);
    expect(() => slice(x, starts, sizes)).toThrow(ArgumentError);
  });
});
