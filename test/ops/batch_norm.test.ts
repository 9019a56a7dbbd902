import { describe, expect, test } from "vitest";
import { differentiable, differentiate } from "../../src/autograd.js";
import type { Backend } from "../../src/backends/backend.js";
import { NativeBackend } from "../../src/backends/native/index.js";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { type BatchNormOptions, type BatchNormState, batchNorm } from "../../src/ops/batch_norm.js";
import { add, cast, mul, relu, scale, sum } from "../../src/ops/index.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/batch_norm.json" with { type: "json" };
import {
  allDevices,
  checkOp,
  hostAddon,
  hostDevice,
  random,
  referenceDevice,
  relativeError,
  values,
  webgpuDevice,
} from "../harness.js";

const running = (device: Backend, channels: number) => ({
  runningMean: Tensor.from(device, values(channels, 4)),
  runningVar: Tensor.from(device, values(channels, 5, 0.5, 2)),
});
/** The op over x, gamma, beta and, where there is one, a residual; gamma and beta stay f32 where x is f16. */
const norm = (options: BatchNormOptions) => (x: Tensor, gamma: Tensor, beta: Tensor, residual?: Tensor) =>
  batchNorm(
    x,
    { gamma: cast(gamma, "f32"), beta: cast(beta, "f32"), ...running(x.device, gamma.size) },
    { ...options, ...(residual && { residual }) },
  );
const operands = (shape: number[], add = false) => {
  const channels = shape.at(-1)!;
  return [random(shape, 1), random([channels], 2), random([channels], 3), ...(add ? [random(shape, 6)] : [])];
};

test.each(golden.map((g) => [g.options.mode, g.shape, g.add, g.relu, g] as const))(
  "%s %j, residual %s, relu %s, as PyTorch",
  async (_mode, shape, add, relu, g) => {
    const options = { ...g.options, mode: g.options.mode as "train" | "eval" };
    await checkOp(norm({ ...options, relu }), operands(shape, add), { golden: g, half: true });
    for (const device of await allDevices()) {
      const channels = shape.at(-1)!;
      const state = {
        gamma: Tensor.ones(device, [channels]),
        beta: Tensor.zeros(device, [channels]),
        ...running(device, channels),
      };
      scope(() => {
        batchNorm(
          Tensor.from(
            device,
            values(
              shape.reduce((a, b) => a * b),
              1,
            ),
            shape,
          ),
          state,
          options,
        );
      });
      expect(relativeError(await state.runningMean.data(), g.runningMean), "running mean").toBeLessThan(1e-6);
      expect(relativeError(await state.runningVar.data(), g.runningVar), "running variance").toBeLessThan(1e-6);
      dispose(state);
    }
  },
);

/** A scalar whose gradient with respect to y is w: no sum of a map that exceeds the binding limit. */
const seed = (y: Tensor, w: Tensor) => differentiable([y], [w], Tensor.scalar(y.device, 0), (_, [w]) => [w.alias()]);

// Of two values per channel the gradient is all rounding unless eps is large.
// Few and many chunks, one and two merging steps, one channel and many, with and without vec4.
const shapes = [
  [2, 1],
  [37, 7],
  [3, 5, 4],
  [2, 9, 7, 12],
  [1, 40, 33, 3],
  [2, 30, 20, 4],
];
describe.each(["train", "eval", "frozen"] as const)("%s", (mode) => {
  test.each(shapes.map((s) => [s]))("%j", async (shape) => {
    await checkOp(norm({ mode, eps: shape[0] === 2 ? 0.1 : 1e-5 }), operands(shape), {
      wrt: mode === "frozen" ? [0] : [0, 1, 2],
    });
  });
});

describe.each(["train", "eval", "frozen"] as const)("%s, fused", (mode) => {
  const fusions = [
    [false, true],
    [true, true],
    [true, false],
  ] as const;
  describe.each(fusions)("residual %s, relu %s", (add, relu) => {
    test.each(shapes.map((s) => [s]))("%j", async (shape) => {
      const wrt = [0, ...(mode === "frozen" ? [] : [1, 2]), ...(add ? [3] : [])];
      await checkOp(norm({ mode, relu, eps: shape[0] === 2 ? 0.1 : 1e-5 }), operands(shape, add), { wrt, half: true });
    });
  });
});

