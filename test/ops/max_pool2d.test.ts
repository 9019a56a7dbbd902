import { expect, test } from "vitest";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { type MaxPool2dOptions, maxPool2d } from "../../src/ops/max_pool2d.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/max_pool2d.json" with { type: "json" };
import { allDevices, checkOp, distinct, referenceDevice, values } from "../harness.js";

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b);

test.each(golden.map((g) => [g.shape, g.options, g] as const))("%j %j as PyTorch", async (shape, options, g) => {
  const data = g.ties ? values(sizeOf(shape)).map((v) => Math.round(v)) : distinct(sizeOf(shape));
  await checkOp((x) => maxPool2d(x, options as MaxPool2dOptions), [{ data, shape }], {
    golden: g,
    half: true,
    // Finite differences do not exist where values tie.
    ...(g.ties ? { gradcheck: Number.POSITIVE_INFINITY } : {}),
  });
});

const table: [number[], MaxPool2dOptions][] = [
  [[1, 1, 1, 1], { kernel: 1 }],
  [[1, 1, 1, 4], { kernel: 3, stride: 2, padding: 1 }], // kernel larger than the map
  [[3, 2, 9, 5], { kernel: [1, 4], stride: [1, 3] }],
  [[1, 9, 7, 8], { kernel: 2, stride: 3 }], // pixels that no window reads
  [[2, 13, 13, 4], { kernel: 3, stride: 1, padding: 1, dilation: 6 }],
  [[1, 30, 17, 3], { kernel: 5, stride: [7, 1], padding: 2, dilation: [1, 3] }],
];
test.each(table)("%j %j", async (shape, options) => {
  await checkOp((x) => maxPool2d(x, options), [{ data: distinct(sizeOf(shape)), shape }]);
});

test("the very negative is still more than padding", async () => {
  for (const device of await allDevices()) {
    const y = scope(() => maxPool2d(Tensor.full(device, [1, 2, 2, 4], -3e38), { kernel: 2, padding: 1 }));
    expect((await y.data()).every((v) => Math.abs(v / -3e38 - 1) < 1e-6)).toBe(true);
    y.dispose();
  }
});

test("refuses what does not fit", () => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [1, 4, 4, 1]);
    expect(() => maxPool2d(x, { kernel: 3, padding: 2 })).toThrow(ArgumentError);
    expect(() => maxPool2d(x, { kernel: 0 })).toThrow(ArgumentError);
    expect(() => maxPool2d(x, { kernel: 2, stride: 0 })).toThrow(ArgumentError);
    expect(() => maxPool2d(x, { kernel: 2, dilation: 1.5 })).toThrow(ArgumentError);
    expect(() => maxPool2d(x, { kernel: 5 })).toThrow(ShapeError);
    expect(() => maxPool2d(Tensor.zeros(x.device, [1, 2, 2, 1]), { kernel: 2, padding: 1, dilation: 3 })).toThrow(
      ShapeError,
    );
    expect(() => maxPool2d(Tensor.zeros(x.device, [4, 4]), { kernel: 2 })).toThrow(ShapeError);
    expect(() => maxPool2d(Tensor.zeros(x.device, [1, 4, 4, 1], "u32"), { kernel: 2 })).toThrow(DTypeError);
  });
});
