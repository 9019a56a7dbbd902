import { expect, test } from "vitest";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { concat } from "../../src/ops/concat.js";
import type { Shape } from "../../src/shape.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/layout.json" with { type: "json" };
import { allDevices, checkOp, labels, random, referenceDevice, webgpuDevice } from "../harness.js";

test.each<[Shape[], number | undefined]>([
  [
    [
      [2, 3, 4, 8],
      [2, 3, 4, 4],
    ],
    undefined,
  ], // vectors of four
  [
    [
      [2, 3, 4, 8],
      [2, 3, 4, 3],
    ],
    -1,
  ], // one run is odd
  [
    [
      [1, 5, 3, 21],
      [1, 5, 3, 1],
      [1, 5, 3, 7],
      [1, 5, 3, 2],
      [1, 5, 3, 4],
    ],
    3,
  ],
  [
    [
      [2, 3, 5],
      [4, 3, 5],
    ],
    0,
  ],
  [
    [
      [3, 2, 4],
      [3, 1, 4],
      [3, 5, 4],
    ],
    1,
  ],
  [
    [
      [3, 2, 3],
      [3, 4, 3],
    ],
    -2,
  ],
  [[[3], [1], [5]], 0],
  [[[2, 7]], 1],
  [
    [
      [2, 0],
      [2, 3],
    ],
    1,
  ],
])("%j along %s", async (shapes, axis) => {
  const operands = shapes.map((shape, i) => random(shape, i + 1));
  const wrt = shapes.flatMap((shape, i) => (shape.includes(0) ? [] : [i]));
  await checkOp((...xs) => concat(xs, axis), operands, { wrt, half: true });
});

test("agrees with PyTorch", async () => {
  await checkOp((a, b) => concat([a, b]), [random([2, 3, 4, 5], 1), random([2, 3, 4, 3], 2)], {
    golden: golden.concat,
  });
});

test("the same tensor twice, and operands that nobody differentiates", async () => {
  await checkOp((x, w) => concat([x, w, x], 0), [random([2, 3], 1), random([1, 3], 2)], { wrt: [0] });
});

test("integers keep their bits", async () => {
  for (const device of await allDevices()) {
    for (const dtype of ["i32", "u32"] as const) {
      const high = dtype === "i32" ? -2147483648 : 4294967295; // as f32 bits: minus zero, and NaN
      const y = scope(() =>
        concat([Tensor.from(device, [1, high], [2, 1], dtype), Tensor.from(device, [2, 3], [2, 1], dtype)]),
      );
      expect([...(await y.data())]).toEqual([1, 2, high, 3]);
      y.dispose();
    }
  }
  await checkOp((a, b) => concat([a, b], 1), [labels([3, 4, 4], 9, 1), labels([3, 2, 4], 9, 2)]);
});

test("more elements than one row of workgroups", async () => {
  const device = await webgpuDevice();
  if (!device) return;
  const count = 65535 * 256 + 63; // the next part starts at an odd place, so vectors of four do not do
  const y = scope(() => concat([Tensor.full(device, [count], 1.5), Tensor.full(device, [2], 2)]));
  const end = y.part(count - 63, [65]);
  expect([...(await end.data())]).toEqual([...new Array(63).fill(1.5), 2, 2]);
  y.dispose();
  end.dispose();
});

test("splits over the batch where the device binds less", async () => {
  if (!(await webgpuDevice())) return;
  using device = await WebGPUBackend.open({ maxBindingBytes: 4096 });
  const [a, b] = [random([4, 8, 8, 4], 1), random([4, 8, 8, 8], 2)];
  const on = (where: typeof device | ReturnType<typeof referenceDevice>) =>
    scope(() => concat([Tensor.from(where, a.data, a.shape), Tensor.from(where, b.data, b.shape)]));
  const [got, expected] = [on(device), on(referenceDevice())];
  expect([...(await got.data())]).toEqual([...(await expected.data())]);
  got.dispose();
  expected.dispose();
});

test("refuses what cannot be joined", () => {
  const device = referenceDevice();
  scope(() => {
    const x = Tensor.zeros(device, [2, 3]);
    expect(() => concat([])).toThrow(ArgumentError);
    expect(() => concat([x, x], 2)).toThrow(ArgumentError);
    expect(() => concat([x, x], -3)).toThrow(ArgumentError);
    expect(() => concat([x, x], 0.5)).toThrow(ArgumentError);
    expect(() => concat([Tensor.scalar(device, 1), Tensor.scalar(device, 1)])).toThrow(ArgumentError);
    expect(() => concat([x, Tensor.zeros(device, [3, 3])])).toThrow(ShapeError);
    expect(() => concat([x, Tensor.zeros(device, [2, 3, 1])])).toThrow(ShapeError);
    try {
      concat([x, Tensor.zeros(device, [2, 3], "u32")]);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(DTypeError);
      expect(error).toMatchObject({ op: "concat", operands: { 0: { dtype: "f32" }, 1: { dtype: "u32" } } });
    }
  });
});