test("agrees with the ops it stands for where the residual is x itself", async () => {
  for (const device of await allDevices()) {
    const made = operands([2, 9, 7, 12]).map((o) => Tensor.from(device, o.data, o.shape));
    const [x, gamma, beta] = made as [Tensor, Tensor, Tensor];
    const w = Tensor.from(device, values(x.size, 8), x.shape);
    const outcome = async (fn: (state: BatchNormState) => Tensor) => {
      const { values: out, gradients } = differentiate(made, () => {
        const y = fn({ gamma, beta, ...running(device, 12) });
        return { loss: sum(mul(y, w)), y };
      });
      const data = await Promise.all([out.y, ...gradients].map((t) => t.data()));
      dispose(out, gradients);
      return data;
    };
    const fused = await outcome((state) => batchNorm(x, state, { mode: "train", relu: true, residual: x }));
    const plain = await outcome((state) => relu(add(batchNorm(x, state, { mode: "train" }), x)));
    for (const [i, data] of fused.entries()) {
      expect(relativeError(data, plain[i]!), `${device.name}, result ${i}`).toBeLessThan(1e-6);
    }
    dispose(made, w);
  }
});

// In training with ReLU alone y is not kept, because x tells where it is positive; frozen needs x for nothing.
test.each([
  ["train", false, 1],
  ["train", true, 2],
  ["eval", false, 2],
  ["frozen", false, 1],
  ["frozen", true, 1],
] as const)("%s with ReLU, residual %s, keeps %i map(s) for the gradient", (mode, adds, maps) => {
  const device = referenceDevice();
  const made = operands([400, 3], true).map((o) => Tensor.from(device, o.data, o.shape));
  const [x, gamma, beta, residual] = made as [Tensor, Tensor, Tensor, Tensor];
  const bytesOfMap = x.size * 8; // float64
  const state = { gamma, beta, ...running(device, 3) };
  let kept = 0;
  const { values: out, gradients } = differentiate(made, () => {
    const before = device.stats.bytes;
    const loss = scope(() => {
      const y = batchNorm(scale(x, 2), state, { mode, relu: true, ...(adds && { residual }) });
      return seed(y, x);
    });
    kept = device.stats.bytes - before;
    return { loss };
  });
  expect(Math.round(kept / bytesOfMap)).toBe(maps);
  dispose(made, state, out, gradients);
});

test("frozen gives gamma and beta no gradient", async () => {
  for (const device of await allDevices()) {
    const made = operands([4, 3]).map((o) => Tensor.from(device, o.data, o.shape));
    const [x, gamma, beta] = made as [Tensor, Tensor, Tensor];
    const { values: out, gradients } = differentiate([x, gamma, beta], () => {
      const y = batchNorm(x, { gamma, beta, ...running(device, 3) }, { mode: "frozen" });
      return { loss: sum(mul(y, y)) };
    });
    expect((await gradients[0]!.data()).some((v) => v !== 0)).toBe(true);
    expect([...(await gradients[1]!.data()), ...(await gradients[2]!.data())]).toEqual([0, 0, 0, 0, 0, 0]);
    dispose(made, out, gradients);
  }
});

/** Output, gradients and running statistics of one training step on a given map. */
async function step(
  device: Backend,
  data: ArrayLike<number>,
  shape: number[],
  weights: ArrayLike<number>,
  { add = false, relu = false } = {},
) {
  const channels = shape.at(-1)!;
  const x = Tensor.from(device, data, shape);
  const residual = add ? Tensor.from(device, values(data.length, 6), shape) : undefined;
  const w = Tensor.from(device, weights, shape);
  const state = {
    gamma: Tensor.from(device, values(channels, 2)),
    beta: Tensor.from(device, values(channels, 3)),
    ...running(device, channels),
  };
  const leaves = [x, state.gamma, state.beta, ...(residual ? [residual] : [])];
  const { values: out, gradients } = differentiate(leaves, () => {
    const y = batchNorm(x, state, { mode: "train", relu, ...(residual && { residual }) });
    return { loss: seed(y, w), y };
  });
  const tensors = [out.y, ...gradients, state.runningMean, state.runningVar];
  const results = await Promise.all(tensors.map((t) => t.data()));
  dispose(w, leaves, state, out, gradients);
  return results;
}

test("statistics of a large map with a mean far from zero are accurate in f32", async () => {
  const shape = [2, 256, 250, 4]; // 128,000 rows: 1,000 chunks, merged in two steps
  const count = shape.reduce((a, b) => a * b);
  const data = Float32Array.from(values(count, 1), (v, i) => 1000 + (i % 4) + v); // E[x²] − E[x]² has no digit left
  const weights = Float32Array.from(values(count, 8));
  const [reference, ...devices] = await allDevices();
  const expected = await step(reference!, data, shape, weights);
  // The mean has 24 bits, 6e-5 at 1000, which is 1e-4 of the deviation and so of x̂; the variance must not suffer.
  const limits = { y: 2e-4, dx: 2e-5, dgamma: 1e-3, dbeta: 1e-5, runningMean: 1e-6, runningVar: 1e-5 };
  for (const device of devices) {
    const got = await step(device, data, shape, weights);
    Object.entries(limits).forEach(([name, limit], i) => {
      expect(relativeError(got[i]!, expected[i]!), `${device.name}, ${name}`).toBeLessThan(limit);
    });
  }
});

