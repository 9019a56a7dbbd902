import { expect, test } from "vitest";
import { ShapeError } from "../../src/errors.js";
import { reshape } from "../../src/ops/reshape.js";
import type { Shape } from "../../src/shape.js";
import { scope, Tensor } from "../../src/tensor.js";
import { checkOp, labels, random, referenceDevice } from "../harness.js";

test.each<[Shape, Shape]>([
  [
    [2, 3, 4],
    [6, 4],
  ],
  [[2, 3, 4], [24]],
  [[24], [1, 2, 3, 4, 1]],
  [[1], []],
  [
    [3, 2],
    [3, 2],
  ],
])("%j as %j", async (from, to) => {
  await checkOp((x) => reshape(x, to), [random(from)], { half: true });
  await checkOp((x) => reshape(x, to), [labels(from, 50)]);
});

test("takes no memory", () => {
  const device = referenceDevice();
  scope(() => {
    const x = Tensor.zeros(device, [4, 3]);
    const { live } = device.stats;
    expect(reshape(x, [2, 6]).shape).toEqual([2, 6]);
    expect(device.stats.live).toBe(live);
  });
});

test.each<[Shape]>([[[5]], [[2, 4]], [[-2, -3]], [[1.5, 4]], [[]]])("refuses %j for six elements", (shape) => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [2, 3]);
    expect(() => reshape(x, shape)).toThrow(ShapeError);
  });
});
