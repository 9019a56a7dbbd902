import { expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import type { Backend } from "../../src/backends/backend.js";
import { NativeBackend } from "../../src/backends/native/index.js";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { cast, groupNorm, mul, sum } from "../../src/ops/index.js";
import { sizeOf } from "../../src/shape.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/group_norm.json" with { type: "json" };
import {
  allDevices,
  checkOp,
  hostAddon,
  hostDevice,
  random,
  referenceDevice,
  relativeError,
  values,
} from "../harness.js";

/** The op over x, gamma and beta; gamma and beta stay f32 where x is f16. */
const norm = (groups: number, eps?: number) => (x: Tensor, gamma: Tensor, beta: Tensor) =>
  groupNorm(x, cast(gamma, "f32"), cast(beta, "f32"), { groups, ...(eps === undefined ? {} : { eps }) });
const operands = (shape: number[]) => {
  const channels = shape.at(-1)!;
  return [random(shape, 1), random([channels], 2), random([channels], 3)];
};

test.each(golden.map((g) => [g.shape, g.options, g] as const))("%j %j as PyTorch", async (shape, options, g) => {
  await checkOp(norm(options.groups, options.eps), operands(shape), { golden: g, half: true });
});

// Groups narrower and wider than four channels, one image and several, one chunk and many.
const table: [number[], number][] = [
  [[2, 6], 2],
  [[3, 5, 3], 3],
  [[2, 9, 7, 12], 4],
  [[1, 40, 33, 3], 1],
  [[2, 30, 20, 8], 1],
  [[2, 1, 2, 24], 12],
];
test.each(table)("%j in %i groups", async (shape, groups) => {
  await checkOp(norm(groups), operands(shape));
});

// Several tiles of channels, the last one not full; several blocks an image, with rows left over; groups wider than a warp.
test.each([
  [[2, 5, 520], 8],
  [[2, 351, 72], 1],
  [[2, 351, 33], 11],
])("%j in %i groups, f32 and half", async (shape, groups) => {
  await checkOp(norm(groups), operands(shape), { half: true });
});

test("a mean far from zero keeps its accuracy in f32", async () => {
  const data = Float32Array.from(values(2 * 64 * 64 * 8, 1), (v, i) => 1000 + (i % 2) + v);
  const run = async (device: Backend) => {
    const y = scope(() => {
      const x = Tensor.from(device, data, [2, 64, 64, 8]);
      return groupNorm(x, Tensor.ones(device, [8]), Tensor.zeros(device, [8]), { groups: 2 });
    });
    const out = await y.data();
    y.dispose();
    return out;
  };
  const [reference, ...devices] = await allDevices();
  const expected = await run(reference!);
  for (const device of devices) {
    expect(relativeError(await run(device), expected), device.name).toBeLessThan(2e-4); // 24 bits of the mean
  }
});

test("the CUDA kernels keep the contract for several chunks an image, which the device never asks for", async () => {
  if (!hostDevice()) return;
  const device = NativeBackend.open("cuda", { addon: hostAddon, guard: true });
  const step = async (device: Backend) => {
    const leaves = [[3, 50, 12], [12], [12]].map((shape, i) => {
      return Tensor.from(device, values(sizeOf(shape), i + 1), shape);
    });
    const [x, gamma, beta] = leaves as [Tensor, Tensor, Tensor];
    const { values: out, gradients } = differentiate(leaves, () => {
      const y = groupNorm(x, gamma, beta, { groups: 3 });
      return { loss: sum(mul(y, mul(y, y))), y };
    });
    const results = await Promise.all([out.y, ...gradients].map((t) => t.data()));
    dispose(leaves, out, gradients);
    return results;
  };
  try {
    const expected = await step(referenceDevice());
    const got = await step(Object.assign(device, { lanes: 1024 }));
    for (const [i, wanted] of expected.entries()) {
      expect(relativeError(got[i]!, wanted), `result ${i}`).toBeLessThan(5e-6);
    }
  } finally {
    device.dispose();
  }
});

test("refuses what does not fit", () => {
  scope(() => {
    const device = referenceDevice();
    const x = Tensor.zeros(device, [2, 3, 3, 6]);
    const [one, zero] = [Tensor.ones(device, [6]), Tensor.zeros(device, [6])];
    expect(() => groupNorm(x, one, zero, { groups: 4 })).toThrow(ArgumentError);
    expect(() => groupNorm(x, one, zero, { groups: 0 })).toThrow(ArgumentError);
    expect(() => groupNorm(x, one, zero, { groups: 2, eps: Number.NaN })).toThrow(ArgumentError);
    expect(() => groupNorm(x, Tensor.ones(device, [5]), zero, { groups: 2 })).toThrow(ShapeError);
    expect(() => groupNorm(Tensor.zeros(device, [2, 1, 1, 6]), one, zero, { groups: 6 })).toThrow(ShapeError);
    expect(() => groupNorm(Tensor.zeros(device, [0, 2, 2, 6]), one, zero, { groups: 2 })).toThrow(ShapeError);
    expect(() => groupNorm(Tensor.zeros(device, [2, 6], "u32"), one, zero, { groups: 2 })).toThrow(DTypeError);
    expect(() => groupNorm(x, one, Tensor.zeros(device, [6], "f16"), { groups: 2 })).toThrow(DTypeError);
  });
});
