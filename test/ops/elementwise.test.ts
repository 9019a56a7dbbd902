import { describe, expect, test } from "vitest";
import { DTypeError, ShapeError } from "../../src/errors.js";
import * as ops from "../../src/ops/elementwise.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/elementwise.json" with { type: "json" };
import { allDevices, checkOp, type Operand, random, referenceDevice } from "../harness.js";

const { add, sub, mul, div } = ops;
/** PyTorch's answer, where elementwise.py has the case. */
const goldenOf = (name: string) => {
  const found = golden.find((g) => g.name === name);
  return found ? { golden: found } : {};
};

describe.each([
  ["add", add],
  ["sub", sub],
  ["mul", mul],
  ["div", div],
] as const)("%s", (name, op) => {
  test.each([
    [
      [3, 5],
      [3, 5],
    ],
    [[2, 3, 4, 5], [5]],
    [[5], [2, 3, 4, 5]],
    [
      [2, 1, 4, 1],
      [3, 1, 5],
    ],
    [[1], [7]],
    [[], [2, 3]],
    [
      [7, 731],
      [7, 731],
    ],
    [[3, 5, 16], [16]],
    [
      [2, 3, 1],
      [2, 1, 24],
    ],
    [
      [6, 1, 8],
      [6, 4, 8],
    ],
    [
      [2, 1, 3, 1, 2, 1],
      [1, 2, 1, 3, 1, 2],
    ],
    [
      [1, 1],
      [1, 1],
    ],
  ])("%j with %j", async (a, b) => {
    await checkOp(op, [random(a, 1), random(b, 2, 0.5, 2)], {
      half: true,
      ...goldenOf(`${name}${JSON.stringify(a)}${JSON.stringify(b)}`),
    });
  });
});

const cases: [string, (x: Tensor) => Tensor, Operand][] = [
  ["neg", ops.neg, random([3, 7])],
  ["scale", (x) => ops.scale(x, -1.7), random([3, 7])],
  ["addScalar", (x) => ops.addScalar(x, 0.3), random([3, 7])],
  ["pow 2", (x) => ops.pow(x, 2), random([3, 7])],
  ["pow 3", (x) => ops.pow(x, 3), random([3, 7])],
  ["pow -1", (x) => ops.pow(x, -1), random([3, 7], 1, 0.5, 2)],
  ["pow 0.75", (x) => ops.pow(x, 0.75), random([3, 7], 1, 0.2, 2)],
  ["pow 0", (x) => ops.pow(x, 0), random([3, 7])],
  ["pow 1", (x) => ops.pow(x, 1), random([3, 7])],
  ["exp", ops.exp, random([3, 7], 1, -4, 4)],
  ["log", ops.log, random([3, 7], 1, 0.1, 9)],
  ["sqrt", ops.sqrt, random([3, 7], 1, 0.1, 9)],
  ["clamp", (x) => ops.clamp(x, -0.5, 0.4), random([3, 7])],
  ["relu", ops.relu, random([3, 7])],
  ["leakyRelu", (x) => ops.leakyRelu(x, 0.2), random([3, 7])],
  ["sigmoid", ops.sigmoid, random([3, 7], 1, -8, 8)],
  ["softplus", ops.softplus, random([3, 7], 1, -8, 8)],
  ["tanh", ops.tanh, random([3, 7], 1, -3, 3)],
];
test.each(cases)("%s", async (name, op, x) => {
  expect(goldenOf(name)).toHaveProperty("golden");
  await checkOp(op, [x], { half: true, ...goldenOf(name) });
});

test("more elements than one row of workgroups", async () => {
  const count = 65535 * 256 + 1000;
  for (const device of await allDevices()) {
    const [first, last] = scope(() => {
      const y = ops.scale(Tensor.full(device, [count], 1.5), 2);
      return [y.part(0, [1]), y.part(count - 64, [64])];
    });
    expect(await first!.data()).toEqual(await first!.data());
    expect([...(await first!.data())]).toEqual([3]);
    expect([...(await last!.data())]).toEqual(new Array(64).fill(3));
    first!.dispose();
    last!.dispose();
  }
});

test("finite for extreme inputs", async () => {
  for (const device of await allDevices()) {
    for (const op of [ops.sigmoid, ops.softplus, ops.tanh]) {
      const y = scope(() => op(Tensor.from(device, [-1e4, -100, 0, 100, 1e4])));
      for (const v of await y.data()) expect(Number.isFinite(v)).toBe(true);
      y.dispose();
    }
  }
});

test("refuses shapes that do not broadcast and types that differ", () => {
  scope(() => {
    const device = referenceDevice();
    const [a, b] = [Tensor.zeros(device, [2, 3]), Tensor.zeros(device, [2, 4])];
    const failure = (() => {
      try {
        add(a, b);
      } catch (error) {
        return error;
      }
    })();
    expect(failure).toBeInstanceOf(ShapeError);
    expect(failure).toMatchObject({ op: "add", operands: { a: { shape: [2, 3] }, b: { shape: [2, 4] } } });
    expect(() => mul(a, Tensor.zeros(device, [2, 3], "u32"))).toThrow(DTypeError);
    expect(() => ops.relu(Tensor.zeros(device, [2], "i32"))).toThrow(DTypeError);
  });
});
