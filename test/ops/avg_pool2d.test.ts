import { expect, test } from "vitest";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { type AvgPool2dOptions, avgPool2d, globalAvgPool } from "../../src/ops/avg_pool2d.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/avg_pool2d.json" with { type: "json" };
import { checkOp, random, referenceDevice } from "../harness.js";

test.each(golden.map((g) => [g.shape, g.options, g] as const))("%j %j as PyTorch", async (shape, options, g) => {
  await checkOp((x) => avgPool2d(x, options as AvgPool2dOptions), [random(shape)], { golden: g, half: true });
});

const table: [number[], AvgPool2dOptions][] = [
  [[1, 1, 1, 1], { kernel: 1 }],
  [[1, 1, 1, 4], { kernel: 3, stride: 2, padding: 1, countIncludePad: false }], // kernel larger than the map
  [[3, 2, 9, 5], { kernel: [1, 4], stride: [1, 3] }],
  [[1, 9, 7, 8], { kernel: 2, stride: 3 }], // pixels that no window reads
  [[2, 11, 13, 4], { kernel: 5, stride: 1, padding: 2, countIncludePad: false }],
];
test.each(table)("%j %j", async (shape, options) => {
  await checkOp((x) => avgPool2d(x, options), [random(shape)]);
});

// One chunk and many, with and without vec4.
test.each([[[1, 1, 1, 1]], [[2, 3, 5, 4]], [[3, 1, 70, 3]], [[2, 40, 50, 8]]])("global, %j", async (shape) => {
  await checkOp((x) => globalAvgPool(x), [random(shape)], { half: true });
});

test("global is the mean, as [n, 1, 1, c]", async () => {
  const y = scope(() => globalAvgPool(Tensor.from(referenceDevice(), [1, 10, 3, 30, 5, 50, 7, 70], [1, 2, 2, 2])));
  expect(y.shape).toEqual([1, 1, 1, 2]);
  expect([...(await y.data())]).toEqual([4, 40]);
  y.dispose();
});

test("refuses what does not fit", () => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [1, 4, 4, 1]);
    expect(() => avgPool2d(x, { kernel: 3, padding: 2 })).toThrow(ArgumentError);
    expect(() => avgPool2d(x, { kernel: 0 })).toThrow(ArgumentError);
    expect(() => avgPool2d(x, { kernel: 2, stride: 1.5 })).toThrow(ArgumentError);
    expect(() => avgPool2d(x, { kernel: 5 })).toThrow(ShapeError);
    expect(() => avgPool2d(Tensor.zeros(x.device, [4, 4]), { kernel: 2 })).toThrow(ShapeError);
    expect(() => globalAvgPool(Tensor.zeros(x.device, [1, 0, 4, 1]))).toThrow(ShapeError);
    expect(() => globalAvgPool(Tensor.zeros(x.device, [1, 4, 4, 1], "u32"))).toThrow(DTypeError);
  });
});