// Several tiles of channels, the last one not full; several blocks a channel, with rows left over at the end of each.
test.each([[[3, 5, 520]], [[701, 72]], [[700, 33]]])("many channels or rows a block: %j", async (shape) => {
  await checkOp(norm({ mode: "train" }), operands(shape), { half: true });
  await checkOp(norm({ mode: "train", relu: true }), operands(shape), { half: true });
});

const parts: [number[], { add?: boolean; relu?: boolean }][] = [
  [[5, 8, 8, 12], {}],
  [[5, 16, 8, 3], {}],
  [[5, 8, 8, 12], { relu: true }],
  [[5, 16, 8, 3], { relu: true }],
  [[5, 8, 8, 12], { add: true, relu: true }],
];
/** A training step on a device of which a binding holds two of the five images. */
async function checkParts(small: Backend, shape: number[], fused: { add?: boolean; relu?: boolean }): Promise<void> {
  const count = shape.reduce((a, b) => a * b);
  const [data, weights] = [values(count, 1), values(count, 8)];
  const expected = await step(referenceDevice(), data, shape, weights, fused);
  const got = await step(small, data, shape, weights, fused);
  for (const [i, wanted] of expected.entries()) {
    expect(relativeError(got[i]!, wanted), `result ${i}`).toBeLessThan(1e-5);
  }
}
const twoImages = ([, ...image]: number[]) => image.reduce((a, b) => a * b) * 2 * 4; // bytes

test.each(parts)("%j over parts of the batch, fused with %j", async (shape, fused) => {
  if (!(await webgpuDevice())) return;
  const small = await WebGPUBackend.open({ maxBindingBytes: twoImages(shape) });
  try {
    await checkParts(small, shape, fused);
  } finally {
    small.dispose();
  }
});

// Native devices never ask for parts or for more than a chunk of each, but their kernels keep the contract.
test.each(parts)("%j in chunks of parts of the batch, fused with %j", async (shape, fused) => {
  if (!hostDevice()) return;
  const device = NativeBackend.open("cuda", { addon: hostAddon, guard: true });
  try {
    await checkParts(Object.assign(device, { lanes: 1024, maxBindingBytes: twoImages(shape) }), shape, fused);
  } finally {
    device.dispose();
  }
});

test("outside any scope, only the result stays", async () => {
  for (const device of await allDevices()) {
    const x = Tensor.from(device, values(4 * 2100), [2100, 4]); // enough chunks for the intermediate merge
    const state = { gamma: Tensor.ones(device, [4]), beta: Tensor.zeros(device, [4]), ...running(device, 4) };
    const before = device.stats.live;
    const y = batchNorm(x, state, { mode: "train" });
    expect(device.stats.live).toBe(before + 1);
    dispose(x, y, state);
  }
});

test("refuses what does not fit", () => {
  const device = referenceDevice();
  scope(() => {
    const state = (c: number) => ({
      gamma: Tensor.ones(device, [c]),
      beta: Tensor.zeros(device, [c]),
      ...running(device, c),
    });
    const x = Tensor.zeros(device, [2, 3, 3, 4]);
    const train = { mode: "train" } as const;
    expect(() => batchNorm(x, state(3), train)).toThrow(ShapeError);
    expect(() => batchNorm(Tensor.zeros(device, [4]), state(4), train)).toThrow(ShapeError);
    expect(() => batchNorm(Tensor.zeros(device, [0, 4]), state(4), { mode: "eval" })).toThrow(ShapeError);
    expect(() => batchNorm(Tensor.zeros(device, [2, 4], "i32"), state(4), train)).toThrow(DTypeError);
    expect(() => batchNorm(x, { ...state(4), gamma: Tensor.ones(device, [4], "f16") }, train)).toThrow(DTypeError);
    for (const residual of [Tensor.zeros(device, [1, 3, 3, 4]), Tensor.zeros(device, [4])]) {
      expect(() => batchNorm(x, state(4), { ...train, residual })).toThrow(ShapeError);
    }
    const half = Tensor.zeros(device, [2, 3, 3, 4], "f16");
    expect(() => batchNorm(x, state(4), { ...train, residual: half, relu: true })).toThrow(DTypeError);
    expect(() => batchNorm(x, state(4), { mode: "train", momentum: 1.5 })).toThrow(ArgumentError);
    expect(() => batchNorm(x, state(4), { mode: "eval", eps: -1 })).toThrow(ArgumentError);
    const pooled = Tensor.zeros(device, [1, 1, 1, 4]);
    expect(() => batchNorm(pooled, state(4), { mode: "eval" })).not.toThrow();
    try {
      batchNorm(pooled, state(4), train);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ShapeError);
      expect((error as ShapeError).op).toBe("batchNorm");
      expect((error as ShapeError).operands.x!.shape).toEqual([1, 1, 1, 4]);
      expect((error as ShapeError).reason).toMatch(/one value per channel.*groupNorm/);
    }
  });
});
