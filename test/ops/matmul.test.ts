import { expect, test } from "vitest";
import { DTypeError, ShapeError } from "../../src/errors.js";
import { matmul } from "../../src/ops/matmul.js";
import type { Shape } from "../../src/shape.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/matmul.json" with { type: "json" };
import { checkOp, random, referenceDevice } from "../harness.js";

test.each(golden)("PyTorch: $a, $b, $options", async ({ a, b, options, output, gradients }) => {
  await checkOp((x, y) => matmul(x!, y!, options), [random(a, 1), random(b, 2)], {
    golden: { output, gradients },
    goldenTolerance: 1e-8, // nine digits in the file
    half: true,
  });
});

const sizes: [m: number, k: number, n: number][] = [
  [1, 300, 1],
  [17, 1, 9],
  [3, 5, 2],
  [33, 64, 40],
  [1, 8, 21],
];
const both = [false, true];
test.each(sizes)("[%i, %i] x [%i columns], every transposition", async (m, k, n) => {
  for (const transposeA of both) {
    for (const transposeB of both) {
      const a: Shape = transposeA ? [k, m] : [m, k];
      const b: Shape = transposeB ? [n, k] : [k, n];
      await checkOp((x, y) => matmul(x!, y!, { transposeA, transposeB }), [random(a, 3), random(b, 4)]);
    }
  }
});

// The CUDA kernels: every size of tile, tails of each axis, splits of the sums.
test.each<[m: number, k: number, n: number]>([
  [132, 36, 140],
  [196, 60, 68],
  [130, 33, 70],
  [200, 12, 36],
  [36, 1100, 20],
])("several tiles: [%i, %i] x [%i columns], every transposition", async (m, k, n) => {
  for (const transposeA of both) {
    for (const transposeB of both) {
      const a: Shape = transposeA ? [k, m] : [m, k];
      const b: Shape = transposeB ? [n, k] : [k, n];
      const operands = [random(a, 5), random(b, 6)];
      await checkOp((x, y) => matmul(x!, y!, { transposeA, transposeB }), operands, { half: true });
    }
  }
});

test("the gradient of one operand only", async () => {
  await checkOp((x, y) => matmul(x!, y!), [random([5, 6], 1), random([6, 7], 2)], { wrt: [0] });
  await checkOp((x, y) => matmul(x!, y!), [random([5, 6], 1), random([6, 7], 2)], { wrt: [1] });
});

test("a long inner axis stays accurate in f32", async () => {
  const m = [random([2, 20_000], 1), random([20_000, 3], 2)];
  await checkOp((x, y) => matmul(x!, y!), m, { wrt: [], tolerance: 5e-6 });
});

test.each<[Shape, Shape, { transposeA?: boolean; transposeB?: boolean }]>([
  [[2, 3], [2, 3], {}],
  [[2, 3], [3, 2], { transposeA: true }],
  [[2, 3], [3, 2], { transposeB: true }],
  [[2, 3, 1], [3, 2], {}],
  [[3], [3, 2], {}],
  [[0, 3], [3, 2], {}],
])("shapes that do not fit: %j, %j, %j", (a, b, options) => {
  scope(() => {
    const [x, y] = [Tensor.zeros(referenceDevice(), a), Tensor.zeros(referenceDevice(), b)];
    expect(() => matmul(x, y, options)).toThrow(ShapeError);
  });
});

test("types that differ, and integers", () => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [2, 2]);
    expect(() => matmul(x, Tensor.zeros(referenceDevice(), [2, 2], "f16"))).toThrow(DTypeError);
    const i = Tensor.zeros(referenceDevice(), [2, 2], "i32");
    expect(() => matmul(i, i)).toThrow(DTypeError);
  });
});
