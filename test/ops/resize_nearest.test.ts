import { expect, test } from "vitest";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { resizeNearest } from "../../src/ops/resize_nearest.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/resize_nearest.json" with { type: "json" };
import { allDevices, checkOp, random, referenceDevice } from "../harness.js";

type Pair = [number, number];

test.each(golden.map((g) => [g.shape, g.size, g] as const))("%j to %j as PyTorch", async (shape, size, g) => {
  await checkOp((x) => resizeNearest(x, size as Pair), [random(shape)], { golden: g, half: true });
});

const ratios: Pair[] = [
  [1, 1],
  [1, 9],
  [9, 1],
  [3, 17],
  [17, 3],
  [2, 2],
  [33, 64],
  [64, 33],
];
test.each(ratios)("%i to %i", async (from, to) => {
  await checkOp((x) => resizeNearest(x, [to, 3]), [random([2, from, 2, 3])]);
  await checkOp((x) => resizeNearest(x, [3, to]), [random([1, 2, from, 4])]);
});

test("whole-number coordinates: 25 to 49 has no rounding of 25 / 49", async () => {
  const expected = Array.from({ length: 49 }, (_, i) => Number((BigInt(i) * 25n) / 49n));
  for (const device of await allDevices()) {
    const x = Array.from({ length: 25 }, (_, i) => i);
    const y = scope(() => resizeNearest(Tensor.from(device, x, [1, 25, 1, 1]), [49, 1]));
    expect([...(await y.data())]).toEqual(expected);
    y.dispose();
  }
});

test("refuses what does not fit", () => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [1, 4, 4, 1]);
    expect(() => resizeNearest(x, [0, 4])).toThrow(ArgumentError);
    expect(() => resizeNearest(x, [4, 2 ** 30])).toThrow(ArgumentError);
    expect(() => resizeNearest(Tensor.zeros(x.device, [4, 4]), [2, 2])).toThrow(ShapeError);
    expect(() => resizeNearest(Tensor.zeros(x.device, [1, 4, 4, 1], "u32"), [2, 2])).toThrow(DTypeError);
  });
});
