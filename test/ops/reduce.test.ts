import { describe, expect, test } from "vitest";
import { DTypeError, ShapeError } from "../../src/errors.js";
import { argmax, max, mean, sum } from "../../src/ops/reduce.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/reduce.json" with { type: "json" };
import { allDevices, checkOp, distinct, random, referenceDevice } from "../harness.js";

const tables: [number[], number[] | undefined][] = [
  [[7], undefined],
  [[1], undefined],
  [[], undefined],
  [[3, 5, 2], undefined],
  [[3, 5, 2], [0]],
  [[3, 5, 2], [1]],
  [[3, 5, 2], [-1]],
  [
    [3, 5, 2],
    [0, 2],
  ],
  [
    [2, 3, 2, 3],
    [0, 1, 2],
  ],
  [
    [2, 3, 2, 3],
    [1, 3],
  ],
  [[600], undefined],
  [[2, 1500], [1]],
  [[1500, 3], [0]],
  [[1500, 20], [0]],
  [[40, 1100], [0]],
  [[3, 5001], [1]],
  [[40, 16], [1]],
  [[5, 3, 8], [1]],
];
describe.each([true, false])("keepDims %s", (keepDims) => {
  test.each(tables)("sum and mean of %j over %j", async (shape, axes) => {
    const options = axes ? { axes, keepDims } : { keepDims };
    await checkOp((x) => sum(x, options), [random(shape)], { half: shape.length < 4 && shape[0]! < 100 });
    await checkOp((x) => mean(x, options), [random(shape)]);
  });
  test.each(tables)("max of %j over %j", async (shape, axes) => {
    const options = axes ? { axes, keepDims } : { keepDims };
    const size = shape.reduce((a, b) => a * b, 1);
    await checkOp((x) => max(x, options), [{ data: distinct(size), shape }]);
  });
});

test.each(golden.map((g) => [g.op, g.shape, g.axes, g] as const))(
  "%s of %j over %j as PyTorch",
  async (op, shape, axes, g) => {
    const data = op === "max" ? distinct(g.shape.reduce((a, b) => a * b, 1)) : random(shape).data;
    const reduce = { sum, mean, max }[op as "sum" | "mean" | "max"];
    await checkOp((x) => reduce(x, { axes }), [{ data, shape }], { golden: g });
  },
);

test("max of many columns, and in half precision", async () => {
  await checkOp((x) => max(x, { axes: [0] }), [{ data: distinct(12_800), shape: [2, 6400] }]);
  for (const axes of [[0], [1], [2]]) {
    await checkOp((x) => max(x, { axes }), [{ data: distinct(120), shape: [5, 3, 8] }], { half: true });
  }
});

test("max of a long run, split in two", async () => {
  await checkOp((x) => max(x), [{ data: distinct(3000), shape: [3000] }]);
});

test("a long sum keeps its accuracy in f32", async () => {
  const count = 3_000_000;
  const data = Float32Array.from({ length: count }, (_, i) => 0.1 + (i % 7) * 0.01);
  const exact = data.reduce((a, b) => a + b, 0);
  for (const device of await allDevices()) {
    const y = scope(() => sum(Tensor.from(device, data)));
    expect(Math.abs((await y.item()) - exact) / exact).toBeLessThan(1e-6);
    y.dispose();
  }
});

test("argmax is the first of equals, along any axis", async () => {
  for (const device of await allDevices()) {
    const [last, first] = scope(() => {
      const x = Tensor.from(device, [1, 3, 3, 0, 2, 2, 2, -1], [2, 4]);
      return [argmax(x), argmax(x, { axis: 0, keepDims: true })];
    });
    expect(last!.dtype).toBe("u32");
    expect([...(await last!.data())]).toEqual([1, 0]);
    expect(first!.shape).toEqual([1, 4]);
    expect([...(await first!.data())]).toEqual([1, 0, 0, 0]);
    dispose(last, first);
  }
});

test("refuses axes that do not exist and integers", () => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [2, 3]);
    expect(() => sum(x, { axes: [2] })).toThrow(ShapeError);
    expect(() => max(x, { axes: [-3] })).toThrow(ShapeError);
    expect(() => sum(Tensor.zeros(referenceDevice(), [2], "u32"))).toThrow(DTypeError);
  });
});
