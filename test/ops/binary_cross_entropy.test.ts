import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { binaryCrossEntropy } from "../../src/ops/binary_cross_entropy.js";
import { dispose, Tensor } from "../../src/tensor.js";
import {
  allDevices,
  checkOp,
  outputWeights,
  random,
  referenceDevice,
  relativeError,
  webgpuDevice,
} from "../harness.js";

interface Golden {
  name: string;
  shape: number[];
  logits: number[];
  targets: number[] | 0 | 1;
  weight: number[] | null;
  loss: number;
  gradient: number[];
}
const goldens: Golden[] = JSON.parse(
  readFileSync(new URL("../golden/binary_cross_entropy.json", import.meta.url), "utf8"),
);

describe("binaryCrossEntropy", () => {
  test.each(goldens)("PyTorch: $name", async ({ shape, logits, targets, weight, loss, gradient }) => {
    const [w] = outputWeights(1);
    const operands = [logits, ...(Array.isArray(targets) ? [targets] : []), ...(weight ? [weight] : [])];
    await checkOp(
      (z, ...rest) => {
        const t = Array.isArray(targets) ? rest.shift()! : targets;
        return binaryCrossEntropy(z, t, weight ? { weight: rest[0]! } : {});
      },
      operands.map((data) => ({ data, shape })),
      { wrt: [0], golden: { output: [loss], gradients: [gradient.map((g) => g * w!)] }, goldenTolerance: 1e-12 },
    );
  });

  test.each([[[]], [[1]], [[1, 1, 1, 1]], [[3, 5, 7, 1]], [[5000]]])("shape %j", async (shape) => {
    await checkOp((z) => binaryCrossEntropy(z, 1), [random(shape, 3, -6, 6)]);
    await checkOp((z, t) => binaryCrossEntropy(z, t), [random(shape, 3, -6, 6), random(shape, 4, 0, 1)], { wrt: [0] });
  });

  test("extreme logits: finite loss, and the gradient keeps its digits for either label", async () => {
    for (const device of await allDevices()) {
      for (const target of [0, 1] as const) {
        const data = [-3e38, -1e4, -90, -20, 0, 20, 90, 1e4];
        const z = Tensor.from(device, data);
        const { values, gradients } = differentiate([z], () => ({ loss: binaryCrossEntropy(z, target) }));
        const g = await gradients[0]!.data();
        const wanted = data.map((v) => (target === 0 ? 1 / (1 + Math.exp(-v)) : -1 / (1 + Math.exp(v))) / data.length);
        for (const [i, v] of wanted.entries())
          expect(Math.abs(g[i]! - v)).toBeLessThanOrEqual(1e-5 * Math.abs(v) + 1e-38);
        expect(Number.isFinite(await values.loss.item())).toBe(true);
        dispose(z, values, gradients);
      }
      const confident = Tensor.from(device, [20]);
      const loss = binaryCrossEntropy(confident, 1);
      expect(Math.abs((await loss.item()) / Math.log1p(Math.exp(-20)) - 1)).toBeLessThan(1e-5);
      const none = Tensor.zeros(device, [0, 1]);
      const zero = binaryCrossEntropy(none, 1);
      expect(await zero.item()).toBe(0);
      dispose(confident, loss, none, zero);
    }
  });

  test("gradient goes to the logits only", async () => {
    const device = referenceDevice();
    const [z, t] = [Tensor.from(device, [0.3, -1]), Tensor.from(device, [0.2, 0.9])];
    const { values, gradients } = differentiate([z, t], () => ({ loss: binaryCrossEntropy(z, t) }));
    expect([...(await gradients[1]!.data())]).toEqual([0, 0]);
    dispose(z, t, values, gradients);
  });

  test("in parts where the device binds little", async () => {
    if (!(await webgpuDevice())) return;
    const [count, limit] = [3 * 99_991, 500_000];
    const z = random([count], 3, -4, 4).data;
    const t = random([count], 4, 0, 1).data;
    const run = async (device: Tensor["device"]) => {
      const [a, b] = [Tensor.from(device, z, [3, count / 3]), Tensor.from(device, t, [3, count / 3])];
      const { values, gradients } = differentiate([a], () => ({ loss: binaryCrossEntropy(a, b, { weight: b }) }));
      const out = { loss: await values.loss.item(), gradient: await gradients[0]!.data() };
      dispose(a, b, values, gradients);
      return out;
    };
    const expected = await run(referenceDevice());
    const small = await WebGPUBackend.open({ maxBindingBytes: limit });
    try {
      const got = await run(small);
      expect(Math.abs(got.loss / expected.loss - 1)).toBeLessThan(1e-6);
      expect(relativeError(got.gradient, expected.gradient)).toBeLessThan(2e-6);
    } finally {
      small.dispose();
    }
  });

  test("errors name what is wrong", () => {
    const device = referenceDevice();
    const [z, y, wrong] = [Tensor.zeros(device, [2]), Tensor.zeros(device, [2], "u32"), Tensor.zeros(device, [3])];
    expect(() => binaryCrossEntropy(y, 0)).toThrow(DTypeError);
    expect(() => binaryCrossEntropy(z, y)).toThrow(DTypeError);
    expect(() => binaryCrossEntropy(z, wrong)).toThrow(ShapeError);
    expect(() => binaryCrossEntropy(z, 1, { weight: wrong })).toThrow(ShapeError);
    // @ts-expect-error a constant is 0 or 1
    expect(() => binaryCrossEntropy(z, 0.5)).toThrow(ArgumentError);
    dispose(z, y, wrong);
  });
});
